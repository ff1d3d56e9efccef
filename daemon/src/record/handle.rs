//! What the streams' workers see of the recorder.
//!
//! In: incidents, pictures, where the packets are. Out: orders in the writer's queue, and the paths that events name. Clones
//! share one recorder. No method blocks; what the writer has no room for is counted and not recorded.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::Rules;
use super::status::{Meters, RecordStatus};
use crate::config::Settings;
use crate::flow::{Packets, Picture, Severity};
use crate::telemetry::Registry;

/// Orders that wait at most.
pub(super) const ORDERS: usize = 256;
/// Pictures that wait at most: each is as large as a frame.
const PICTURES: usize = 8;
/// Clips under way at most.
const CLIPS: usize = 16;

/// What the writer is asked to do.
pub(super) enum Order {
    Snapshot {
        stream: Arc<str>,
        incident: u64,
        picture: Picture,
        /// Whether it goes to the disk.
        keep: bool,
    },
    Clip {
        stream: Arc<str>,
        incident: u64,
        packets: Arc<dyn Packets>,
        /// Stream time of the incident's begin.
        begin: u64,
    },
    /// The incident is over at this stream time.
    End { incident: u64, pts: u64 },
    /// No further packets come.
    Stopped { stream: Arc<str> },
    /// The settings are others.
    Look,
    /// Finish everything and end.
    Stop,
}

/// What is to be recorded of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// A picture.
    pub snapshot: bool,
    /// A clip.
    pub clip: bool,
}

pub(super) struct Shared {
    pub orders: SyncSender<Order>,
    pub rules: Mutex<Arc<Rules>>,
    /// The disk takes what comes.
    pub able: AtomicBool,
    pub pictures: AtomicUsize,
    pub clips: AtomicUsize,
    pub meters: Meters,
    pub status: Mutex<RecordStatus>,
}

/// Records. Cheap to clone; no method blocks.
#[derive(Clone)]
pub struct RecordHandle(pub(super) Arc<Shared>);

impl RecordHandle {
    /// A recorder that records nothing.
    #[must_use]
    pub fn off() -> Self {
        let (orders, _) = sync_channel(1);
        Self::new(orders, Rules::off(), Meters::new(&Registry::new()))
    }

    pub(super) fn new(orders: SyncSender<Order>, rules: Rules, meters: Meters) -> Self {
        Self(Arc::new(Shared {
            orders,
            rules: Mutex::new(Arc::new(rules)),
            able: AtomicBool::new(true),
            pictures: AtomicUsize::new(0),
            clips: AtomicUsize::new(0),
            meters,
            status: Mutex::default(),
        }))
    }

    /// From now on these settings count; what is under way goes on.
    pub fn configure(&self, settings: &Settings) {
        *self.0.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rules::new(settings));
        // A writer that is busy looks by itself.
        let _ = self.0.orders.try_send(Order::Look);
    }

    /// How the recorder is doing.
    #[must_use]
    pub fn status(&self) -> RecordStatus {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether clips are recorded, as far as the settings are concerned.
    #[must_use]
    pub fn makes_clips(&self) -> bool {
        self.0.rules().settings.clips
    }

    /// What is to be recorded now of an incident of this kind.
    #[must_use]
    pub fn wish(&self, kind: &str, severity: Severity) -> Wish {
        let rules = self.0.rules();
        if !rules.matches(kind, severity) {
            return Wish::default();
        }
        let able = self.0.able.load(Ordering::Acquire);
        let settings = &rules.settings;
        Wish { snapshot: (settings.snapshots && able) || rules.shown, clip: settings.clips && able }
    }

    /// Records a picture of an incident; gives back the path that its event names, where it goes to the disk.
    #[must_use]
    pub fn snapshot(&self, stream: &Arc<str>, incident: u64, picture: &Picture) -> Option<String> {
        let keep = self.0.rules().settings.snapshots && self.0.able.load(Ordering::Acquire);
        let order = Order::Snapshot { stream: Arc::clone(stream), incident, picture: picture.clone(), keep };
        (self.send(order, &self.0.pictures, PICTURES) && keep)
            .then(|| format!("clips/{stream}/{incident}.jpg"))
    }

    /// Records a clip of an incident that begins at a stream time; gives back the path that its event names.
    #[must_use]
    pub fn clip(
        &self,
        stream: &Arc<str>,
        incident: u64,
        packets: &Arc<dyn Packets>,
        begin: u64,
    ) -> Option<String> {
        let (stream, packets) = (Arc::clone(stream), Arc::clone(packets));
        let path = format!("clips/{stream}/{incident}.mp4");
        let order = Order::Clip { stream, incident, packets, begin };
        self.send(order, &self.0.clips, CLIPS).then_some(path)
    }

    /// An incident is over; where the writer has no room for the news, its clip ends at its longest.
    pub fn end(&self, incident: u64, pts: u64) {
        let _ = self.0.orders.try_send(Order::End { incident, pts });
    }

    /// A stream has stopped: its clips end with what there is. Without room for the news they end when nothing comes.
    pub fn stopped(&self, stream: &Arc<str>) {
        let _ = self.0.orders.try_send(Order::Stopped { stream: Arc::clone(stream) });
    }

    /// Where there is a place left of so many, and room in the queue.
    fn send(&self, order: Order, taken: &AtomicUsize, places: usize) -> bool {
        let more = |taken: usize| (taken < places).then_some(taken + 1);
        let reserved = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        let sent = reserved && self.0.orders.try_send(order).is_ok();
        if reserved && !sent {
            taken.fetch_sub(1, Ordering::AcqRel);
        }
        if !sent {
            self.0.meters.dropped.inc();
        }
        sent
    }
}

impl Shared {
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
