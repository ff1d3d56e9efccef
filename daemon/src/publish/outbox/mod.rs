//! The outbox: QoS 1 events, safe on disk from the moment they count as accepted until the broker has
//! acknowledged them.
//!
//! In: [`Outbox::push`] from any thread, which only takes a short lock. Out: [`Outbox::pop`], in order, for
//! the connection, which [`Outbox::ack`]s what has arrived. Owned by the publisher; a thread of its own does
//! all disk work, syncs what came meanwhile in one go, and is joined by [`Outbox::stop`] or on drop. Failing
//! disks, full disks and damaged files are survived, counted and said in [`Outbox::report`].

mod epoch;
mod record;
mod store;

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::store::Store;
use super::Error;
use super::messages::OutboxReport;
use crate::telemetry::progress::{Pulse, Who, Work};
use crate::telemetry::{Counter, Gauge, Histogram, Registry};

pub use self::record::Record;

/// Bytes that may wait for the thread; a disk that hangs must not eat the memory.
const QUEUE_BYTES: usize = 16 << 20;
/// Bytes read ahead for the connection.
const AHEAD_BYTES: usize = 1 << 20;
/// How often the acknowledgement mark is written down, and a failed disk tried again.
const TICK: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
    epoch: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held so that no second daemon writes into the same folder.
    lock: Mutex<Option<File>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    seq: u64,
    queue: VecDeque<Record>,
    queue_bytes: usize,
    overflowed: u64,
    /// Read ahead, for the connection.
    ahead: VecDeque<Record>,
    ahead_bytes: usize,
    connected: bool,
    /// Grows when a connection begins or ends: what was read for an earlier one is worth nothing.
    session: u64,
    acked: u64,
    more: bool,
    /// Messages that the thread has taken and not yet stored; 1 while it opens the folder.
    busy: u64,
    pending: u64,
    bytes: u64,
    report: Option<OutboxReport>,
    /// Bytes on disk at most from now on.
    limit: Option<u64>,
    stop: bool,
}

struct Metrics {
    durable: Counter,
    dropped: Counter,
    corrupt: Counter,
    pending: Gauge,
    bytes: Gauge,
    sync: Histogram,
}

impl Outbox {
    /// Opens the outbox in `state/outbox`, with at most `limit` bytes on disk, and starts a new epoch.
    ///
    /// # Errors
    /// Where another daemon uses the folder, or the thread cannot be started.
    pub fn start(state: &Path, limit: u64, registry: &Registry) -> Result<Self, Error> {
        if let Err(error) = std::fs::create_dir_all(state) {
            tracing::error!(path = %state.display(), %error, "cannot make the state folder");
        }
        let lock = lock(state)?;
        let epoch = epoch::next(state);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { busy: 1, ..State::default() }),
            wake: Condvar::new(),
            ready: Notify::new(),
        });
        let metrics = Metrics {
            durable: registry.counter("publish_events_durable_total", &[]),
            dropped: registry.counter("publish_events_dropped_total", &[]),
            corrupt: registry.counter("publish_outbox_corrupt_total", &[]),
            pending: registry.gauge("publish_outbox_pending", &[]),
            bytes: registry.gauge("publish_outbox_bytes", &[]),
            sync: registry.histogram("publish_outbox_sync_seconds", &[]),
        };
        let (folder, worker) = (state.join("outbox"), Arc::clone(&shared));
        let pulse = registry.progress().worker(Who::named("the outbox"));
        let thread = std::thread::Builder::new()
            .name("outbox".into())
            .spawn(move || {
                pulse.begin(Work::Store);
                worker.run(Store::open(&folder, limit), &metrics, &pulse);
            })
            .map_err(Error::Thread)?;
        Ok(Self { shared, epoch, thread: Mutex::new(Some(thread)), lock: Mutex::new(lock) })
    }

    /// The number of this start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Numbers a message and hands it to the thread. `make` builds topic and payload from the number; it is
    /// called under the lock so that numbers and places in the queue agree. Returns the number.
    pub fn push(&self, make: impl FnOnce(u64, u64) -> (Arc<str>, Arc<[u8]>)) -> u64 {
        let mut state = self.shared.lock();
        if state.stop {
            tracing::error!("an event came after the outbox was stopped; it is lost");
        }
        state.seq += 1;
        let seq = state.seq;
        let (topic, payload) = make(self.epoch, seq);
        let record = Record { position: 0, epoch: self.epoch, seq, topic, payload };
        state.queue_bytes += record.size();
        state.queue.push_back(record);
        while state.queue_bytes > QUEUE_BYTES
            && let Some(oldest) = state.queue.pop_front()
        {
            state.queue_bytes -= oldest.size();
            state.overflowed += 1;
        }
        drop(state);
        self.shared.wake.notify_one();
        seq
    }

    /// Keeps at most `bytes` on disk from now on.
    pub fn limit(&self, bytes: u64) {
        self.shared.lock().limit = Some(bytes);
        self.shared.wake.notify_one();
    }

    /// A connection begins: messages are read from the oldest that is not acknowledged.
    pub fn connected(&self) {
        self.session(true);
    }

    /// The connection is gone.
    pub fn disconnected(&self) {
        self.session(false);
    }

    fn session(&self, connected: bool) {
        let mut state = self.shared.lock();
        state.connected = connected;
        state.session += 1;
        state.ahead.clear();
        state.ahead_bytes = 0;
        drop(state);
        self.shared.wake.notify_one();
    }

    /// The next message to send, if one is ready.
    #[must_use]
    pub fn pop(&self) -> Option<Record> {
        let mut state = self.shared.lock();
        let record = state.ahead.pop_front()?;
        state.ahead_bytes -= record.size();
        let low = state.more && state.ahead_bytes < AHEAD_BYTES / 2;
        drop(state);
        if low {
            self.shared.wake.notify_one();
        }
        Some(record)
    }

    /// Waits until there may be something to [`Outbox::pop`], or the report may have changed.
    pub async fn ready(&self) {
        self.shared.ready.notified().await;
    }

    /// Everything before `position` has arrived.
    pub fn ack(&self, position: u64) {
        let mut state = self.shared.lock();
        state.acked = state.acked.max(position);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Messages that are not acknowledged, those not yet on disk included.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let state = self.shared.lock();
        state.pending + state.queue.len() as u64 + state.busy
    }

    /// Whether every message pushed so far is on disk, or known not to get there.
    #[must_use]
    pub fn settled(&self) -> bool {
        let state = self.shared.lock();
        state.queue.is_empty() && state.busy == 0
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// How it is doing.
    #[must_use]
    pub fn report(&self) -> OutboxReport {
        let good = OutboxReport { durable: true, dropped: 0, corrupt: 0, error: None };
        self.shared.lock().report.clone().unwrap_or(good)
    }

    /// Waits until every message pushed before the call is on disk, or the disk has failed.
    #[cfg(test)]
    fn settle(&self) {
        self.shared.wake.notify_one();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let state = self.shared.lock();
            if state.queue.is_empty() && state.busy == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "the outbox does not settle: {state:?}");
            drop(state);
            std::thread::yield_now();
        }
    }

    /// Stores what is queued and the acknowledgement mark, and joins the thread.
    pub fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the outbox's thread panicked");
        }
        // Handles may outlive the publisher; the folder is free for the next one all the same.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Takes the folder for this daemon; `None` where it cannot be written at all.
