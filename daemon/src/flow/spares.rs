//! Memory that comes back: what one frame is done with, the next one uses.
//!
//! In: a value whose last user lets it go. Out: the same value, for whoever asks next. A frame's tensor is megabytes;
//! fresh from the allocator they are pages that the kernel has to clear, which takes longer than preprocessing.
//! Owned by those who make the values; nothing here fails, and what is lent may outlive its owner.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Values kept for later at most: a burst of frames in flight does not hold its memory for ever.
const KEPT: usize = 2;

/// A value whose memory is worth keeping.
pub trait Recycle: Default {
    /// Lets go of what is not its own; called when it comes back.
    fn recycle(&mut self) {}
}

impl Recycle for super::Tensor {}

/// Where values come back to.
#[derive(Debug, Default)]
pub struct Spares<T>(Arc<Mutex<Vec<T>>>);

impl<T: Recycle> Spares<T> {
    /// A value that was used before, as its last user left it, or a new one.
    #[must_use]
    pub fn lend(&self) -> Lent<T> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { value: spare.unwrap_or_default(), home: Some(Arc::clone(&self.0)) }
    }
}

/// A value that goes back where it came from when it is dropped.
#[derive(Debug)]
pub struct Lent<T: Recycle> {
    value: T,
    home: Option<Arc<Mutex<Vec<T>>>>,
}

impl<T: Recycle> From<T> for Lent<T> {
    /// A value that goes nowhere: dropping it frees it.
    fn from(value: T) -> Self {
        Self { value, home: None }
    }
}

impl<T: Recycle> Drop for Lent<T> {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        let mut value = std::mem::take(&mut self.value);
        value.recycle();
        let mut home = home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.len() < KEPT {
            home.push(value);
            return;
        }
        // Freed outside the lock.
        drop(home);
        drop(value);
    }
}

impl<T: Recycle> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Recycle> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Recycle + PartialEq> PartialEq for Lent<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Recycle for Vec<u8> {}

    #[test]
    fn memory_comes_back_and_not_more_than_is_kept() {
        let spares = Spares::<Vec<u8>>::default();
        let mut first = spares.lend();
        first.reserve_exact(1000);
        let (address, _other) = (first.as_ptr(), spares.lend());
        drop(first);
        let again = spares.lend();
        assert_eq!((again.as_ptr(), again.capacity()), (address, 1000));
        drop([spares.lend(), spares.lend(), spares.lend(), again]);
        assert_eq!(spares.0.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn what_is_lent_may_outlive_its_owner() {
        let spares = Spares::<Vec<u8>>::default();
        let lent = spares.lend();
        drop(spares);
        drop(lent);
        drop(Lent::from(vec![1_u8]));
    }
}
