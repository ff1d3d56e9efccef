//! What a dying process writes of itself, and how the next one reads it.
//!
//! In: the signal, and the slots of the sources at work. Out: lines in a file: a head, a line for each source that is
//! blamed, and an end. Written from the handler of a fatal signal: no memory is taken and no lock. A record without its
//! end is torn, and does not count: half a list of suspects would single out the wrong ones.
//!
//! ```text
//! crash {"at":1795300681482000,"signal":11,"thread":"av:h264:df0"}
//! certain {"stream":"gate","source":"9f...","decoder":"avdec_h264"}
//! end
//! ```

use serde::{Deserialize, Serialize};

use super::table::{self, LINE, Slot};

/// A stream's source, as it is remembered: the address itself is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Culprit {
    /// Name of the stream.
    pub stream: String,
    /// SHA-256 over stream and address, shortened.
    pub source: String,
    /// The decoder; empty where none was made yet.
    pub decoder: String,
}

/// A crash of an earlier life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Wall clock, microseconds since 1970.
    pub at: u64,
    /// Number of the signal.
    pub signal: i32,
    /// Name of the thread that it hit.
    pub thread: String,
    /// Whether that thread worked for the one source named; else these are suspects.
    #[serde(default)]
    pub certain: bool,
    /// Who is blamed; may be nobody.
    #[serde(default)]
    pub sources: Vec<Culprit>,
}

impl Crash {
    /// The signal's name.
    #[must_use]
    pub fn signal_name(&self) -> String {
        match self.signal {
            libc::SIGSEGV => "SIGSEGV".into(),
            libc::SIGBUS => "SIGBUS".into(),
            libc::SIGILL => "SIGILL".into(),
            libc::SIGFPE => "SIGFPE".into(),
            libc::SIGABRT => "SIGABRT".into(),
            libc::SIGTRAP => "SIGTRAP".into(),
            other => format!("signal {other}"),
        }
    }
}

/// What the handler knows of the crash.
pub(super) struct Fatal<'a> {
    pub(super) signal: i32,
    /// Name of the thread, without the zero behind it.
    pub(super) thread: &'a [u8],
    /// Wall clock, microseconds since 1970.
    pub(super) at: u64,
    /// Monotonic clock, milliseconds.
    pub(super) now: u64,
    /// For whom the thread worked.
    pub(super) owner: Owner,
}

/// For whom a thread worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The source with this slot.
    Source(usize),
    /// No source has a part in what it did.
    Nobody,
    /// It is not known.
    Unknown,
}

/// Bytes on the stack; what does not fit is left out.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        for byte in more {
            if let Some(cell) = self.bytes.get_mut(self.length) {
                *cell = *byte;
                self.length += 1;
            }
        }
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0u8; 20];
        let mut from = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            from -= 1;
            if number == 0 {
                break;
            }
        }
        self.push(digits.get(from..).unwrap_or_default());
    }

    /// What is in it so far.
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Writes the record of a crash. Safe to call in the handler of a signal, where `out` is.
pub(super) fn write(fatal: &Fatal<'_>, out: &mut dyn FnMut(&[u8])) {
    let mut head = Text::<160>::new();
    head.push(b"\ncrash {\"at\":");
    head.number(fatal.at);
    head.push(b",\"signal\":");
    head.number(u64::from(fatal.signal.unsigned_abs()));
    head.push(b",\"thread\":\"");
    for byte in fatal.thread.iter().take(32) {
        let plain = byte.is_ascii_alphanumeric() || b" :._-/+".contains(byte);
        head.push(&[if plain { *byte } else { b'?' }]);
    }
    head.push(b"\"}\n");
    out(head.get());
    match fatal.owner {
        Owner::Source(owner) => {
            if let Some(slot) = table::slot(owner) {
                name(b"certain ", slot, out);
            }
        }
        Owner::Nobody => {}
        Owner::Unknown => {
            // A decoder that has just begun is likelier to be the one than others that have long been at work.
            let young = table::taken().any(|(_, slot)| slot.is_young(fatal.now));
            let is_suspect =
                |slot: &Slot| if young { slot.is_young(fatal.now) } else { slot.is_at_work(fatal.now) };
            for (_, slot) in table::taken().filter(|(_, slot)| is_suspect(slot)) {
                name(b"suspect ", slot, out);
            }
        }
    }
    out(b"end\n");
}

