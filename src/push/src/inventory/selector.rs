//! Which hosts: `web`, `web1`, `all`, `!web2`, several with commas.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::Host;
use crate::name::{HostName, TagName};

/// The most words a selector may have.
pub const WORDS_MAX: usize = 256;

/// The longest word of a selector, in bytes.
const WORD_BYTES_MAX: usize = 128;

/// How many names a message lists at most.
const LISTED_MAX: usize = 20;

/// Words that select hosts. A word is a host's name, a tag, a pattern over names (`web*`), or
/// `all`; `@` before it means a tag only; `!` before it takes away. Words that add are added up
/// first; a selector of nothing but `!` words starts from all hosts.
#[derive(Debug, Clone)]
pub struct Selector {
    words: Vec<Word>,
}

#[derive(Debug, Clone)]
struct Word {
    text: String,
    sense: Sense,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Add,
    Remove,
}

#[derive(Debug, Clone)]
enum Kind {
    All,
    Tag,
    NameOrTag,
    Pattern(GlobMatcher),
}

/// Why a selector selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No word at all.
    #[error("a selector needs at least one word")]
    Empty,
    /// Too many words.
    #[error("a selector has at most {WORDS_MAX} words")]
    TooMany,
    /// A word that can be neither a name nor a tag nor a pattern.
    #[error("{word:?} is neither a host, a tag nor a pattern")]
    Word {
        /// The word, shortened.
        word: String,
    },
    /// No host and no tag is called so.
    #[error("no host and no tag is called {word:?}{}", nearest(.word, .known))]
    Unknown {
        /// The word.
        word: String,
        /// What exists.
        known: Vec<String>,
    },
    /// A host and a tag have the same name.
    #[error("{word:?} is both the host {word} and a tag of {}", .tagged.join(", "))]
    Ambiguous {
        /// The word.
        word: String,
        /// The hosts with the tag.
        tagged: Vec<String>,
    },
    /// Every word is known, yet no host is left.
    #[error("{selector:?} selects no host")]
    Nothing {
        /// The selector.
        selector: String,
        /// What exists.
        known: Vec<String>,
    },
}

impl SelectorError {
    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Empty | Self::TooMany | Self::Word { .. } => {
                "write hosts and tags, such as \"web\", \"web1,web2\" or \"web,!web2\"".to_owned()
            }
            Self::Unknown { known, .. } | Self::Nothing { known, .. } => {
                format!("these exist: {}", known.join(", "))
            }
            Self::Ambiguous { word, .. } => {
                format!("write \"@{word}\" for the tag, or rename the host or the tag")
            }
        }
    }
}

fn nearest(word: &str, known: &[String]) -> String {
    let bare: Vec<&str> = known
        .iter()
        .map(|name| name.trim_start_matches('@'))
        .collect();
    match super::nearest::nearest(word, &bare) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => String::new(),
    }
}

impl Selector {
    /// Every host.
    pub fn all() -> Self {
        Self {
            words: vec![Word {
                text: "all".to_owned(),
                sense: Sense::Add,
                kind: Kind::All,
            }],
        }
    }

    /// Reads a list of selectors, each of which may hold commas, as if they were one.
    pub fn parse_list<S: AsRef<str>>(texts: &[S]) -> Result<Self, SelectorError> {
        let words = texts
            .iter()
            .flat_map(|text| text.as_ref().split(','))
            .map(|word| word.trim_matches(' '))
            .filter(|word| !word.is_empty());
        let words = words
            .take(WORDS_MAX + 1)
            .map(Word::parse)
            .collect::<Result<Vec<_>, _>>()?;
        match words.len() {
            0 => Err(SelectorError::Empty),
            1..=WORDS_MAX => Ok(Self { words }),
            _ => Err(SelectorError::TooMany),
        }
    }

    /// The hosts among `hosts` that are selected; at least one.
    pub(super) fn among(
        &self,
        hosts: &BTreeMap<HostName, Host>,
    ) -> Result<BTreeSet<HostName>, SelectorError> {
        let adds = self.words.iter().any(|word| word.sense == Sense::Add);
        let mut selected: BTreeSet<HostName> = if adds {
            BTreeSet::new()
        } else {
            hosts.keys().cloned().collect()
        };
        for word in self.words.iter().filter(|word| word.sense == Sense::Add) {
            selected.extend(word.matching(hosts)?);
        }
        for word in self.words.iter().filter(|word| word.sense == Sense::Remove) {
            for host in word.matching(hosts)? {
                selected.remove(&host);
            }
        }
        if selected.is_empty() {
            Err(SelectorError::Nothing {
                selector: self.to_string(),
                known: known(hosts),
            })
        } else {
            Ok(selected)
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse_list(&[text])
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<&str> = self.words.iter().map(|word| word.text.as_str()).collect();
        f.write_str(&words.join(","))
    }
}

impl Word {
    fn parse(text: &str) -> Result<Self, SelectorError> {
        let (sense, name) = match text.strip_prefix('!') {
            Some(rest) => (Sense::Remove, rest),
            None => (Sense::Add, text),
        };
        let refused = || SelectorError::Word {
            word: text.chars().take(WORD_BYTES_MAX).collect(),
        };
        let kind = match name.strip_prefix('@') {
            _ if text.len() > WORD_BYTES_MAX => return Err(refused()),
            Some(tag) if tag.parse::<TagName>().is_ok() => Kind::Tag,
            None if name == "all" => Kind::All,
            None if name.contains(['*', '?']) => Kind::Pattern(pattern(name).ok_or_else(refused)?),
            None if name.parse::<HostName>().is_ok() || name.parse::<TagName>().is_ok() => {
                Kind::NameOrTag
            }
            Some(_) | None => return Err(refused()),
        };
        Ok(Self {
            text: text.to_owned(),
            sense,
            kind,
        })
    }

