//! `watchpost plugin check` and `watchpost plugin new`.
//!
//! In: arguments, already parsed. Out: what is known of a component, as text or JSON; a new crate. Neither
//! needs a running daemon nor touches its folders.

pub mod check;
pub mod new;

pub use check::{CheckArgs, check};
pub use new::{NewArgs, new};
