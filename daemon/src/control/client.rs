//! The command line's end of the control socket.
//!
//! In: a command and its arguments. Out: the daemon's answer. Plain blocking calls with a deadline; every
//! error says what to do.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Error;
use super::protocol::{ControlRequest, LONGEST, Response};

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon that listens on `path`.
    ///
    /// # Errors
    /// Where none does, or this user may not.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream) }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Error::Denied(path.to_owned())),
            Err(_) => Err(Error::NotRunning(path.to_owned())),
        }
    }

    /// Sends a command and waits for its answer, for at most `timeout` (at least a millisecond).
    ///
    /// # Errors
    /// Where the daemon says no, does not answer in time, or goes away.
    pub fn call(&mut self, command: &str, arguments: Value, timeout: Duration) -> Result<Value, Error> {
        let broken = |source: std::io::Error| match source.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Error::Timeout { command: command.to_owned(), seconds: timeout.as_secs() }
            }
            _ => Error::Broken { command: command.to_owned(), source },
        };
        let problem = |problem: String| Error::Protocol { command: command.to_owned(), problem };
        let limit = Some(timeout.max(Duration::from_millis(1)));
        let stream = self.stream.get_mut();
        stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)).map_err(broken)?;
        let request = ControlRequest { command: command.to_owned(), arguments };
        let mut line = serde_json::to_vec(&request).map_err(|error| problem(error.to_string()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(broken)?;
        let mut answer = Vec::new();
        (&mut self.stream).take(LONGEST).read_until(b'\n', &mut answer).map_err(broken)?;
        if !answer.ends_with(b"\n") {
            return Err(broken(ErrorKind::UnexpectedEof.into()));
        }
        let response: Response =
            serde_json::from_slice(&answer).map_err(|error| problem(error.to_string()))?;
        match response {
            Response { ok: true, result, .. } => Ok(result),
            Response { error, configuration, .. } => {
                let text = error.unwrap_or_else(|| "it failed".into());
                Err(if configuration { Error::Configuration(text) } else { Error::Answer(text) })
            }
        }
    }
}