    fn name(&self) -> &str {
        self.text.trim_start_matches(['!', '@'])
    }

    fn matching(&self, hosts: &BTreeMap<HostName, Host>) -> Result<Vec<HostName>, SelectorError> {
        let tagged = || {
            hosts
                .values()
                .filter(|host| host.tags.contains(self.name()))
        };
        let named = hosts.get(self.name());
        let found: Vec<HostName> = match &self.kind {
            Kind::All => hosts.keys().cloned().collect(),
            Kind::Pattern(glob) => hosts
                .keys()
                .filter(|name| glob.is_match(name.as_str()))
                .cloned()
                .collect(),
            Kind::Tag => tagged().map(|host| host.name.clone()).collect(),
            Kind::NameOrTag => {
                let others: Vec<String> = tagged().map(|host| host.name.to_string()).collect();
                match named {
                    // A host that alone carries its own name as a tag means the same either way.
                    Some(host) if !others.is_empty() && others != [host.name.as_str()] => {
                        return Err(SelectorError::Ambiguous {
                            word: self.name().to_owned(),
                            tagged: others,
                        });
                    }
                    Some(host) => vec![host.name.clone()],
                    None => tagged().map(|host| host.name.clone()).collect(),
                }
            }
        };
        match (found.is_empty(), &self.kind) {
            (true, Kind::Tag | Kind::NameOrTag) => Err(SelectorError::Unknown {
                word: self.name().to_owned(),
                known: known(hosts),
            }),
            (_, Kind::All | Kind::Pattern(_) | Kind::Tag | Kind::NameOrTag) => Ok(found),
        }
    }
}

fn pattern(text: &str) -> Option<GlobMatcher> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*?".contains(c);
    if !text.chars().all(plain) {
        return None;
    }
    GlobBuilder::new(text)
        .build()
        .ok()
        .map(|glob| glob.compile_matcher())
}

/// Hosts and tags, for messages.
fn known(hosts: &BTreeMap<HostName, Host>) -> Vec<String> {
    let tags: BTreeSet<&TagName> = hosts.values().flat_map(|host| &host.tags).collect();
    let names = hosts.keys().map(HostName::to_string);
    let mut known: Vec<String> = names
        .chain(tags.iter().map(|tag| format!("@{tag}")))
        .collect();
    let more = known.len().saturating_sub(LISTED_MAX);
    known.truncate(LISTED_MAX);
    if more > 0 {
        known.push(format!("and {more} more"));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Login;

    fn hosts(hosts: &[(&str, &[&str])]) -> BTreeMap<HostName, Host> {
        let host = |(name, tags): &(&str, &[&str])| Host {
            name: name.parse().unwrap(),
            address: name.parse().unwrap(),
            login: Login {
                user: None,
                port: None,
                identity: None,
                jump: Vec::new(),
            },
            host_keys: Vec::new(),
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            vars: BTreeMap::new(),
        };
        hosts
            .iter()
            .map(host)
            .map(|host| (host.name.clone(), host))
            .collect()
    }

    fn select(text: &str) -> Result<String, String> {
        let hosts = hosts(&[
            ("web1", &["web", "eu"]),
            ("web2", &["web"]),
            ("db1", &["eu"]),
            ("eu-gw", &[]),
        ]);
        let selector: Selector = text
            .parse()
            .map_err(|error: SelectorError| error.to_string())?;
        let names = selector.among(&hosts).map_err(|error| error.to_string())?;
        Ok(names
            .iter()
            .map(HostName::as_str)
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn words_add_up_and_a_mark_takes_away() {
        assert_eq!(select("web").as_deref(), Ok("web1 web2"));
        assert_eq!(select("web, db1").as_deref(), Ok("db1 web1 web2"));
        assert_eq!(select("web,!web2").as_deref(), Ok("web1"));
        assert_eq!(
            select("!web2,web").as_deref(),
            Ok("web1"),
            "the order of words does not matter"
        );
        assert_eq!(select("!web").as_deref(), Ok("db1 eu-gw"));
        assert_eq!(select("all,!@eu").as_deref(), Ok("eu-gw web2"));
        assert_eq!(select("web*").as_deref(), Ok("web1 web2"));
    }

    #[test]
    fn selecting_nothing_is_an_error_that_says_why() {
        assert_eq!(
            select("wbe1"),
            Err("no host and no tag is called \"wbe1\"; did you mean \"web1\"?".to_owned())
        );
        assert_eq!(
            select("web1,!web"),
            Err("\"web1,!web\" selects no host".to_owned())
        );
        assert_eq!(select("mail*"), Err("\"mail*\" selects no host".to_owned()));
        assert!(select("").is_err());
        assert!(select(" , ").is_err());
        for hostile in [
            "a/b", "[", "{a,b}", "**/x", "a b", "\u{1b}", "@", "!", "!!web",
        ] {
            assert!(select(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn a_word_that_is_a_host_and_a_tag_is_refused() {
        let hosts = hosts(&[("web", &[]), ("web2", &["web"])]);
        let error = "web"
            .parse::<Selector>()
            .unwrap()
            .among(&hosts)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"web\" is both the host web and a tag of web2"
        );
        assert!("@web".parse::<Selector>().unwrap().among(&hosts).is_ok());
    }
}
