//! The thread that writes: snapshots as they come, clips a little at a time, and the folder kept within its bounds.
//!
//! In: orders from the handles. Out: files, the newest picture to whoever shows it, the status. Owned by [`Recorder`], which
//! stops and joins it. A disk that is full or refuses stops it from recording until the disk works again; it looks for that
//! every two seconds.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::clip::{Clip, Progress};
use super::handle::{ORDERS, Order, RecordHandle, Shared};
use super::mux::MuxError;
use super::status::{Meters, RecordState, RecordStatus, Trouble};
use super::store::Store;
use super::{Rules, jpeg};
use crate::config::Settings;
use crate::flow::Picture;
use crate::telemetry::Registry;

/// Of the snapshots' JPEG, 1 to 100.
const QUALITY: u8 = 85;
/// Between two looks at clips under way.
const CLIPS: Duration = Duration::from_millis(250);
/// Between two looks at a disk that did not take anything.
const TROUBLE: Duration = Duration::from_secs(2);
/// Between two looks at the disk otherwise.
const CALM: Duration = Duration::from_secs(10);
/// How long the end may take.
const END: Duration = Duration::from_secs(8);

/// Gets the newest snapshot of a stream: its name, and the JPEG.
pub type ShowSnapshot = Box<dyn Fn(&str, &[u8]) + Send>;

