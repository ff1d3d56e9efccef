//! The epoch: which start of the daemon this is.
//!
//! In: the state folder. Out: a number larger than that of any start before, on disk before it is used. The
//! first one is the wall clock's seconds, so that a box that was set up anew under its old name does not
//! repeat numbers that receivers have seen. Where the file cannot be written the clock's seconds are used
//! and a warning says so.

use std::path::Path;

use super::super::messages::Timestamp;
use crate::durable;

/// Makes the next epoch durable and returns it.
pub fn next(folder: &Path) -> u64 {
    let path = folder.join("epoch");
    let seconds = (Timestamp::now().0 / 1_000_000).max(1);
    let last = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let epoch = last.map_or(seconds, |last| last.saturating_add(1));
    match durable::replace(&path, format!("{epoch}\n").as_bytes(), durable::Readers::None) {
        Ok(()) => epoch,
        Err(error) => {
            let epoch = epoch.max(seconds);
            tracing::warn!(
                path = %path.display(), %error, epoch,
                "cannot store the epoch; events are numbered by the clock instead"
            );
            epoch
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_also_after_damage() {
        let folder = tempfile::tempdir().unwrap();
        let first = next(folder.path());
        assert_eq!(next(folder.path()), first + 1);
        std::fs::write(folder.path().join("epoch"), "5\n").unwrap();
        assert_eq!(next(folder.path()), 6);
        std::fs::write(folder.path().join("epoch"), "").unwrap();
        assert!(next(folder.path()) >= first);
        assert!(next(&folder.path().join("missing")) >= first);
    }
}