fn name(how: &[u8], slot: &Slot, out: &mut dyn FnMut(&[u8])) {
    let mut text = [0; LINE];
    if let Some(length) = slot.text(&mut text) {
        let mut line = Text::<{ LINE + 16 }>::new();
        line.push(how);
        line.push(text.get(..length).unwrap_or_default());
        line.push(b"\n");
        out(line.get());
    }
}

/// Reads the whole records of a file.
pub(super) fn parse(content: &[u8]) -> Vec<Crash> {
    let mut crashes = Vec::new();
    let mut open: Option<Crash> = None;
    for line in content.split(|byte| *byte == b'\n') {
        let split = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (word, rest) = line.split_at(split);
        match word {
            b"crash" => open = serde_json::from_slice(rest).ok(),
            b"certain" | b"suspect" => {
                // A line that cannot be read spoils its record.
                open = open.zip(serde_json::from_slice(rest).ok()).map(|(mut crash, culprit)| {
                    crash.certain |= word == b"certain";
                    crash.sources.push(culprit);
                    crash
                });
            }
            b"end" => crashes.extend(open.take()),
            _ => {}
        }
    }
    crashes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far in the future: slots of other tests, which use small numbers, are neither young nor at work then.
    const NOW: u64 = 1 << 40;

    fn slot(stream: &str) -> (usize, &'static Slot) {
        let (index, slot) = table::take().unwrap();
        slot.describe(format!(r#"{{"stream":"{stream}","source":"ab","decoder":"x"}}"#).as_bytes());
        (index, slot)
    }

    fn crash(now: u64, owner: Owner) -> Crash {
        let mut written = Vec::new();
        let fatal = Fatal {
            signal: libc::SIGSEGV,
            thread: b"av:h264:\"f\xff",
            at: 1_795_300_681_482_000,
            now,
            owner,
        };
        write(&fatal, &mut |bytes| written.extend_from_slice(bytes));
        let mut crashes = parse(&written);
        assert_eq!(crashes.len(), 1, "{}", String::from_utf8_lossy(&written));
        // A torn record is none.
        assert_eq!(parse(&written[..written.len() - 2]), Vec::new());
        crashes.remove(0)
    }

    #[test]
    fn a_record_names_the_one_or_the_suspects() {
        let (first, a) = slot("a");
        let (_, b) = slot("b");
        let (_, c) = slot("c");
        let streams = |crash: &Crash| crash.sources.iter().map(|s| s.stream.clone()).collect::<Vec<_>>();

        let certain = crash(NOW, Owner::Source(first));
        assert_eq!((certain.at, certain.thread.as_str()), (1_795_300_681_482_000, "av:h264:?f?"));
        assert!(certain.certain && streams(&certain) == ["a"] && certain.signal_name() == "SIGSEGV");

        // Nobody decodes: nobody is blamed.
        let nobody = crash(NOW, Owner::Unknown);
        assert!(!nobody.certain && nobody.sources.is_empty());
        // All decode for long; two of them just now.
        for slot in [a, b, c] {
            slot.begin(NOW - 100_000);
        }
        a.packet(NOW - 50);
        b.packet(NOW - 5);
        c.packet(NOW - 5000);
        let suspects = crash(NOW, Owner::Unknown);
        assert!(!suspects.certain);
        assert_eq!(streams(&suspects), ["a", "b"]);
        // One has just begun.
        c.begin(NOW - 100);
        assert_eq!(streams(&crash(NOW, Owner::Unknown)), ["c"]);
        // Where no source has a part in it, none is suspected.
        assert_eq!(streams(&crash(NOW, Owner::Nobody)), Vec::<String>::new());
        for slot in [a, b, c] {
            slot.free();
        }
    }

    #[test]
    fn whole_records_are_found_among_torn_ones() {
        let text = "nonsense\ncrash {\"at\":1,\"signal\":11,\"thread\":\"a\"}\nsuspect {\"stre\
                    \ncrash {\"at\":2,\"signal\":6,\"thread\":\"b\"}\nend\n\ncrash {\"at\":3,\"signal\":6,\"thread\":\"c\"}\n";
        let found = parse(text.as_bytes());
        assert_eq!(found.iter().map(|crash| crash.at).collect::<Vec<_>>(), [2]);
    }
}
