//! The trace of a stream: what went into its plugins and what came out, call by call, as JSON lines.
//!
//! In: frames on their way through delivery, and the steps of the row of plugins. Out: a file, its lines as in [`lines`];
//! after `max_bytes` a new one, which begins with the state of each plugin, so that it can be replayed by itself. Owned by
//! the stream's delivery. A disk that refuses, or that has too little left for what matters more, ends the trace: said once
//! in log and status; the stream goes on.

pub mod lines;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::settings::Recording;
use crate::flow::{FrameMeta, Objects, Run, Score};
use crate::plugins::{RowOutput, Step};
use lines::{FrameLine, GaveLine, Header, StartedLine, StepLine};

/// The disk is asked how much is left after so many bytes.
const LOOK: u64 = 1 << 20;

/// A trace that is being written.
pub(super) struct Trace {
    recording: Recording,
    stream: String,
    header: Option<Header>,
    file: Option<BufWriter<File>>,
    /// Bytes in this file.
    written: u64,
    /// Bytes at which the disk is asked next.
    look: u64,
    problem: Option<String>,
}

impl Trace {
    /// A trace of which nothing is on disk yet.
    pub(super) fn new(recording: Recording, stream: &str) -> Self {
        let stream = stream.to_owned();
        Self { recording, stream, header: None, file: None, written: 0, look: 0, problem: None }
    }

    /// The first line is known: the file is begun. One that is there becomes the first of the older ones.
    pub(super) fn begin(&mut self, header: Header) {
        self.header = Some(header);
        self.open(&[]);
    }

    /// One frame, with what the row made of it.
    pub(super) fn frame(
        &mut self,
        meta: &FrameMeta,
        runs: &[Run],
        found: &Objects,
        scores: &[Score],
        row: &RowOutput,
    ) {
        if self.file.is_none() {
            return;
        }
        let mut seen = false;
        for step in &row.steps {
            match step {
                Step::Frame(gave) => {
                    seen = true;
                    let entries = gave.iter().map(GaveLine::from).collect();
                    self.write(&FrameLine::new(meta, runs, found, scores, row, entries));
                }
                other => self.step(other),
            }
        }
        if !seen {
            self.write(&FrameLine::new(meta, runs, found, scores, row, Vec::new()));
        }
    }