/// Owns the thread that records.
pub struct Recorder {
    handle: RecordHandle,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts it. A folder that cannot be used is no error here: it is said in the status, and tried again.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(settings: &Settings, registry: &Registry, show: ShowSnapshot) -> std::io::Result<Self> {
        let (sender, orders) = sync_channel(ORDERS);
        let handle = RecordHandle::new(sender, Rules::new(settings), Meters::new(registry));
        let shared = Arc::clone(&handle.0);
        let thread = std::thread::Builder::new().name("record".into()).spawn(move || {
            let rules = shared.rules();
            let store = Store::open(&rules.root);
            Writer { shared, orders, show, rules, store, clips: Vec::new(), trouble: None, looked: None }
                .run();
        })?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// A handle to record with.
    #[must_use]
    pub fn handle(&self) -> RecordHandle {
        self.handle.clone()
    }

    /// Finishes what is under way, and ends. The streams have stopped before.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // The writer takes what waits before; it is gone only where it panicked.
        let _ = self.handle.0.orders.send(Order::Stop);
        if thread.join().is_err() {
            tracing::error!("the recorder panicked");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

struct Writer {
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    show: ShowSnapshot,
    rules: Arc<Rules>,
    store: Store,
    clips: Vec<Clip>,
    trouble: Option<Trouble>,
    /// When the disk was looked at last.
    looked: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let mut over = false;
        self.look();
        self.report();
        while !over {
            let wait = match (&self.trouble, self.clips.is_empty()) {
                (_, false) => CLIPS,
                (Some(_), true) => TROUBLE,
                (None, true) => CALM,
            };
            match self.orders.recv_timeout(wait) {
                Ok(order) => over = self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => over = true,
            }
            while !over && let Ok(order) = self.orders.try_recv() {
                over = self.take(order);
            }
            self.look();
            self.go_on();
            self.report();
        }
        self.clips.iter_mut().for_each(Clip::stop);
        let until = Instant::now() + END;
        while !self.clips.is_empty() && Instant::now() < until {
            self.go_on();
            // Nothing comes any more: this only waits.
            let _ = self.orders.recv_timeout(Duration::from_millis(20));
        }
        for clip in std::mem::take(&mut self.clips) {
            tracing::warn!(stream = %clip.stream, incident = clip.incident, "a clip did not come to its end");
            self.leave(clip);
        }
        self.report();
    }

    /// Carries an order out; true where it is the last.
    fn take(&mut self, order: Order) -> bool {
        match order {
            Order::Snapshot { stream, incident, picture, keep } => {
                self.snapshot(&stream, incident, &picture, keep);
                drop(picture);
                self.shared.pictures.fetch_sub(1, Ordering::AcqRel);
            }
            Order::Clip { stream, incident, packets, begin } => {
                self.clips.push(Clip::new(stream, incident, packets, begin, &self.rules.settings));
            }
            Order::End { incident, pts } => {
                self.clips.iter_mut().filter(|clip| clip.incident == incident).for_each(|clip| clip.end(pts));
            }
            Order::Stopped { stream } => {
                self.clips.iter_mut().filter(|clip| clip.stream == stream).for_each(Clip::stop);
            }
            Order::Look => self.looked = None,
            Order::Stop => return true,
        }
        false
    }

    fn snapshot(&mut self, stream: &str, incident: u64, picture: &Picture, keep: bool) {
        let file = match jpeg(picture, QUALITY) {
            Ok(file) => file,
            Err(error) => {
                tracing::error!(stream, incident, %error, "a snapshot cannot be made");
                self.shared.meters.dropped.inc();
                return;
            }
        };
        if self.rules.shown {
            (self.show)(stream, &file);
        }
        if !keep {
            return;
        }
        let name = format!("{stream}/{incident}.jpg");
        let written = match &self.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => self.store.check(&self.rules).and_then(|()| self.store.write(&name, &file)),
        };
        match written {
            Ok(()) => self.shared.meters.snapshots.inc(),
            Err(trouble) => {
                self.shared.meters.dropped.inc();
                self.enter(Some(trouble));
            }
        }
    }

    /// Has every clip go on.
    fn go_on(&mut self) {
        let mut troubles = Vec::new();
        for mut clip in std::mem::take(&mut self.clips) {
            match clip.go_on(&self.store) {
                Ok(Progress::Going) => {
                    self.clips.push(clip);
                    continue;
                }
                Ok(Progress::Whole(part)) => {
                    let name = clip.name();
                    self.close(clip, true);
                    match self.store.take_in(&name, &part) {
                        Ok(()) => self.shared.meters.clips.inc(),
                        Err(trouble) => {
                            self.shared.meters.dropped.inc();
                            troubles.push(trouble);
                        }
                    }
                }
                Ok(Progress::Nothing) => {
                    tracing::warn!(stream = %clip.stream, incident = clip.incident, "no clip: no packets came");
                    self.leave(clip);
                }
                Err(MuxError::Disk(trouble)) => {
                    troubles.push(trouble);
                    self.leave(clip);
                }
                Err(MuxError::Clip(error)) => {
                    tracing::warn!(stream = %clip.stream, incident = clip.incident, error, "no clip");
                    self.leave(clip);
                }
            }
        }
        if let Some(trouble) = troubles.pop() {
            self.enter(Some(trouble));
        }
    }

    /// A clip that is not recorded.
    fn leave(&mut self, clip: Clip) {
        self.shared.meters.dropped.inc();
        self.close(clip, false);
    }

    fn close(&mut self, clip: Clip, whole: bool) {
        clip.close(whole);
        self.shared.clips.fetch_sub(1, Ordering::AcqRel);
    }

    /// Looks at the settings and the disk.
    fn look(&mut self) {
        let rules = self.shared.rules();
        if self.rules != rules {
            self.rules = rules;
            self.looked = None;
        }
        if self.store.root() != self.rules.root {
            // What is under way belongs into the folder of before.
            self.clips.iter_mut().for_each(Clip::stop);
            if self.clips.is_empty() {
                self.store = Store::open(&self.rules.root);
            }
        }
        if self.rules.is_off() {
            self.enter(None);
            return;
        }
        let often = if self.trouble.is_some() { TROUBLE } else { CLIPS };
        if self.looked.is_none_or(|looked| looked.elapsed() >= often) {
            self.looked = Some(Instant::now());
            let seen = if self.trouble.is_some() {
                self.store.probe(&self.rules)
            } else {
                self.store.check(&self.rules)
            };
            self.enter(seen.err());
        }
        let removed = self.store.trim(&self.rules, SystemTime::now());
        self.shared.meters.removed.add(removed);
    }

    /// The disk is in trouble, or in none any more.
    fn enter(&mut self, trouble: Option<Trouble>) {
        match (&self.trouble, &trouble) {
            (None, Some(trouble)) => {
                tracing::error!(error = trouble.text, "recording stops; alerts go on");
                // They end with what they have; the disk may yet have room for that.
                self.clips.iter_mut().for_each(Clip::stop);
            }
            (Some(_), None) => tracing::info!("recording goes on: the disk takes data again"),
            _ => {}
        }
        self.shared.able.store(trouble.is_none(), Ordering::Release);
        self.trouble = trouble;
    }

    fn report(&self) {
        let meters = &self.shared.meters;
        let (files, bytes) = self.store.held();
        meters.files.set(files as f64);
        meters.bytes.set(bytes as f64);
        meters.stopped.set(f64::from(u8::from(self.trouble.is_some())));
        let state = match &self.trouble {
            Some(trouble) => trouble.state(),
            None if self.rules.is_off() => RecordState::Off,
            None => RecordState::Recording,
        };
        let status = RecordStatus {
            state,
            error: self.trouble.as_ref().map(|trouble| trouble.text.clone()),
            files,
            bytes,
            snapshots: meters.snapshots.get(),
            clips: meters.clips.get(),
            open: self.clips.len() as u64,
            removed: meters.removed.get(),
            dropped: meters.dropped.get(),
        };
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}
