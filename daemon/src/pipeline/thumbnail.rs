//! Who asks for a stream's newest picture, on their own threads: a status page, say.
//!
//! In: questions, at any time and from several at once. Out: a [`Thumbnail`], or what the stream does instead of showing
//! one. The worker renders the next frame that it delivers; the asker makes the JPEG of it, so the worker waits for
//! nobody. Who asks while another waits gets the same picture. Owned by the stream's handle.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::inbox::Message;
use super::status::SharedStatus;
use super::stream::Stop;
use crate::flow::{FrameMeta, Picture, Thumbnail};
use crate::publish::messages::StreamState;
use crate::record::jpeg;

/// Pixels across at most.
pub(super) const WIDTH: u32 = 640;
/// How long an asker waits for a frame.
const PATIENCE: Duration = Duration::from_secs(2);
/// A picture that is younger is new enough for the next asker.
const FRESH: Duration = Duration::from_millis(100);
/// Of the JPEG, 1 to 100.
const QUALITY: u8 = 75;

/// A frame as the worker rendered it.
pub(super) struct Seen {
    pub(super) meta: FrameMeta,
    pub(super) picture: Picture,
}

/// The pictures of one stream.
pub(super) struct Thumbnails {
    stream: String,
    status: SharedStatus,
    worker: Arc<Stop>,
    /// Held while somebody asks.
    newest: Mutex<Option<Answer>>,
}

struct Answer {
    at: Instant,
    outcome: Result<Thumbnail, String>,
}

impl Thumbnails {
    /// Of a stream with this status, and this way to its worker.
    pub(super) fn new(stream: &str, status: SharedStatus, worker: Arc<Stop>) -> Self {
        Self { stream: stream.to_owned(), status, worker, newest: Mutex::default() }
    }

    /// The next frame, or one that was just taken.
    pub(super) fn ask(&self) -> Result<Thumbnail, String> {
        self.ask_since(Instant::now())
    }

    /// `came`: when the asker came.
    fn ask_since(&self, came: Instant) -> Result<Thumbnail, String> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Answer { at, outcome }) = &*newest
            && (*at >= came || (outcome.is_ok() && at.elapsed() < FRESH))
        {
            return outcome.clone();
        }
        let outcome = self.take();
        *newest = Some(Answer { at: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    fn take(&self) -> Result<Thumbnail, String> {
        if self.status.get().status.state != StreamState::Running {
            return Err(self.instead());
        }
        let inbox = self.worker.inbox().ok_or_else(|| self.instead())?;
        let (reply, seen) = sync_channel(1);
        inbox.send(Message::Thumbnail { reply }).map_err(|_| self.instead())?;
        let Seen { meta, picture } = seen.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout if self.status.get().status.state == StreamState::Running => {
                format!("stream {} gave no frame within {} s", self.stream, PATIENCE.as_secs())
            }
            _ => self.instead(),
        })?;
        let file = jpeg(&picture, QUALITY).map_err(|error| format!("stream {}: {error}", self.stream))?;
        Ok(Thumbnail {
            frame: meta.index,
            captured: meta.captured,
            width: picture.size.width,
            height: picture.size.height,
            jpeg: file.into(),
        })
    }

    /// What the stream does.
    fn instead(&self) -> String {
        let status = self.status.get().status;
        if status.state == StreamState::Running {
            // Its worker has just gone.
            return format!("stream {} is not running", self.stream);
        }
        let state = format!("{:?}", status.state).to_lowercase();
        let error = status.error.map(|error| format!(": {error}")).unwrap_or_default();
        format!("stream {} is {state}{error}", self.stream)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::flow::{Colorimetry, Matrix, Range, Size};
    use crate::pipeline::lane::check::meta;

    fn seen(index: u64) -> Seen {
        let size = Size::new(64, 36);
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let picture = Picture::nv12(size, color, vec![100; 64 * 36], vec![128; 64 * 18]);
        Seen { meta: FrameMeta { index, captured: 7, ..meta(size) }, picture }
    }

    fn stream(state: StreamState) -> (Arc<Thumbnails>, SharedStatus, Arc<Stop>) {
        let status = SharedStatus::new("scene://people", "cpu", crate::telemetry::Gauge::new());
        status.update(|report| report.status.state = state);
        let worker = Arc::new(Stop::default());
        (Arc::new(Thumbnails::new("entrance", status.clone(), Arc::clone(&worker))), status, worker)
    }

    #[test]
    fn several_askers_share_one_picture() {
        let (thumbnails, _, worker) = stream(StreamState::Running);
        let (inbox, messages) = channel();
        worker.set_inbox(Some(inbox));
        let came = Instant::now();
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let thumbnails = Arc::clone(&thumbnails);
                std::thread::Builder::new().spawn(move || thumbnails.ask_since(came).unwrap()).unwrap()
            })
            .collect();
        let Message::Thumbnail { reply } = messages.recv().unwrap() else { panic!("another message") };
        reply.send(seen(5)).ok().unwrap();
        for asker in askers {
            let thumbnail = asker.join().unwrap();
            assert_eq!((thumbnail.frame, thumbnail.captured), (5, 7));
            assert_eq!((thumbnail.width, thumbnail.height), (64, 36));
            assert_eq!(thumbnail.jpeg[..2], [0xFF, 0xD8]);
        }
        assert!(messages.try_recv().is_err(), "one question was enough");
        // Who comes later asks anew, once what is there is old.
        thumbnails.newest.lock().unwrap().as_mut().unwrap().at -= FRESH * 2;
        let later = Arc::clone(&thumbnails);
        let asker = std::thread::Builder::new().spawn(move || later.ask().unwrap()).unwrap();
        let Message::Thumbnail { reply } = messages.recv().unwrap() else { panic!("another message") };
        reply.send(seen(6)).ok().unwrap();
        assert_eq!(asker.join().unwrap().frame, 6);
    }

    #[test]
    fn who_cannot_be_shown_a_frame_is_told_why() {
        let (thumbnails, status, worker) = stream(StreamState::Down);
        assert_eq!(thumbnails.ask().unwrap_err(), "stream entrance is down");
        status.update(|report| report.status.error = Some("no route".into()));
        assert_eq!(thumbnails.ask().unwrap_err(), "stream entrance is down: no route");
        status.update(|report| report.status.state = StreamState::Running);
        assert_eq!(thumbnails.ask().unwrap_err(), "stream entrance is not running");
        // A worker that takes the question and gives no frame; the state says nothing else.
        let (inbox, messages) = channel();
        worker.set_inbox(Some(inbox));
        let started = Instant::now();
        assert_eq!(thumbnails.ask().unwrap_err(), "stream entrance gave no frame within 2 s");
        assert!(started.elapsed() >= PATIENCE && started.elapsed() < PATIENCE * 2);
        // One that ends meanwhile.
        drop(messages);
        assert_eq!(thumbnails.ask().unwrap_err(), "stream entrance is not running");
    }
}
