//! Guesses which known word a mistyped one was meant to be.

/// The known word that differs in the fewest letters, if it is close enough to be a guess.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let close = |name: &&'a str| {
        let distance = distance(word, name);
        (distance <= allowed && distance < name.chars().count()).then_some((distance, *name))
    };
    known.iter().filter_map(close).min().map(|(_, name)| name)
}

/// Longer words are not compared: no known word is nearly as long.
const WORD_CHARS_MAX: usize = 64;

/// How many letters must be added, removed, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(WORD_CHARS_MAX).collect();
    let to: Vec<char> = to.chars().take(WORD_CHARS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = row[j] + usize::from(a != b);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["address", "host_key", "tags", "user", "port"];
        assert_eq!(nearest("adress", &known), Some("address"));
        assert_eq!(nearest("hostkey", &known), Some("host_key"));
        assert_eq!(nearest("tgas", &known), Some("tags"));
        assert_eq!(nearest("nonsense", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
