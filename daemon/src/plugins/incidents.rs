//! Open incidents, kept by the host so that each one ends: also when its plugin, stream or box goes away.
//!
//! In: the events of a stream's plugins. Out: those that are in order, and an end for what is left open. One
//! ledger a stream, owned by its row: an append-only file of JSON lines under `state/incidents`, flushed to
//! disk at each begin and end. Where the disk fails, the events still go out, and the log says what is lost:
//! their end after a `kill -9`.
//!
//! A begin is on disk before it goes out. An end is written only at the next call, when the event had time to
//! reach the outbox: a crash in between ends the incident twice rather than never.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::Ids;
use crate::durable;
use crate::flow::{Change, Event, Rect, Severity};

/// Incidents that one entry may have open.
const OPEN: usize = 256;
/// Ended incidents that are remembered, to refuse a second begin.
const ENDED: usize = 4096;
/// Size at which the file is written anew.
const COMPACT: u64 = 256 << 10;

/// A step of an incident, with who made it.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginEvent {
    /// The entry.
    pub entry: String,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The step.
    pub event: Event,
}

/// An incident that was open when the box or the daemon went away, with the end that it is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Orphan {
    /// The stream.
    pub stream: String,
    /// Its end, with `{"reason": "restart"}` as data.
    pub end: PluginEvent,
}

/// An open incident, as it stands in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Open {
    #[serde(default)]
    stream: String,
    entry: String,
    plugin: String,
    version: String,
    incident: u64,
    kind: String,
    severity: Severity,
    tracks: Vec<u64>,
    region: Option<Rect>,
    score: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Begin(Open),
    End(u64),
}

/// The incidents of one stream.
pub(super) struct Ledger {
    path: PathBuf,
    stream: String,
    file: Option<File>,
    written: u64,
    open: BTreeMap<u64, Open>,
    ended: VecDeque<u64>,
    begins: Vec<u8>,
    ends: Vec<u64>,
}

impl Open {
    fn end(self, reason: &str) -> PluginEvent {
        let data = Map::from_iter([("reason".to_owned(), Value::from(reason))]);
        PluginEvent {
            entry: self.entry,
            plugin: self.plugin,
            version: self.version,
            event: Event {
                incident: self.incident,
                kind: self.kind,
                change: Change::End,
                severity: self.severity,
                tracks: self.tracks,
                region: self.region,
                score: self.score,
                data,
            },
        }
    }
}

impl Ledger {
    /// A ledger without open incidents, and the ends of what a row of this stream left open that was dropped
    /// without being stopped. What earlier lives of the daemon left open are orphans by now.
    pub(super) fn new(folder: &Path, stream: &str) -> (Self, Vec<PluginEvent>) {
        let path = folder.join(format!("{stream}.log"));
        let mut left = BTreeMap::new();
        replay(&fs::read(&path).unwrap_or_default(), &mut left);
        let ledger = Self {
            path,
            stream: stream.to_owned(),
            file: None,
            written: 0,
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            begins: Vec::new(),
            ends: left.keys().copied().collect(),
        };
        (ledger, left.into_values().map(|open| open.end("stream-stopped")).collect())
    }

    /// Takes one step; `Err` says why it is out of order and was dropped.
    pub(super) fn step(&mut self, ids: &Ids, found: &PluginEvent) -> Result<(), String> {
        let PluginEvent { entry, event, .. } = found;
        let id = event.incident;
        let named = |what: &str| Err(format!("the {what} of incident {id} \"{}\"", event.kind));
        let full = self.count(entry) >= OPEN;
        match (event.change, self.open.get_mut(&id)) {
            (Change::Begin, Some(_)) => named("second begin"),
            (Change::Begin, None) if self.ended.contains(&id) => named("begin after the end"),
            (Change::Begin, None) if !ids.was_given(id) => named("begin, with an id that new-id never gave,"),
            (Change::Begin, None) if full => named(&format!("begin, with {OPEN} others still open,")),
            (Change::Begin, None) => {
                let open = self.open_of(found);
                if let Ok(mut line) = serde_json::to_vec(&Line::Begin(open.clone())) {
                    line.push(b'\n');
                    self.begins.extend(line);
                }
                self.open.insert(id, open);
                Ok(())
            }
            (Change::Update | Change::End, None) if self.ended.contains(&id) => named("step after the end"),
            (Change::Update | Change::End, None) => named("step before the begin"),
            (_, Some(open)) if open.entry != *entry || open.kind != event.kind => {
                named("step of another entry or kind")
            }
            (Change::Update, Some(open)) => {
                open.severity = event.severity;
                open.score = event.score;
                open.region = event.region;
                open.tracks.clone_from(&event.tracks);
                Ok(())
            }
            (Change::End, Some(_)) => {
                self.open.remove(&id);
                self.remember(id);
                Ok(())
            }
        }
    }

