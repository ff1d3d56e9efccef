//! The bounded queue between a source's threads and its consumer.
//!
//! In: decoded frames from the streaming thread, events from the supervisor. Out: both, in the order in which
//! they came. A file's frames wait for room; a live source's oldest frame makes room, counted. Events are few
//! and always fit. Closing it lets everybody go at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was in the queue.
#[derive(Debug)]
pub(super) enum Item<F, E> {
    /// A frame.
    Frame(F),
    /// Something that happened to the source.
    Event(E),
}

/// What became of a frame that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the queue.
    Queued,
    /// It is in the queue, and the oldest frame is gone for it.
    Dropped,
    /// The queue is closed; it is gone.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<F, E> {
    inner: Mutex<Inner<F, E>>,
    readable: Condvar,
    writable: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct Inner<F, E> {
    items: VecDeque<Item<F, E>>,
    frames: usize,
    closed: bool,
    /// The producer waits, for room or for its time: it is not the source that is slow.
    waiting: bool,
    /// When it last stopped waiting.
    waited: Option<Instant>,
    /// Whose frames are taken: those of an older session are turned away.
    session: u64,
}

impl<F, E> Queue<F, E> {
    /// A queue for `capacity` frames.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                frames: 0,
                closed: false,
                waiting: false,
                waited: None,
                session: 0,
            }),
            readable: Condvar::new(),
            writable: Condvar::new(),
            capacity: capacity.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<F, E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session begins; its frames carry the number given here.
    pub(super) fn begin_session(&self) -> u64 {
        let mut inner = self.lock();
        inner.session += 1;
        inner.session
    }

    /// The session is over: its producers, also those that wait, are turned away.
    pub(super) fn end_session(&self) {
        self.lock().session += 1;
        self.writable.notify_all();
    }

    /// Adds a frame of a session; waits for room.
    pub(super) fn push_waiting(&self, session: u64, frame: F) -> Pushed {
        let mut inner = self.lock();
        while inner.frames >= self.capacity && !inner.closed && inner.session == session {
            inner.waiting = true;
            inner = self.writable.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.go_on();
        if inner.closed || inner.session != session {
            return Pushed::Closed;
        }
        self.add(inner, frame);
        Pushed::Queued
    }

    /// Adds a frame of a session at once; the oldest one goes where there is no room.
    pub(super) fn push_dropping(&self, session: u64, frame: F) -> Pushed {
        let mut inner = self.lock();
        if inner.closed || inner.session != session {
            return Pushed::Closed;
        }
        let mut outcome = Pushed::Queued;
        if inner.frames >= self.capacity
            && let Some(oldest) = inner.items.iter().position(|item| matches!(item, Item::Frame(_)))
        {
            inner.items.remove(oldest);
            inner.frames -= 1;
            outcome = Pushed::Dropped;
        }
        self.add(inner, frame);
        outcome
    }

    fn add(&self, mut inner: MutexGuard<'_, Inner<F, E>>, frame: F) {
        inner.items.push_back(Item::Frame(frame));
        inner.frames += 1;
        drop(inner);
        self.readable.notify_one();
    }

    /// Adds an event.
    pub(super) fn event(&self, event: E) {
        self.lock().items.push_back(Item::Event(event));
        self.readable.notify_one();
    }

    /// The oldest item; none after `timeout`, or where the queue is closed and empty.
    pub(super) fn pop(&self, timeout: Duration) -> Option<Item<F, E>> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            if let Some(item) = inner.items.pop_front() {
                if matches!(item, Item::Frame(_)) {
                    inner.frames -= 1;
                    drop(inner);
                    self.writable.notify_one();
                }
                return Some(item);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.closed || left.is_zero() {
                return None;
            }
            inner = self.readable.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `deadline`; false where the queue was closed, or the session named ended, before.
    pub(super) fn wait_until(&self, session: Option<u64>, deadline: Instant) -> bool {
        let mut inner = self.lock();
        let on_time = loop {
            if inner.closed || session.is_some_and(|session| session != inner.session) {
                break false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break true;
            }
            inner.waiting = session.is_some();
            inner = self.writable.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        inner.go_on();
        on_time
    }

    /// How long ago a producer last waited, for room or for its time: zero where it waits now.
    pub(super) fn waited(&self) -> Option<Duration> {
        let inner = self.lock();
        if inner.waiting { Some(Duration::ZERO) } else { inner.waited.map(|at| at.elapsed()) }
    }

    /// Closes it: producers are turned away; what is in it can still be popped.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.readable.notify_all();
        self.writable.notify_all();
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Throws away what is in it.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        let items = std::mem::take(&mut inner.items);
        inner.frames = 0;
        drop(inner);
        // Frames free their buffers outside the lock.
        drop(items);
    }
}

impl<F, E> Inner<F, E> {
    fn go_on(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.waited = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn live_frames_push_out_the_oldest_and_events_stay() {
        let queue: Queue<u32, &str> = Queue::new(2);
        queue.event("started");
        assert_eq!(queue.push_dropping(0, 1), Pushed::Queued);
        assert_eq!(queue.push_dropping(0, 2), Pushed::Queued);
        queue.event("lost");
        assert_eq!(queue.push_dropping(0, 3), Pushed::Dropped);
        let text: Vec<String> = std::iter::from_fn(|| queue.pop(Duration::ZERO))
            .map(|item| match item {
                Item::Frame(n) => n.to_string(),
                Item::Event(e) => e.to_string(),
            })
            .collect();
        assert_eq!(text, ["started", "2", "lost", "3"]);
    }

    #[test]
    fn file_frames_wait_for_room() {
        let queue: Arc<Queue<u32, ()>> = Arc::new(Queue::new(2));
        let producer = std::thread::spawn({
            let queue = queue.clone();
            move || (0..100).all(|n| queue.push_waiting(0, n) == Pushed::Queued)
        });
        for expected in 0..100 {
            assert!(matches!(queue.pop(LONG), Some(Item::Frame(n)) if n == expected));
        }
        assert!(producer.join().unwrap());
    }

    #[test]
    fn closing_and_the_end_of_a_session_let_a_waiting_producer_go() {
        for close in [true, false] {
            let queue: Arc<Queue<u32, ()>> = Arc::new(Queue::new(1));
            assert_eq!(queue.push_waiting(0, 0), Pushed::Queued);
            let producer = std::thread::spawn({
                let queue = queue.clone();
                move || queue.push_waiting(0, 1)
            });
            while queue.waited().is_none() {
                std::thread::yield_now();
            }
            if close {
                queue.close()
            } else {
                queue.end_session()
            }
            assert_eq!(producer.join().unwrap(), Pushed::Closed);
            assert_eq!(queue.push_waiting(0, 2), Pushed::Closed, "late frames of the old session");
            assert!(matches!(queue.pop(LONG), Some(Item::Frame(0))));
        }
    }

    #[test]
    fn closing_wakes_the_consumer() {
        let queue: Arc<Queue<u32, ()>> = Arc::new(Queue::new(1));
        let consumer = std::thread::spawn({
            let queue = queue.clone();
            move || queue.pop(LONG).is_none()
        });
        queue.close();
        assert!(consumer.join().unwrap());
    }
}
