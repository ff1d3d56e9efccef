//! Tables on their way to the GPU: one block of bytes that goes there in one copy.
//!
//! In: numbers and structs without padding. Out: their bytes, each list at an offset that the device's alignment allows.
//! Owned by whoever makes the tables. Nothing fails.
//!
//! This is the one place where values are looked at as bytes; which types may be is settled by [`Plain`].
#![allow(unsafe_code)]

/// Keeps [`Plain`] to types that this crate has checked.
pub(super) mod sealed {
    /// See [`super::Plain`].
    pub trait Sealed {}
}

/// Numbers, and structs of C's layout without padding: all their bytes are set.
pub trait Plain: Copy + 'static + sealed::Sealed {}

macro_rules! plain {
    ($($type:ty),*) => { $(impl sealed::Sealed for $type {} impl Plain for $type {})* };
}

plain!(u8, u16, u32, u64, i16, i32, f32, half::f16);

/// The bytes of values, in the machine's order (which is the GPU's: little-endian).
#[must_use]
pub fn bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the slice is valid for its own length in bytes, `u8` has no alignment and no invalid values, and `Plain`,
    // which only this module and the checked structs of `params` implement, means that no byte is padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Lists one after another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    bytes: Vec<u8>,
}

/// Every list begins at a multiple of this, which is enough for every type here, and for wide loads.
const ALIGNMENT: usize = 16;

impl Block {
    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends a list; gives how far from the block's beginning it lies.
    pub fn push<T: Plain>(&mut self, values: &[T]) -> u64 {
        let start = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(bytes(values));
        start as u64
    }

    /// What to copy to the device, to an address that is a multiple of 16.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_aligned_and_follow_each_other() {
        let mut block = Block::default();
        assert_eq!(block.push(&[1u8, 2, 3]), 0);
        assert_eq!(block.push(&[1.0f32, -0.5]), 16);
        assert_eq!(block.push(&[0x0102_i16]), 32);
        assert_eq!(block.bytes().len(), 34);
        assert_eq!(&block.bytes()[16..24], &[0, 0, 128, 63, 0, 0, 0, 191]);
        assert_eq!(&block.bytes()[32..], &[2, 1]);
        block.clear();
        assert_eq!(block.push::<u32>(&[]), 0);
    }
}
