//! One encoded stream for any number of RTSP viewers.
//!
//! In: encoded access units from the output's one encoder; viewers as the server's medias come and go. Out: the
//! same bytes to each media's source, on that media's clock. Shared by the output's worker and the server;
//! neither waits for the other: what a media cannot take is dropped there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::inbox::Inbox;

/// A source of pictures that gave none for so long is not worth waiting for.
const STALE: Duration = Duration::from_secs(5);

/// Stream time and a media's clock may part by this much before the media's time is set anew.
const DRIFT: i64 = 1_000_000_000;

/// What an output shares with the server.
pub(super) struct Mount {
    inbox: Arc<Inbox>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    feeds: Vec<Feed>,
    viewers: HashSet<usize>,
}

/// The source of one media.
struct Feed {
    source: gst_app::AppSrc,
    /// What to add to stream time for the media's running time; `None` until its first key frame.
    offset: Option<i64>,
}

impl Mount {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, inside: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A media has been made: the encoder is wanted.
    pub(super) fn add(&self, source: gst_app::AppSrc) {
        self.lock().feeds.push(Feed { source, offset: None });
        self.inbox.tell(|inside| {
            inside.watched = true;
            inside.key_wanted = true;
        });
    }

    /// A media is gone; without any, the encoder rests.
    pub(super) fn remove(&self, source: &gst_app::AppSrc) {
        let mut inside = self.lock();
        inside.feeds.retain(|feed| feed.source != *source);
        let watched = !inside.feeds.is_empty();
        drop(inside);
        self.inbox.tell(|inside| inside.watched = watched);
    }

    /// A viewer starts to watch, and shall see a whole picture soon.
    pub(super) fn join(&self, viewer: usize) {
        self.lock().viewers.insert(viewer);
        self.inbox.tell(|inside| inside.key_wanted = true);
    }

    /// A viewer has gone.
    pub(super) fn leave(&self, viewer: usize) {
        self.lock().viewers.remove(&viewer);
    }

    /// Who watches.
    pub(super) fn viewers(&self) -> Vec<usize> {
        self.lock().viewers.iter().copied().collect()
    }

    /// Whether pictures come, or may yet begin to.
    pub(super) fn is_fresh(&self) -> bool {
        let inside = self.inbox.lock();
        !inside.stopping && inside.offered.is_none_or(|offered| offered > Instant::now() - STALE)
    }

    /// Hands an access unit to every media. Each starts at a key frame, at its own clock's time.
    pub(super) fn deliver(&self, sample: &gst::Sample) {
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) else { return };
        let Some(pts) = buffer.pts().map(|pts| pts.nseconds() as i64) else { return };
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let mut late = false;
        for feed in &mut self.lock().feeds {
            // Without a running clock the media is still being set up.
            let Some(now) = feed.source.current_running_time().map(|now| now.nseconds() as i64) else {
                continue;
            };
            let drifted = feed.offset.is_some_and(|offset| (pts + offset - now).abs() > DRIFT);
            if feed.offset.is_none() && !key {
                late = true;
                continue;
            }
            if feed.offset.is_none() || drifted {
                feed.offset = Some(now - pts);
                feed.source.set_caps(Some(&caps));
            }
            let time = gst::ClockTime::from_nseconds((pts + feed.offset.unwrap_or(0)).max(0) as u64);
            let mut unit = buffer.copy();
            if let Some(unit) = unit.get_mut() {
                unit.set_pts(time);
                unit.set_dts(time);
            }
            // A media that is going down refuses; it is removed when it is gone.
            let _ = feed.source.push_buffer(unit);
        }
        if late {
            self.inbox.tell(|inside| inside.key_wanted = true);
        }
    }

    /// The server moves: what is being watched ends there, and nobody watches.
    pub(super) fn cut(&self) {
        self.close();
        let mut inside = self.lock();
        inside.feeds.clear();
        inside.viewers.clear();
        drop(inside);
        self.inbox.tell(|inside| inside.watched = false);
    }

    /// No more video: what is being watched ends.
    pub(super) fn close(&self) {
        for feed in &self.lock().feeds {
            let _ = feed.source.end_of_stream();
        }
    }
}
