//! What can go wrong in this room before it runs. Afterwards nothing is an error: it is logged, counted and
//! said in the status, and tried again.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the publisher cannot start, or its settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `mqtt.url` cannot be used.
    #[error(
        "mqtt.url = \"{url}\": {problem}; expected mqtt://HOST[:PORT], mqtts://HOST[:PORT], embedded or off"
    )]
    Url {
        /// As configured, without credentials.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `mqtt.listen` cannot be used.
    #[error("mqtt.listen = \"{0}\" is no address; expected ADDRESS:PORT, such as 127.0.0.1:1883")]
    Listen(String),
    /// A file that `mqtt` names cannot be used.
    #[error("{key} = {path}: {problem}")]
    File {
        /// Key in the configuration.
        key: &'static str,
        /// Path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A password without a user name.
    #[error("mqtt.password_file is set and mqtt.username is not; a broker takes a password only with a name")]
    NoUser,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// Another daemon uses the state folder.
    #[error("another watchpost uses {0}; stop it, or give this one a paths.state of its own")]
    InUse(PathBuf),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The embedded broker's address is taken or not of this machine.
    #[error(
        "the embedded broker cannot listen on {listen}: {source}; set mqtt.listen, or mqtt.url if a broker is there"
    )]
    BrokerListen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded broker ended at once.
    #[error("the embedded broker does not start on {0}")]
    Broker(SocketAddr),
}

impl Error {
    /// The key in the configuration that it is about, where it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        match self {
            Self::Url { .. } => Some("mqtt.url"),
            Self::Listen(_) | Self::BrokerListen { .. } => Some("mqtt.listen"),
            Self::File { key, .. } => Some(key),
            Self::NoUser => Some("mqtt.password_file"),
            Self::Tls(_) => Some("mqtt.ca_file"),
            Self::InUse(_) | Self::Thread(_) | Self::Broker(_) => None,
        }
    }
}