    /// What happened beside frames.
    pub(super) fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
        // Whoever looks at the file of a running daemon sees it up to the last tick.
        self.finish();
    }

    /// Whether it is time for a new file.
    pub(super) fn full(&self) -> bool {
        self.file.is_some() && self.written >= self.recording.max_bytes
    }

    /// Goes on in a new file, which begins with these steps.
    pub(super) fn turn(&mut self, begin: &[Step]) {
        self.finish();
        if self.file.take().is_some() {
            self.open(begin);
        }
    }

    /// Why it has ended, if it has.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Everything so far is in the file.
    pub(super) fn finish(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(BufWriter::flush) {
            self.end(&error);
        }
    }

    fn open(&mut self, begin: &[Step]) {
        match self.create() {
            Ok(file) => self.file = Some(BufWriter::with_capacity(1 << 16, file)),
            Err(error) => return self.end(&error),
        }
        (self.written, self.look) = (0, 0);
        if let Some(header) = self.header.clone() {
            self.write(&header);
        }
        for step in begin {
            self.step(step);
        }
    }

    fn create(&self) -> io::Result<File> {
        let Recording { file, files, .. } = &self.recording;
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        if fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0) {
            for age in (1..*files).rev() {
                let younger = if age == 1 { file.clone() } else { older(file, age - 1) };
                match fs::rename(&younger, older(file, age)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        // Where people were is nobody's business but the box's.
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(file)
    }

    fn step(&mut self, step: &Step) {
        let line = match step {
            Step::Started(started) => StepLine::Started(StartedLine::from(&**started)),
            Step::Gone { entry, reason } => {
                StepLine::Gone { entry: entry.to_string(), reason: reason.clone() }
            }
            Step::Signal { now, signal, gave } => StepLine::Signal {
                now: *now,
                what: *signal,
                entries: gave.iter().map(GaveLine::from).collect(),
            },
            Step::Command(answered) => StepLine::Command((&**answered).into()),
            // Written with its frame.
            Step::Frame(_) => return,
        };
        self.write(&line);
    }

    fn write(&mut self, line: &impl Serialize) {
        let Some(file) = &mut self.file else { return };
        let mut text = match serde_json::to_vec(line) {
            Ok(text) => text,
            Err(error) => return self.end(&error.into()),
        };
        text.push(b'\n');
        if let Err(error) = file.write_all(&text) {
            return self.end(&error);
        }
        self.written += text.len() as u64;
        if self.written >= self.look {
            self.look = self.written + LOOK;
            if let Err(error) = self.room() {
                self.end(&error);
            }
        }
    }

    /// Whether the disk has more left than what it must keep for others.
    fn room(&self) -> io::Result<()> {
        let folder = self.recording.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let disk = rustix::fs::statvfs(folder.unwrap_or(Path::new(".")))?;
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve = self.recording.reserve_bytes;
        if left < reserve {
            let text = format!("the disk has {left} bytes left, {reserve} stay free (trace.reserve_bytes)");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }

    fn end(&mut self, error: &io::Error) {
        let path = self.recording.file.display();
        let text = format!("the trace {path} ends: {error}; it begins anew when the stream is started again");
        tracing::error!(stream = self.stream, path = %path, %error, "{text}");
        self.problem = Some(text);
        // What is still buffered is given up: the disk has refused already.
        if let Some(file) = self.file.take() {
            let _ = file.into_parts();
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.finish();
    }
}

/// An older file of a trace.
fn older(file: &Path, age: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Rect, Size};
    use crate::plugins::{Gave, Started, StreamContext};

    fn recording(file: PathBuf) -> Recording {
        Recording { file, max_bytes: 4 << 10, files: 3, reserve_bytes: 0 }
    }

    fn header() -> Header {
        let context = StreamContext {
            stream: "door".into(),
            models: Vec::new(),
            size: Size::new(640, 360),
            rate: 25.0,
            zones: [].into(),
        };
        Header::new(&context, Vec::new())
    }

    fn meta(index: u64) -> FrameMeta {
        let pts = index * 40_000_000;
        FrameMeta {
            stream: "door".into(),
            index,
            pts,
            captured: 7,
            width: 640,
            height: 360,
            cut: false,
            motion: 0.1,
            gap: 0,
        }
    }

    fn frames(trace: &mut Trace, range: std::ops::Range<u64>) {
        for index in range {
            let mut objects = Objects::default();
            objects.push(0, 1, 0.1 + index as f32 * 0.3, Rect::new(0.1, 1e-7, 33.3, 1.0 / 3.0));
            let gave = Gave { entry: "e".into(), ids: vec![u64::MAX], ..Gave::default() };
            let row = RowOutput {
                objects: objects.clone(),
                steps: vec![Step::Frame(vec![gave])],
                ..RowOutput::default()
            };
            trace.frame(&meta(index), &[], &objects, &[], &row);
            if trace.full() {
                let started = Started {
                    entry: "e".into(),
                    plugin: "p".into(),
                    version: "1.0.0".into(),
                    hash: String::new(),
                    now: index,
                    context: "{}".into(),
                    config: "{}".into(),
                    state: Some((1, vec![0, 255])),
                    said: [("count".to_owned(), 7.into())].into(),
                };
                trace.turn(&[Step::Started(Box::new(started))]);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/door.jsonl");
        let mut trace = Trace::new(Recording { max_bytes: 1 << 20, ..recording(file.clone()) }, "door");
        trace.begin(header());
        frames(&mut trace, 0..9);
        drop(trace);
        let text = fs::read_to_string(&file).unwrap();
        let mut read = text.lines();
        assert_eq!(serde_json::from_str::<Header>(read.next().unwrap()).unwrap(), header());
        for (index, line) in read.enumerate() {
            let lines::Line::Frame(frame) = lines::Line::parse(line).unwrap() else { panic!("{line}") };
            assert_eq!(frame.meta(&"door".into()), meta(index as u64));
            let found = frame.found();
            assert_eq!(found.scores, [0.1 + index as f32 * 0.3]);
            assert_eq!(found.bounds, [Rect::new(0.1, 1e-7, 33.3, 1.0 / 3.0)]);
            assert_eq!(frame.entries[0].ids, [u64::MAX]);
        }
    }

    #[test]
    fn it_is_bounded_and_each_file_stands_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("door.jsonl");
        let mut trace = Trace::new(recording(file.clone()), "door");
        trace.begin(header());
        frames(&mut trace, 0..200);
        drop(trace);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["door.jsonl", "door.jsonl.1", "door.jsonl.2"]);
        for name in &names[1..] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!((4 << 10..5 << 10).contains(&text.len()), "{name}: {}", text.len());
            let mut read = text.lines();
            assert!(read.next().unwrap().starts_with("{\"schema\":\"watchpost.trace/2\""));
            let lines::Line::Step(StepLine::Started(begun)) =
                lines::Line::parse(read.next().unwrap()).unwrap()
            else {
                panic!("{text}")
            };
            assert_eq!(begun.said["count"], 7);
            assert_eq!(begun.state.unwrap().bytes().unwrap(), [0, 255]);
        }
        // Another start keeps what is there.
        let mut trace = Trace::new(recording(file.clone()), "door");
        trace.begin(header());
        drop(trace);
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);
        assert!(fs::metadata(older(&file, 1)).unwrap().len() > 200);
    }

    #[test]
    fn a_disk_that_refuses_ends_it_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        // Opening it succeeds, writing does not: no space left.
        let mut trace = Trace::new(Recording { max_bytes: 1 << 30, ..recording("/dev/full".into()) }, "door");
        trace.begin(header());
        frames(&mut trace, 0..2000);
        assert!(
            trace.problem().is_some_and(|problem| problem.contains("No space left")),
            "{:?}",
            trace.problem()
        );
        let mut trace = Trace::new(recording(folder.path().join("file/door.jsonl")), "door");
        fs::write(folder.path().join("file"), "").unwrap();
        trace.begin(header());
        frames(&mut trace, 0..3);
        assert!(trace.problem().is_some());
        let kept = Recording { reserve_bytes: u64::MAX, ..recording(folder.path().join("kept.jsonl")) };
        let mut trace = Trace::new(kept, "door");
        trace.begin(header());
        assert!(trace.problem().is_some_and(|problem| problem.contains("trace.reserve_bytes")));
    }
}
