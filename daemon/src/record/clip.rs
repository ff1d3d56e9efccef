//! One clip: which packets belong to it, and when it is over.
//!
//! In: a source's packets, the incident's begin and end. Out: a file that is whole and has not got its name yet. Owned by
//! the writer, which has it go on a few times a second. It begins at the last key frame before the time that is to be seen,
//! and ends so long after the incident, at its longest, or where the source's packets end, change or were missed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mux::{Mux, MuxError};
use super::status::Trouble;
use super::store::Store;
use crate::config::settings::Record;
use crate::flow::{PacketKind, Packets, Track};

/// Without packets for so long beyond the time after the incident a clip is over.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the muxer may take to finish a file.
const FINISH: Duration = Duration::from_secs(10);

/// A clip under way.
pub(super) struct Clip {
    pub stream: Arc<str>,
    pub incident: u64,
    packets: Arc<dyn Packets>,
    /// Stream time from which it shows, and at which it is over at last.
    from: u64,
    longest: u64,
    /// Stream time of its end, once that is known.
    until: Option<u64>,
    after: u64,
    /// No further packets come.
    stopped: bool,
    file: Option<File>,
    /// When packets came last.
    heard: Instant,
    silence: Duration,
}

struct File {
    mux: Mux,
    part: PathBuf,
    video: Option<Track>,
    next: u64,
    /// Since when nothing more goes in.
    ended: Option<Instant>,
}

/// How far a clip is.
pub(super) enum Progress {
    Going,
    /// The file is whole.
    Whole(PathBuf),
    /// There was nothing to record.
    Nothing,
}

fn nanoseconds(seconds: f64) -> u64 {
    u64::try_from(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO).as_nanos())
        .unwrap_or(u64::MAX)
}

impl Clip {
    /// A clip of an incident that begins at this stream time.
    pub fn new(
        stream: Arc<str>,
        incident: u64,
        packets: Arc<dyn Packets>,
        begin: u64,
        settings: &Record,
    ) -> Self {
        Self {
            stream,
            incident,
            packets,
            from: begin.saturating_sub(nanoseconds(settings.before_seconds)),
            longest: begin.saturating_add(nanoseconds(settings.longest_seconds)),
            until: None,
            after: nanoseconds(settings.after_seconds),
            stopped: false,
            file: None,
            heard: Instant::now(),
            silence: SILENCE + Duration::from_nanos(nanoseconds(settings.after_seconds)),
        }
    }

    /// Its file below the folder of recordings.
    pub fn name(&self) -> String {
        format!("{}/{}.mp4", self.stream, self.incident)
    }

    /// The incident was over at this stream time.
    pub fn end(&mut self, pts: u64) {
        self.until = Some(pts.saturating_add(self.after));
    }

    /// It ends with what there is.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Takes what has come.
    pub fn go_on(&mut self, store: &Store) -> Result<Progress, MuxError> {
        if let Some(File { mux, part, ended: Some(since), .. }) = &self.file {
            return match mux.look() {
                Ok(true) => Ok(Progress::Whole(part.clone())),
                Ok(false) if since.elapsed() > FINISH => {
                    Err(MuxError::Clip("the muxer does not come to an end".into()))
                }
                Ok(false) => Ok(Progress::Going),
                Err(error) => Err(named(error, part)),
            };
        }
        let part = match &self.file {
            None => self.packets.since(self.from),
            Some(file) => self.packets.after(file.next),
        };
        if !part.packets.is_empty() {
            self.heard = Instant::now();
        }
        let mut over = self.stopped || self.heard.elapsed() > self.silence;
        let file = match &mut self.file {
            Some(file) => file,
            None if part.packets.is_empty() && over => return Ok(Progress::Nothing),
            None if part.packets.is_empty() => return Ok(Progress::Going),
            None => {
                let path = store.part(&self.name()).map_err(MuxError::Disk)?;
                let mux = Mux::start(&path, &part).map_err(|error| {
                    // Nothing is in it yet; the next start removes it where the disk refuses.
                    let _ = std::fs::remove_file(&path);
                    named(error, &path)
                })?;
                let video = part.video.clone();
                self.file.insert(File { mux, part: path, video, next: 0, ended: None })
            }
        };
        // What comes after other caps, or a hole, is another clip's.
        if part.lost || part.video != file.video {
            over = true;
        } else {
            let end = self.until.unwrap_or(u64::MAX).min(self.longest);
            for packet in &part.packets {
                if packet.dts < end {
                    file.mux.push(packet).map_err(|error| named(error, &file.part))?;
                } else if packet.kind == PacketKind::Video {
                    over = true;
                    break;
                }
            }
            file.next = part.next;
        }
        if over {
            file.mux.end().map_err(|error| named(error, &file.part))?;
            file.ended = Some(Instant::now());
        }
        Ok(Progress::Going)
    }

    /// Closes the file. Where it is whole it stays, else it goes.
    pub fn close(self, whole: bool) {
        let Some(File { mux, part, .. }) = self.file else { return };
        drop(mux);
        if !whole {
            // The next start removes it where the disk refuses.
            let _ = std::fs::remove_file(part);
        }
    }
}

/// The system's words with the file that they are about.
fn named(error: MuxError, part: &std::path::Path) -> MuxError {
    match error {
        MuxError::Disk(trouble) if !trouble.text.contains('/') => {
            let text = format!("{}: {}", part.display(), trouble.text);
            MuxError::Disk(Trouble { text, ..trouble })
        }
        other => other,
    }
}
