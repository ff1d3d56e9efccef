//! What leaves over MQTT, and what comes in.

mod error;
pub mod messages;
pub mod outbox;
pub mod schemas;
mod topics;

pub use error::Error;
pub use topics::{Target, Topics, Verb};
