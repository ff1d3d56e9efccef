//! A source as the rest of the program sees it: start it, take what comes, drop it.
//!
//! In: a [`SourceSpec`]. Out: [`Next`]: frames in order and what happens to the source. The owner of a
//! [`Source`] owns its supervisor thread and its pipeline: both are gone when `stop` returns, or the drop.
//! Errors at the start are those that no waiting can heal; all others come by [`Source::next`].

use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;

use super::change::{Change, ChangeMeter};
use super::cuda::CudaDecoding;
use super::location::Location;
use super::queue::{Item, Queue};
use super::ring::PacketRing;
use super::session::{Event, Feed, RawFrame};
use super::stats::SourceStats;
use super::{IngestError, Watch, supervisor, timeline};
use crate::config::settings::{Stream, Transport};
use crate::flow::{Decoded, Frame, FrameMeta, Size, StreamInfo};

/// Bytes of compressed packets that a source keeps at most.
const RING_BYTES: usize = 64 << 20;
/// Decoded frames of a live source that wait for the consumer at most.
pub(super) const LIVE_FRAMES: usize = 8;
/// Decoded frames of a file that wait for the consumer at most.
const FILE_FRAMES: usize = 3;

/// What to read, and how. `Debug` shows no credentials.
#[derive(Clone)]
pub struct SourceSpec {
    /// Name of the stream.
    pub name: Arc<str>,
    /// Path, `file:`, `rtsp://` or `rtsps://`.
    pub uri: String,
    /// RTSP transport.
    pub transport: Transport,
    /// Jitter buffer of a network source.
    pub latency: Duration,
    /// Without a packet for so long a live source counts as down.
    pub stall: Duration,
    /// A file starts over at its end.
    pub loop_: bool,
    /// A file plays at its own pace, as if it were live.
    pub realtime: bool,
    /// Stream time of compressed packets to keep; zero keeps none.
    pub ring: Duration,
    /// Who is told of its threads and its decoder.
    pub watch: Arc<dyn Watch>,
    /// Decode on this GPU what it can decode; otherwise, and where there is none, on the CPU.
    pub gpu: Option<Arc<CudaDecoding>>,
}

impl std::fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let location = Location::parse(&self.uri).map_or_else(|_| "(unreadable)".into(), |l| l.to_string());
        f.debug_struct("SourceSpec").field("name", &self.name).field("uri", &location).finish_non_exhaustive()
    }
}

impl SourceSpec {
    /// A source with the defaults of the settings.
    #[must_use]
    pub fn new(name: &str, uri: &str) -> Self {
        Self {
            name: name.into(),
            uri: uri.into(),
            transport: Transport::default(),
            latency: Duration::from_millis(200),
            stall: Duration::from_secs(5),
            loop_: false,
            realtime: false,
            ring: Duration::from_secs(10),
            watch: Arc::new(()),
            gpu: None,
        }
    }

    /// From a stream's settings.
    #[must_use]
    pub fn from_settings(name: &str, stream: &Stream) -> Self {
        let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or(Duration::ZERO);
        Self {
            transport: stream.transport,
            latency: Duration::from_millis(stream.latency_ms),
            stall: seconds(stream.stall_seconds),
            loop_: stream.loop_,
            realtime: stream.realtime,
            ring: seconds(stream.ring_seconds),
            ..Self::new(name, &stream.source)
        }
    }

    fn check(&self) -> Result<Location, IngestError> {
        let out_of_range = |key, value: String, expected| {
            Err(IngestError::Setting { stream: self.name.to_string(), key, value, expected })
        };
        if !(Duration::from_millis(200)..=Duration::from_secs(3600)).contains(&self.stall) {
            return out_of_range("stall_seconds", format!("{:?}", self.stall), "0.2 to 3600 seconds");
        }
        if self.latency > Duration::from_secs(60) {
            return out_of_range("latency_ms", format!("{:?}", self.latency), "0 to 60000 milliseconds");
        }
        if self.ring > Duration::from_secs(3600) {
            return out_of_range("ring_seconds", format!("{:?}", self.ring), "0 to 3600 seconds");
        }
        let location = Location::parse(&self.uri)?;
        if let Location::File(path) = &location {
            let refuse = |reason: String| Err(IngestError::File { path: path.display().to_string(), reason });
            match std::fs::File::open(path).and_then(|file| file.metadata()) {
                Err(error) => return refuse(error.to_string()),
                Ok(meta) if !meta.is_file() => return refuse("it is no regular file".into()),
                Ok(meta) if meta.len() == 0 => return refuse("it is empty".into()),
                Ok(_) => {}
            }
        }
        Ok(location)
    }
}

/// What a source has for its consumer.
#[derive(Debug)]
pub enum Next {
    /// A frame, in order.
    Frame(Frame<Decoded>),
    /// The first frame is about to come.
    Started(StreamInfo),
    /// A live source is lost; it tries again by itself after the time given, and then for ever. Said once an
    /// outage; [`SourceStats::last_error`] has the newest reason.
    Lost(IngestError, Duration),
    /// A live source is back; frames follow, perhaps of another size.
    Back(StreamInfo),
    /// From the next frame on, frames have this size.
    Resized(Size),
    /// A file has ended; nothing follows.
    Ended,
    /// A file cannot be read, or not to its end; nothing follows.
    Failed(IngestError),
    /// Nothing came in the time given.
    Timeout,
}

