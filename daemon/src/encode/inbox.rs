//! Where an output's worker sleeps: pictures, and everything else that may wake it.
//!
//! In: pictures from the stream's thread, news from GStreamer's threads and the RTSP server. Out: the worker
//! takes them. Bounded: a live output drops the oldest picture, one that writes a file from a file makes the
//! stream wait until there is room, or until the output fails or stops.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::input::Input;

/// Pictures that wait at most: a third of a second at 25 frames a second.
const ROOM: usize = 8;

/// What the worker looks at, all under one lock.
#[derive(Default)]
pub(super) struct Inside {
    /// Pictures with their stream time, oldest first.
    pub pictures: VecDeque<(Input, u64)>,
    /// The output shall end.
    pub stopping: bool,
    /// The pipeline wants a picture.
    pub hungry: bool,
    /// The pipeline ended, well or with an error.
    pub ended: Option<Result<(), String>>,
    /// The sink has taken something.
    pub delivered: bool,
    /// A viewer wants to start with a whole picture.
    pub key_wanted: bool,
    /// Somebody watches; always true where the target is not RTSP.
    pub watched: bool,
    /// Pictures may wait for room: false while the output is away.
    pub open: bool,
    /// When a picture was last offered.
    pub offered: Option<Instant>,
}

/// The shared side of [`Inside`].
pub(super) struct Inbox {
    inside: Mutex<Inside>,
    news: Condvar,
    room: Condvar,
    waits: bool,
}

impl Inbox {
    /// `waits`: a picture that finds no room waits for it.
    pub(super) fn new(waits: bool, watched: bool) -> Self {
        let inside = Inside { watched, open: true, ..Inside::default() };
        Self { inside: Mutex::new(inside), news: Condvar::new(), room: Condvar::new(), waits }
    }

    /// The inside.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes the worker.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.lock());
        self.news.notify_all();
        self.room.notify_all();
    }

    /// Adds a picture; gives how many were dropped for it.
    pub(super) fn push(&self, picture: Input, pts: u64) -> u64 {
        let mut inside = self.lock();
        inside.offered = Some(Instant::now());
        while self.waits && inside.open && !inside.stopping && inside.pictures.len() >= ROOM {
            inside = self.room.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        if inside.stopping || !inside.watched {
            return 0;
        }
        if !inside.open {
            return 1;
        }
        let mut dropped = 0;
        while inside.pictures.len() >= ROOM {
            inside.pictures.pop_front();
            dropped += 1;
        }
        inside.pictures.push_back((picture, pts));
        drop(inside);
        self.news.notify_all();
        dropped
    }

    /// Sleeps until news or a deadline; the caller looks again at what it waits for.
    pub(super) fn wait<'a>(
        &self,
        inside: MutexGuard<'a, Inside>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, Inside> {
        let Some(deadline) = deadline else {
            return self.news.wait(inside).unwrap_or_else(PoisonError::into_inner);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.news.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes the oldest picture, and lets a waiting one in.
    pub(super) fn take(&self, inside: &mut Inside) -> Option<(Input, u64)> {
        let taken = inside.pictures.pop_front();
        self.room.notify_all();
        taken
    }

    /// Puts pictures back that were taken and went nowhere, oldest first; also where there is no room.
    pub(super) fn put_back(&self, pictures: Vec<(Input, u64)>) {
        let mut inside = self.lock();
        for picture in pictures.into_iter().rev() {
            inside.pictures.push_front(picture);
        }
    }
}
