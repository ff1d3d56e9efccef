//! The largest number for which something holds, by doubling and then halving.
//!
//! In: a test of a number, which holds up to some number and not beyond it; a bound. Out: the largest at which it held and
//! the smallest at which it did not. Each number is tested once. Fails as the test does.

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The largest number that held; 0: not even one did.
    pub(super) good: usize,
    /// The smallest that did not; `None`: the bound held.
    pub(super) bad: Option<usize>,
}

/// Tests 1, 2, 4, ... up to `most`, then between the last that held and the first that did not.
pub(super) fn search<E>(most: usize, mut holds: impl FnMut(usize) -> Result<bool, E>) -> Result<Found, E> {
    let mut found = Found { good: 0, bad: None };
    while found.good < most && found.bad.is_none() {
        let next = (found.good * 2).clamp(1, most);
        match holds(next)? {
            true => found.good = next,
            false => found.bad = Some(next),
        }
    }
    while let Some(bad) = found.bad
        && bad - found.good > 1
    {
        let next = found.good + (bad - found.good) / 2;
        match holds(next)? {
            true => found.good = next,
            false => found.bad = Some(next),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_and_no_number_is_tested_twice() {
        for most in [1, 7, 64] {
            for limit in 0..80 {
                let mut tested = Vec::new();
                let found = search::<()>(most, |n| {
                    tested.push(n);
                    Ok(n <= limit)
                });
                let bad = (limit < most).then_some(limit + 1);
                assert_eq!(found, Ok(Found { good: limit.min(most), bad }), "{limit} of {most}");
                let all = tested.len();
                tested.sort_unstable();
                tested.dedup();
                assert!(tested.len() == all && all <= 13, "{limit} of {most}: {tested:?}");
            }
        }
    }

    #[test]
    fn a_test_that_fails_ends_it() {
        assert_eq!(search(8, |n| if n < 4 { Ok(true) } else { Err("stopped") }), Err("stopped"));
    }
}