fn lock(state: &Path) -> Result<Option<File>, Error> {
    let path = state.join("outbox.lock");
    let file = match File::create(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot write to the state folder");
            return Ok(None);
        }
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(state.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error, "cannot lock the state folder");
            Ok(None)
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut store: Store, metrics: &Metrics, pulse: &Pulse) {
        let mut session = 0;
        let mut more = false;
        let mut last_tick = Instant::now();
        self.publish(&store, metrics, &mut Vec::new(), session);
        loop {
            pulse.end();
            let (batch, wants, stop) = {
                let idle = |state: &mut State| {
                    let wants = state.connected && more && state.ahead_bytes < AHEAD_BYTES / 2;
                    let nothing = state.queue.is_empty() && state.session == session && !wants;
                    nothing && state.acked <= store.acked() && state.limit.is_none() && !state.stop
                };
                let state = self.lock();
                let waited = self.wake.wait_timeout_while(state, TICK, idle);
                let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if state.session != session {
                    session = state.session;
                    store.ack(state.acked);
                    store.rewind();
                }
                store.ack(state.acked);
                if let Some(bytes) = state.limit.take() {
                    store.limit(bytes);
                }
                store.dropped += std::mem::take(&mut state.overflowed);
                state.queue_bytes = 0;
                state.busy = state.queue.len() as u64;
                let wants = state.connected && state.ahead_bytes < AHEAD_BYTES / 2;
                (std::mem::take(&mut state.queue), wants, state.stop)
            };
            pulse.begin(Work::Store);
            if !batch.is_empty() {
                let begin = Instant::now();
                store.append(batch.into());
                metrics.sync.record_duration(begin.elapsed());
            } else if store.waits_for_disk() {
                store.store_memory();
            }
            let mut records = if wants { store.read(AHEAD_BYTES) } else { Vec::new() };
            more = store.has_more();
            if last_tick.elapsed() >= TICK || stop {
                last_tick = Instant::now();
                store.store_acked();
            }
            self.publish(&store, metrics, &mut records, session);
            if stop && self.lock().queue.is_empty() {
                store.store_acked();
                return;
            }
        }
    }

    /// Hands records and figures to the other side.
    fn publish(&self, store: &Store, metrics: &Metrics, records: &mut Vec<Record>, session: u64) {
        let report = OutboxReport {
            durable: store.error().is_none(),
            dropped: store.dropped,
            corrupt: store.corrupt,
            error: store.error().map(str::to_owned),
        };
        metrics.dropped.add(report.dropped.saturating_sub(metrics.dropped.get()));
        metrics.durable.add(store.durable.saturating_sub(metrics.durable.get()));
        metrics.corrupt.add(report.corrupt.saturating_sub(metrics.corrupt.get()));
        metrics.pending.set(store.pending() as f64);
        metrics.bytes.set(store.bytes() as f64);
        let mut state = self.lock();
        let changed = state.report.as_ref() != Some(&report);
        let drained = store.pending() == 0 && state.pending > 0;
        state.pending = store.pending();
        state.bytes = store.bytes();
        state.report = Some(report);
        state.busy = 0;
        state.more = store.has_more();
        // A session that began meanwhile rewinds first, and reads these again.
        let current = state.session == session;
        let arrived = current && !records.is_empty();
        if current {
            state.ahead_bytes += records.iter().map(Record::size).sum::<usize>();
            state.ahead.extend(records.drain(..));
        }
        drop(state);
        if arrived || changed || drained {
            self.ready.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
