//! A component that is no plugin: it exports nothing.

/// Something, so that it is not empty.
#[must_use]
pub fn answer() -> u32 {
    42
}
