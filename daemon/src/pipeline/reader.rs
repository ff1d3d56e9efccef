//! The thread that waits for a stream's source, so that its worker can wait for source and models at once.
//!
//! In: an opened source. Out: [`SourceEvent`]s in the worker's inbox. The reader takes a credit for each frame, and
//! the worker gives it back when the frame has left: so the frames between the two are bounded, and a file's reader
//! waits. Owned by the worker, which stops and joins it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::inbox::{Message, SourceEvent};
use super::scene_feed::SceneFeed;
use crate::ingest::{Next, Source};
use crate::scene::LiveStop;
use crate::telemetry::Counter;
use crate::telemetry::progress::{Progress, Pulse, Who, Work};

/// How long one look at the source may block; the delay with which a stop is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// Where frames come from.
pub(super) enum AnySource {
    /// A GStreamer pipeline.
    Ingest(Box<Source>),
    /// A scene that the daemon renders itself.
    Scene(Box<SceneFeed>),
}

/// Frames that may be between reader and worker.
pub(super) struct Credits {
    left: Mutex<usize>,
    given: Condvar,
}

impl Credits {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(count), given: Condvar::new() })
    }

    /// A frame has left.
    pub(super) fn give(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.given.notify_one();
    }

    fn take(&self, wait: Duration) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut left, timeout) = self
            .given
            .wait_timeout_while(left, wait, |left| *left == 0)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return false;
        }
        *left -= 1;
        true
    }
}

/// The reader's thread.
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
    scene: Option<LiveStop>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts reading. What an ingest source leaves out is counted in `left_out`; a scene counts for itself.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn start(
        stream: &str,
        source: AnySource,
        inbox: Sender<Message>,
        credits: Arc<Credits>,
        left_out: Counter,
        progress: &Progress,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let scene = match &source {
            AnySource::Scene(scene) => Some(scene.stopper()),
            AnySource::Ingest(_) => None,
        };
        let pulse = progress.worker(Who::of_stream(format!("the reader of stream {stream}"), stream));
        let thread = std::thread::Builder::new()
            .name(format!("read {stream}"))
            .spawn(move || read(source, &inbox, &credits, &left_out, &pulse, &stopped))?;
        Ok(Self { stop, scene, thread: Some(thread) })
    }

    /// Stops the source and waits for it.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(scene) = &self.scene {
            scene.stop();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a source's reader panicked");
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

fn from_ingest(next: Next) -> Option<SourceEvent> {
    Some(match next {
        Next::Frame(frame) => SourceEvent::Frame(frame),
        Next::Started(info) | Next::Back(info) => SourceEvent::Started(info),
        Next::Lost(error, retry) => {
            SourceEvent::Lost(format!("{error}; next try in {:.1} s", retry.as_secs_f64()))
        }
        Next::Resized(size) => SourceEvent::Resized(size),
        Next::Ended => SourceEvent::Ended,
        Next::Failed(error) => SourceEvent::Failed(error.to_string()),
        Next::Timeout => return None,
    })
}

fn read(
    mut source: AnySource,
    inbox: &Sender<Message>,
    credits: &Credits,
    left_out: &Counter,
    pulse: &Pulse,
    stop: &AtomicBool,
) {
    let (mut credit, mut counted) = (false, 0);
    while !stop.load(Ordering::Acquire) {
        if !credit {
            credit = credits.take(LOOK);
            if !credit {
                continue;
            }
        }
        pulse.begin(Work::Read);
        let event = match &mut source {
            AnySource::Ingest(source) => from_ingest(source.next(LOOK)),
            AnySource::Scene(scene) => Some(scene.next()),
        };
        if let AnySource::Ingest(source) = &source {
            let now = source.left_out();
            left_out.add(now - counted);
            counted = now;
        }
        pulse.end();
        let Some(event) = event else { continue };
        credit = !matches!(event, SourceEvent::Frame(_));
        let last = matches!(event, SourceEvent::Ended | SourceEvent::Failed(_));
        if inbox.send(Message::Source(event)).is_err() || last {
            break;
        }
    }
    if let AnySource::Ingest(mut source) = source {
        pulse.begin(Work::Stop);
        source.stop();
    }
}