    /// Ends what is open, of one entry or of all, for a reason.
    pub(super) fn close(&mut self, entry: Option<&str>, reason: &str) -> Vec<PluginEvent> {
        let chosen = |open: &Open| entry.is_none_or(|entry| open.entry == entry);
        let ids: Vec<_> = self.open.values().filter(|open| chosen(open)).map(|open| open.incident).collect();
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(open) = self.open.remove(&id) {
                self.remember(id);
                events.push(open.end(reason));
            }
        }
        events
    }

    /// Number of open incidents of an entry.
    pub(super) fn count(&self, entry: &str) -> usize {
        self.open.values().filter(|open| open.entry == entry).count()
    }

    /// Puts the begins of this call on disk.
    pub(super) fn commit(&mut self) {
        if !self.begins.is_empty() {
            let lines = std::mem::take(&mut self.begins);
            self.write(&lines);
        }
    }

    /// Puts the ends of earlier calls on disk.
    pub(super) fn settle(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        for id in std::mem::take(&mut self.ends) {
            lines.extend(format!("{{\"end\":{id}}}\n").bytes());
        }
        self.write(&lines);
    }

    fn open_of(&self, found: &PluginEvent) -> Open {
        let event = &found.event;
        Open {
            stream: self.stream.clone(),
            entry: found.entry.clone(),
            plugin: found.plugin.clone(),
            version: found.version.clone(),
            incident: event.incident,
            kind: event.kind.clone(),
            severity: event.severity,
            tracks: event.tracks.clone(),
            region: event.region,
            score: event.score,
        }
    }

    fn remember(&mut self, id: u64) {
        self.ends.push(id);
        self.ended.push_back(id);
        if self.ended.len() > ENDED {
            self.ended.pop_front();
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if let Err(error) = self.try_write(lines) {
            tracing::error!(stream = %self.stream, path = %self.path.display(), %error,
                "open incidents cannot be recorded; after a crash they would not be ended");
            self.file = None;
        }
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() || self.written > COMPACT {
            // All that is open, in a new file; `lines` is part of it already.
            let mut content = Vec::new();
            for open in self.open.values() {
                serde_json::to_writer(&mut content, &Line::Begin(open.clone()))?;
                content.push(b'\n');
            }
            durable::replace(&self.path, &content, durable::Readers::None)?;
            self.written = content.len() as u64;
            self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            file.write_all(lines)?;
            file.sync_data()?;
            self.written += lines.len() as u64;
        }
        Ok(())
    }
}

fn replay(content: &[u8], open: &mut BTreeMap<u64, Open>) {
    for line in content.split(|byte| *byte == b'\n') {
        // A torn last line is what a power cut leaves; nothing of it had gone out.
        match serde_json::from_slice(line) {
            Ok(Line::Begin(found)) => _ = open.insert(found.incident, found),
            Ok(Line::End(id)) => _ = open.remove(&id),
            Err(_) => {}
        }
    }
}

/// Finds what earlier lives left open, and gathers it in one file until [`settle`] says that it was ended.
pub(super) fn orphans(folder: &Path) -> io::Result<Vec<Orphan>> {
    fs::create_dir_all(folder)?;
    let gathered = folder.join("orphans");
    let mut open = BTreeMap::new();
    let mut logs = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path == gathered || path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
    for path in &logs {
        replay(&fs::read(path)?, &mut open);
    }
    if open.is_empty() {
        settle(folder)?;
    } else {
        let mut content = Vec::new();
        for found in open.values() {
            serde_json::to_writer(&mut content, &Line::Begin(found.clone()))?;
            content.push(b'\n');
        }
        durable::replace(&gathered, &content, durable::Readers::None)?;
    }
    for path in logs.iter().filter(|path| **path != gathered) {
        fs::remove_file(path)?;
    }
    let orphan = |found: Open| Orphan { stream: found.stream.clone(), end: found.end("restart") };
    Ok(open.into_values().map(orphan).collect())
}

