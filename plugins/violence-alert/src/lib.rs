//! Plugin `violence-alert`: from scores of clip models and tracked people to incidents.
//!
//! In: scores of the labels that mean violence, tracked people, signals. Out: begin, update and end of
//! incidents, and the state `active`. The core is [`Alerts`], plain Rust that also runs natively. Owned by
//! the host, one instance a stream.

mod alerts;
pub mod baseline;
mod config;
mod people;
mod place;
mod plugin;
#[cfg(test)]
mod tests;

pub use alerts::Alerts;
pub use config::Config;
pub use people::{Involved, People, Person};
pub use place::{Alert, Place, Reason, Score, Severity, Step, TRACE, severity};
pub use plugin::ViolenceAlert;
