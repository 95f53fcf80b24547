//! Who switches together. Pure.

use crate::inventory::Wave;
use crate::name::HostName;

/// Cuts `hosts`, in their order, into waves. Each size says how many hosts have switched once its
/// wave has: a count, or a share of all of `hosts` rounded up. A size that adds no host makes no
/// wave; what the sizes leave over is one last wave.
pub fn waves(sizes: &[Wave], hosts: &[HostName]) -> Vec<Vec<HostName>> {
    let mut cut = Vec::new();
    let mut done = 0;
    let all = Wave::Percent(100);
    for size in sizes.iter().chain([&all]) {
        let until = reached(*size, hosts.len());
        if until > done {
            cut.push(hosts[done..until].to_vec());
            done = until;
        }
    }
    cut
}

/// How many of `total` hosts have switched after a wave of this size.
fn reached(size: Wave, total: usize) -> usize {
    let reached = match size {
        Wave::Hosts(count) => usize::try_from(count).unwrap_or(usize::MAX),
        Wave::Percent(share) => total.saturating_mul(usize::from(share)).div_ceil(100),
    };
    reached.min(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(count: usize) -> Vec<HostName> {
        (0..count)
            .map(|number| format!("h{number:04}").parse().unwrap())
            .collect()
    }

    fn sizes(waves: &[Wave], count: usize) -> Vec<usize> {
        super::waves(waves, &hosts(count))
            .iter()
            .map(Vec::len)
            .collect()
    }

    #[test]
    fn a_size_says_how_many_have_switched_after_its_wave() {
        use Wave::{Hosts, Percent};
        let usual = [Hosts(1), Percent(25), Percent(100)];
        let golden: &[(&[Wave], usize, &[usize])] = &[
            (&usual, 0, &[]),
            (&usual, 1, &[1]),
            (&usual, 2, &[1, 1]),
            (&usual, 3, &[1, 2]),
            (&usual, 4, &[1, 3]),
            (&usual, 5, &[1, 1, 3]),
            (&usual, 8, &[1, 1, 6]),
            (&usual, 10, &[1, 2, 7]),
            (&usual, 100, &[1, 24, 75]),
            (&[], 4, &[4]),
            (&[Percent(100)], 4, &[4]),
            (&[Percent(1)], 4, &[1, 3]),
            (&[Percent(33)], 3, &[1, 2]),
            (&[Percent(34)], 3, &[2, 1]),
            (&[Hosts(2), Hosts(1)], 4, &[2, 2]),
            (&[Hosts(2), Hosts(2)], 4, &[2, 2]),
            (&[Hosts(9)], 4, &[4]),
            (&[Hosts(0)], 4, &[4]),
            (&[Percent(50), Hosts(3)], 4, &[2, 1, 1]),
            (&[Hosts(u32::MAX)], 3, &[3]),
            (&[Percent(255)], 3, &[3]),
        ];
        for (waves, count, expected) in golden {
            assert_eq!(sizes(waves, *count), *expected, "{waves:?} of {count}");
        }
    }

    proptest! {
        #[test]
        fn every_host_is_in_exactly_one_wave_in_its_order(
            shares in prop::collection::vec(any::<u8>(), 0..6),
            counts in prop::collection::vec(0..50u32, 0..6),
            count in 0..200usize,
        ) {
            let sizes: Vec<Wave> = shares.into_iter().map(Wave::Percent)
                .chain(counts.into_iter().map(Wave::Hosts)).collect();
            let all = hosts(count);
            let cut = super::waves(&sizes, &all);
            prop_assert!(cut.iter().all(|wave| !wave.is_empty()));
            prop_assert_eq!(cut.concat(), all);
        }
    }
}
