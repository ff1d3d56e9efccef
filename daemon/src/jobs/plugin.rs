//! `watchpost plugin check`, `watchpost plugin replay` and `watchpost plugin new`.
//!
//! In: arguments, already parsed. Out: what is known of a component and what it makes of a trace, as text or JSON; a new
//! crate. None needs a running daemon or touches its folders.

pub mod check;
pub mod new;
pub mod replay;

pub use check::{CheckArgs, check};
pub use new::{NewArgs, new};
pub use replay::ReplayArgs;
