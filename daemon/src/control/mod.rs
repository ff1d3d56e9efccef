//! The control socket: how `watchpost status`, `reload` and `plugin list` talk to the daemon.
//!
//! In: one JSON object a line on a unix socket, `{"command":"status","arguments":{}}`. Out: one line each,
//! `{"ok":true,"result":...}` or `{"ok":false,"error":"..."}`. `app` owns the [`Server`] and answers through
//! [`Handler`]; the command line uses [`Client`]. The socket is for its user and group only (0660). A second
//! daemon is refused, a socket left by one that was killed is replaced, a client without a daemon is told how
//! to find out why.

mod client;
mod protocol;
mod server;

use std::path::{Path, PathBuf};

pub use client::Client;
pub use protocol::{ControlRequest, Refusal};
pub use server::{Answer, Handler, Server};

/// Where the socket is, below `paths.run`.
#[must_use]
pub fn socket(run: &Path) -> PathBuf {
    run.join("control.sock")
}

/// What can go wrong with the control socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon has the socket.
    #[error("watchpost is already running (it has {0}); stop it, or give this one a paths.run of its own")]
    AlreadyRunning(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on the control socket {path}: {source}; see paths.run")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody listens.
    #[error("watchpost does not answer on {0}: is it running? See: systemctl status watchpost")]
    NotRunning(PathBuf),
    /// No permission.
    #[error("no permission for {0}: run this as root, or as a user in the group of watchpost")]
    Denied(PathBuf),
    /// No answer in time.
    #[error("watchpost did not answer \"{command}\" within {seconds} s; see: journalctl -u watchpost")]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection broke.
    #[error("the connection to watchpost broke during \"{command}\": {source}")]
    Broken {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// The answer makes no sense; a different version, perhaps.
    #[error(
        "watchpost's answer to \"{command}\" cannot be read: {problem}; is the daemon of another version?"
    )]
    Protocol {
        /// The command.
        command: String,
        /// What is wrong.
        problem: String,
    },
    /// The daemon says no.
    #[error("{0}")]
    Answer(String),
    /// The daemon says that its configuration is wrong.
    #[error("{0}")]
    Configuration(String),
}

#[cfg(test)]
mod tests;
