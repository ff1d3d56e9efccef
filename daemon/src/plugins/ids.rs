//! Ids that are never given twice on a box, over restarts and `kill -9`.
//!
//! In: [`Ids::take`] from any thread. Out: numbers from 1 up. Owned by the host. A block is reserved in a file
//! before any of it is given out; where that fails, no id is given once the block is used up. A clean end
//! writes back what was not used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::durable;

/// Ids reserved at once.
const BLOCK: u64 = 1 << 16;

/// Gives ids.
#[derive(Debug)]
pub struct Ids {
    /// `None`: for a check outside the daemon, whose ids mean nothing.
    path: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    reserved: u64,
}

impl Ids {
    /// Goes on where the file says.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or holds no number: guessing could give an id twice.
    pub fn open(path: &Path) -> io::Result<Self> {
        let next = match fs::read_to_string(path) {
            Ok(text) => text.trim().parse::<u64>().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} holds no number; write one above every id ever seen", path.display()),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        let reserved = next + BLOCK;
        durable::replace(path, reserved.to_string().as_bytes(), durable::Readers::None)?;
        Ok(Self { path: Some(path.to_owned()), inner: Mutex::new(Inner { next: next.max(1), reserved }) })
    }

    /// Ids that mean nothing outside this process.
    pub(super) fn passing() -> Self {
        Self::passing_from(1)
    }

    /// As [`Ids::passing`], from a number on.
    pub(super) fn passing_from(first: u64) -> Self {
        Self { path: None, inner: Mutex::new(Inner { next: first, reserved: first }) }
    }

    /// An id never given before.
    ///
    /// # Errors
    /// Where the next block cannot be reserved.
    pub fn take(&self) -> io::Result<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.next >= inner.reserved {
            let reserved = inner.reserved + BLOCK;
            if let Some(path) = &self.path {
                durable::replace(path, reserved.to_string().as_bytes(), durable::Readers::None)?;
            }
            inner.reserved = reserved;
        }
        inner.next += 1;
        Ok(inner.next - 1)
    }

    /// Whether this id was given, now or in an earlier life.
    pub(super) fn was_given(&self, id: u64) -> bool {
        id != 0 && id < self.inner.lock().unwrap_or_else(PoisonError::into_inner).next
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        let next = self.inner.lock().unwrap_or_else(PoisonError::into_inner).next;
        let Some(path) = &self.path else { return };
        if let Err(error) = durable::replace(path, next.to_string().as_bytes(), durable::Readers::None) {
            tracing::debug!(path = %path.display(), %error, "the rest of a block of ids is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let first = Ids::open(&path).unwrap();
        let mut last = 0;
        for _ in 0..BLOCK + 10 {
            let id = first.take().unwrap();
            assert!(id > last);
            last = id;
        }
        assert!(first.was_given(last) && !first.was_given(last + 1) && !first.was_given(0));
        // As after `kill -9`: nothing is written back, and the next life starts above the whole block.
        let reserved = fs::read(&path).unwrap();
        drop(first);
        fs::write(&path, reserved).unwrap();
        let second = Ids::open(&path).unwrap();
        let id = second.take().unwrap();
        assert!(id > last);
        // A clean end loses nothing.
        drop(second);
        assert_eq!(Ids::open(&path).unwrap().take().unwrap(), id + 1);
    }

    #[test]
    fn a_spoiled_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        fs::write(&path, "many").unwrap();
        assert!(Ids::open(&path).unwrap_err().to_string().contains("holds no number"));
    }
}
