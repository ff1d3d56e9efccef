//! How the daemon is a good service: systemd's notifications and watchdog, signals, logging, the memory of crashes, the
//! version of its state.
//!
//! In: what `app` knows of its state; signals. Out: messages to systemd, [`Signal`]s, log lines. `app` owns
//! all of it. Without systemd the notifications go nowhere, which is no error.

pub mod crash;
pub mod logging;
mod notify;
mod pipe;
mod signals;
pub mod state;
mod vitals;
mod watchdog;

pub use notify::{Notifier, Phase};
pub use pipe::end_with_the_reader;
pub use signals::{Signal, Signals};
pub use vitals::Vitals;
pub use watchdog::Watchdog;
