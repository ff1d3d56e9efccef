//! The journal as a layer of `tracing`: one entry an event, with its fields, by journald's native protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! In: events. Out: datagrams to journald's socket. `STREAM=`, `PLUGIN=`, `MODEL=` and `EVENT_ID=` are named so
//! ([`fields::JOURNAL`]); every other field of ours has `WATCHPOST_` before its name. `MESSAGE=` is the line as people
//! read it, fields included, as plain `journalctl` shows nothing else. Secrets are taken out of each value. Owned by the
//! process's subscriber. A journal that is away for the moment gets the line by standard error, if at all; one that
//! hangs holds nobody up for longer than a second.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::telemetry::{fields, secrets};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of a value that are kept: what one datagram holds is bounded.
const LONGEST: usize = 16 << 10;
const SHORT: usize = 1 << 10;

/// The layer.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The system's journal.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn system() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        // Nothing is sent by that; it fails where nobody listens.
        UnixDatagram::unbound()?.connect(path)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    fn send(&self, entry: &Entry) {
        let sent = self.socket.send_to(&entry.bytes(LONGEST), &self.path).or_else(|error| {
            match error.raw_os_error() {
                Some(libc::EMSGSIZE | libc::ENOBUFS) => self.socket.send_to(&entry.bytes(SHORT), &self.path),
                _ => Err(error),
            }
        });
        if sent.is_err() {
            eprintln!("<{}>{}", priority(entry.level), secrets::scrub(&entry.line()));
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.send(&Entry::new(event));
    }
}

/// syslog(3)'s numbers.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// What an event says.
struct Entry {
    level: Level,
    target: String,
    place: Option<(&'static str, u32)>,
    message: String,
    /// Name, and value as it is shown.
    fields: Vec<(&'static str, String)>,
}

impl Entry {
    fn new(event: &Event<'_>) -> Self {
        let about = event.metadata();
        let mut entry = Self {
            level: *about.level(),
            target: about.target().to_owned(),
            place: about.file().zip(about.line()),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut entry);
        entry
    }

    /// The line as people read it.
    fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.fields {
            let space = if line.is_empty() { "" } else { " " };
            let quoted = value.is_empty() || value.contains(char::is_whitespace);
            // Writing to a string does not fail.
            let _ = match quoted {
                true => write!(line, "{space}{name}={value:?}"),
                false => write!(line, "{space}{name}={value}"),
            };
        }
        line
    }

    /// One datagram.
    fn bytes(&self, longest: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        let mut put = |name: &str, value: &str| put(&mut bytes, name, &secrets::scrub(value), longest);
        put("PRIORITY", &priority(self.level).to_string());
        put("SYSLOG_IDENTIFIER", "watchpost");
        put("MESSAGE", &self.line());
        put("WATCHPOST_TARGET", &self.target);
        if let Some((file, line)) = self.place {
            put("CODE_FILE", file);
            put("CODE_LINE", &line.to_string());
        }
        for (name, value) in &self.fields {
            match fields::JOURNAL.iter().find(|(ours, _)| ours == name) {
                Some((_, known)) => put(known, value),
                None => put(&own_name(name), value),
            }
        }
        bytes
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "log.target" => value.clone_into(&mut self.target),
            // What else a line of the crate `log` brings is no field of anybody.
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// `retry_in` is `WATCHPOST_RETRY_IN`: capitals, digits and `_`, 64 of them at most.
fn own_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "WATCHPOST_".chars().chain(name.chars().map(fit)).take(64).collect()
}

/// `NAME=value`, or where the value has several lines, its name, its length and the value.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str, longest: usize) {
    let mut end = value.len().min(longest);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = &value[..end];
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// An entry, as journald reads it.
    fn read(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| matches!(byte, b'=' | b'\n')).unwrap();
            let name = String::from_utf8(rest[..end].to_vec()).unwrap();
            let known = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
            assert!(rest[..end].iter().all(known) && !name.starts_with('_') && name.len() <= 64, "{name}");
            let (value, after) = if rest[end] == b'=' {
                let line = rest[end + 1..].iter().position(|byte| *byte == b'\n').unwrap();
                (&rest[end + 1..end + 1 + line], end + 1 + line)
            } else {
                let length = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap()) as usize;
                (&rest[end + 9..end + 9 + length], end + 9 + length)
            };
            assert_eq!(rest[after], b'\n');
            let value = String::from_utf8(value.to_vec()).unwrap();
            assert!(found.insert(name.clone(), value).is_none(), "{name} twice");
            rest = &rest[after + 1..];
        }
        found
    }

    /// What arrives at journald's socket of what `say` says.
    fn said(say: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), say);
        socket.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut found = Vec::new();
        while let Ok(count) = socket.recv(&mut buffer) {
            found.push(read(&buffer[..count]));
        }
        found
    }

    #[test]
    fn an_entry_has_the_fields_that_people_filter_by() {
        let entries = said(|| {
            tracing::warn!(stream = %"entrance", plugin = "fights", incident = 77_012_u64, error = "no\nroom",
                retry_in = ?Duration::from_secs(2), "it goes on");
            tracing::info!(model = "people", path = "/x y");
        });
        let entry = &entries[0];
        for (name, value) in [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "watchpost"),
            ("STREAM", "entrance"),
            ("PLUGIN", "fights"),
            ("EVENT_ID", "77012"),
            ("WATCHPOST_ERROR", "no\nroom"),
            ("WATCHPOST_RETRY_IN", "2s"),
            (
                "MESSAGE",
                "it goes on stream=entrance plugin=fights incident=77012 error=\"no\\nroom\" retry_in=2s",
            ),
        ] {
            assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name}: {entry:?}");
        }
        assert!(entry["CODE_FILE"].ends_with("journal.rs") && entry["CODE_LINE"].parse::<u32>().is_ok());
        // Without a message of its own an entry still says something.
        assert_eq!(entries[1]["MESSAGE"], "model=people path=\"/x y\"");
        assert_eq!((entries[1]["MODEL"].as_str(), entries[1]["PRIORITY"].as_str()), ("people", "6"));
    }

    #[test]
    fn no_field_takes_the_place_of_one_that_the_journal_knows_and_secrets_stay_out() {
        secrets::add("xyzzy-plugh");
        let entries = said(|| {
            tracing::error!(
                priority = 0,
                message_id = "x",
                r#_pid = 1,
                syslog_identifier = "sshd",
                error = "rtsp://u:xyzzy-plugh@camera",
                "login with xyzzy-plugh"
            );
            tracing::error!(long = "é".repeat(LONGEST), "x");
        });
        let entry = &entries[0];
        assert_eq!((entry["PRIORITY"].as_str(), entry["SYSLOG_IDENTIFIER"].as_str()), ("3", "watchpost"));
        assert_eq!(entry["WATCHPOST_SYSLOG_IDENTIFIER"], "sshd");
        assert_eq!(entry["WATCHPOST_ERROR"], "rtsp://u:***@camera");
        assert!(!format!("{entry:?}").contains("xyzzy"), "{entry:?}");
        assert_eq!(entries[1]["WATCHPOST_LONG"].len(), LONGEST);
    }

    #[test]
    fn without_a_journal_there_is_no_layer() {
        assert!(Journal::at(Path::new("/nonexistent/socket")).is_err());
    }
}