/// Forgets the orphans: their ends are where nothing loses them.
pub(super) fn settle(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join("orphans")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(incident: u64, change: Change) -> PluginEvent {
        let event = Event {
            incident,
            kind: "fight".into(),
            change,
            severity: Severity::High,
            tracks: vec![3, 4],
            region: Some(Rect::new(1.0, 2.0, 3.0, 4.0)),
            score: 0.9,
            data: Map::new(),
        };
        PluginEvent { entry: "fights".into(), plugin: "alert".into(), version: "1.0.0".into(), event }
    }

    #[test]
    fn steps_come_in_order_or_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let ids = Ids::open(&folder.path().join("ids")).unwrap();
        let (a, b) = (ids.take().unwrap(), ids.take().unwrap());
        let (mut ledger, _) = Ledger::new(folder.path(), "door");
        assert!(ledger.step(&ids, &event(a, Change::Update)).unwrap_err().contains("before the begin"));
        assert!(ledger.step(&ids, &event(a, Change::End)).is_err());
        assert!(ledger.step(&ids, &event(b + 1, Change::Begin)).unwrap_err().contains("never gave"));
        ledger.step(&ids, &event(a, Change::Begin)).unwrap();
        assert!(ledger.step(&ids, &event(a, Change::Begin)).unwrap_err().contains("second begin"));
        ledger.step(&ids, &event(a, Change::Update)).unwrap();
        let mut other = event(a, Change::End);
        other.entry = "another".into();
        assert!(ledger.step(&ids, &other).unwrap_err().contains("another entry"));
        ledger.step(&ids, &event(a, Change::End)).unwrap();
        assert!(ledger.step(&ids, &event(a, Change::End)).unwrap_err().contains("after the end"));
        assert!(ledger.step(&ids, &event(a, Change::Begin)).unwrap_err().contains("after the end"));
        assert_eq!(ledger.count("fights"), 0);
    }

    #[test]
    fn what_is_open_at_a_kill_is_an_orphan_until_settled() {
        let folder = tempfile::tempdir().unwrap();
        let ids = Ids::open(&folder.path().join("ids")).unwrap();
        let taken: Vec<_> = (0..3).map(|_| ids.take().unwrap()).collect();
        let incidents = folder.path().join("incidents");
        assert_eq!(orphans(&incidents).unwrap(), []);

        let (mut ledger, _) = Ledger::new(&incidents, "door");
        for id in &taken {
            ledger.step(&ids, &event(*id, Change::Begin)).unwrap();
            ledger.commit();
        }
        // Ended and settled; ended, but the kill comes before the next call; open.
        ledger.step(&ids, &event(taken[0], Change::End)).unwrap();
        ledger.settle();
        ledger.step(&ids, &event(taken[1], Change::End)).unwrap();
        // A torn line at the end of the file.
        let mut file = OpenOptions::new().append(true).open(incidents.join("door.log")).unwrap();
        file.write_all(b"{\"begin\":{\"entry\":\"figh").unwrap();
        drop(ledger);

        for _ in 0..2 {
            // Until it is settled, a second crash finds the same.
            let found = orphans(&incidents).unwrap();
            let ended: Vec<_> = found.iter().map(|orphan| orphan.end.event.incident).collect();
            assert_eq!(ended, taken[1..]);
            assert_eq!(found[0].stream, "door");
            assert_eq!(found[0].end.event.change, Change::End);
            assert_eq!(found[0].end.event.data["reason"], "restart");
            assert_eq!(found[0].end.event.tracks, [3, 4]);
        }
        settle(&incidents).unwrap();
        assert_eq!(orphans(&incidents).unwrap(), []);
    }

    #[test]
    fn the_file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let ids = Ids::open(&folder.path().join("ids")).unwrap();
        let (mut ledger, _) = Ledger::new(folder.path(), "door");
        let kept = ids.take().unwrap();
        ledger.step(&ids, &event(kept, Change::Begin)).unwrap();
        ledger.commit();
        ledger.written = COMPACT + 1;
        let id = ids.take().unwrap();
        ledger.step(&ids, &event(id, Change::Begin)).unwrap();
        ledger.commit();
        let text = fs::read_to_string(folder.path().join("door.log")).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(ledger.written < COMPACT);
    }
}