/// Starts GStreamer. What it and GLib complain about goes to the log, and not past it to stderr.
fn init() -> Result<(), IngestError> {
    static LOG: Once = Once::new();
    gst::init().map_err(|error| IngestError::Start { reason: error.to_string() })?;
    LOG.call_once(|| {
        gst::glib::log_set_default_handler(|domain, level, message| match level {
            gst::glib::LogLevel::Error | gst::glib::LogLevel::Critical => {
                tracing::warn!(domain = domain.unwrap_or("glib"), ?level, "{message}");
            }
            gst::glib::LogLevel::Warning => {
                tracing::debug!(domain = domain.unwrap_or("glib"), ?level, "{message}");
            }
            _ => tracing::trace!(domain = domain.unwrap_or("glib"), ?level, "{message}"),
        });
    });
    Ok(())
}

/// A running source.
pub struct Source {
    feed: Arc<Feed>,
    supervisor: Option<JoinHandle<()>>,
    change: ChangeMeter,
    index: u64,
    last_pts: Option<u64>,
    over: Option<Result<(), IngestError>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({} {})", self.feed.spec.name, self.feed.location)
    }
}

impl Source {
    /// Checks the specification and starts the source's thread. Does not wait for the network, nor for a frame.
    ///
    /// # Errors
    /// An address of an unknown kind, a file that cannot be opened, a setting out of range, GStreamer missing.
    pub fn start(spec: SourceSpec) -> Result<Self, IngestError> {
        let location = spec.check()?;
        init()?;
        let live = location.is_live() || spec.realtime;
        let queue = Queue::new(if live { LIVE_FRAMES } else { FILE_FRAMES });
        let ring = PacketRing::new(spec.ring, RING_BYTES);
        let feed = Arc::new(Feed::new(spec, location, queue, ring));
        let name: String = format!("in-{}", feed.spec.name).chars().take(15).collect();
        let supervisor = std::thread::Builder::new()
            .name(name)
            .spawn({
                let feed = feed.clone();
                move || supervisor::run(&feed)
            })
            .map_err(|error| IngestError::Start { reason: error.to_string() })?;
        Ok(Self {
            feed,
            supervisor: Some(supervisor),
            change: ChangeMeter::default(),
            index: 0,
            last_pts: None,
            over: None,
        })
    }

    /// What comes next; waits for it for `timeout` at most. After [`Next::Ended`] or [`Next::Failed`] it says
    /// the same again at once.
    pub fn next(&mut self, timeout: Duration) -> Next {
        if let Some(over) = &self.over {
            return over.clone().map_or_else(Next::Failed, |()| Next::Ended);
        }
        match self.feed.queue.pop(timeout) {
            Some(Item::Frame(raw)) => Next::Frame(self.finish(raw)),
            Some(Item::Event(event)) => match event {
                Event::Started(info) => Next::Started(info),
                Event::Back(info) => Next::Back(info),
                Event::Lost(error, retry) => Next::Lost(error, retry),
                Event::Resized(size) => Next::Resized(size),
                Event::Ended => {
                    self.over = Some(Ok(()));
                    Next::Ended
                }
                Event::Failed(error) => {
                    self.over = Some(Err(error.clone()));
                    Next::Failed(error)
                }
            },
            None => Next::Timeout,
        }
    }

    /// Index, motion and gap are those of the frames that were handed out, not of those that were dropped.
    fn finish(&mut self, raw: RawFrame) -> Frame<Decoded> {
        let change = match &raw.picture {
            Decoded::Host(picture) => self.change.measure(picture),
            // Measured by the lane, where the picture lies.
            Decoded::Device(_) => Change::default(),
        };
        let size = raw.picture.size();
        let gap = timeline::gap(self.last_pts, raw.pts, raw.duration, raw.reconnected);
        let meta = FrameMeta {
            stream: self.feed.spec.name.clone(),
            index: self.index,
            pts: raw.pts,
            captured: raw.captured,
            width: size.width,
            height: size.height,
            cut: change.cut,
            motion: change.motion,
            gap,
        };
        self.index += 1;
        self.last_pts = Some(raw.pts);
        self.feed.counters.update(|stats| stats.frames += 1);
        Frame { meta, pixels: raw.picture }
    }

    /// The ring of compressed packets.
    #[must_use]
    pub fn ring(&self) -> PacketRing {
        self.feed.ring.clone()
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> SourceStats {
        self.feed.counters.get()
    }

    /// Frames, and packets, that were left out so far because somebody was too slow (live sources).
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.feed.counters.left_out()
    }

    /// The address, for logs and status: its `Display` shows no credentials.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.feed.location
    }

    /// Stops the pipeline and the thread, and waits for both. Frames handed out stay valid.
    pub fn stop(&mut self) {
        self.feed.stop();
        // A decoder on the GPU may wait for one of its surfaces to be let go.
        self.feed.queue.clear();
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            tracing::error!(stream = %self.feed.spec.name, "the source's supervisor panicked");
        }
        self.feed.queue.clear();
        self.over.get_or_insert(Ok(()));
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
    }
}
