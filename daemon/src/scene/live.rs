//! A scene at the pace of the clock: frames that are due now, and those missed are left out.
//!
//! In: a [`SceneSpec`]. Out: frames with stream time and truth. Owned by one thread, which calls
//! [`LiveScene::next`]; whoever else holds a [`LiveStop`] ends it at once. Rendering cannot fail.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{FrameTruth, Scene, SceneSpec};
use crate::flow::{Frame, FrameMeta, Picture};

/// Ends a [`LiveScene`] from another thread.
#[derive(Debug, Clone, Default)]
pub struct LiveStop(Arc<(Mutex<bool>, Condvar)>);

impl LiveStop {
    /// Ends it: a waiting [`LiveScene::next`] returns now.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits until `due`. False when stopped.
    fn wait(&self, due: Instant) -> bool {
        let mut stopped = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if *stopped || left.is_zero() {
                return !*stopped;
            }
            stopped = self.0.1.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A scene at the pace of the clock.
pub struct LiveScene {
    scene: Scene,
    stream: Arc<str>,
    stop: LiveStop,
    /// When frame 0 was due; set by the first call.
    start: Option<Instant>,
    /// The scene's frame to show next, and the stream's count of frames.
    next: u64,
    count: u64,
    dropped: u64,
    before: Option<Picture>,
    seen_cuts: usize,
}

impl LiveScene {
    /// Plans the scene; its clock starts with the first frame asked for.
    #[must_use]
    pub fn new(spec: &SceneSpec, stream: &str) -> Self {
        Self {
            scene: Scene::new(spec),
            stream: stream.into(),
            stop: LiveStop::default(),
            start: None,
            next: 0,
            count: 0,
            dropped: 0,
            before: None,
            seen_cuts: 0,
        }
    }

    /// As [`LiveScene::new`], ended by a stopper that exists already.
    #[must_use]
    pub fn stopped_by(spec: &SceneSpec, stream: &str, stop: LiveStop) -> Self {
        Self { stop, ..Self::new(spec, stream) }
    }

    /// What ends it from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> LiveStop {
        self.stop.clone()
    }

    /// Frames left out so far because they could not be made in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The scene.
    #[must_use]
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Waits for the next frame that is due and renders it; `None` at the end of a finite scene, or when stopped.
    /// A frame whose successor is due already is left out; `gap` says how much time is missing.
    #[expect(clippy::should_implement_trait, reason = "yields beside the truth, and waits")]
    pub fn next(&mut self) -> Option<(Frame<Picture>, FrameTruth)> {
        let start = *self.start.get_or_insert_with(Instant::now);
        let spec = self.scene.spec().clone();
        let wanted = self.next;
        let elapsed = start.elapsed().as_nanos() as u64;
        while spec.pts(self.next + 1) <= elapsed && spec.frames().is_none_or(|n| self.next + 1 < n) {
            self.next += 1;
        }
        if spec.frames().is_some_and(|n| self.next >= n) {
            return None;
        }
        self.dropped += self.next - wanted;
        let gap = spec.pts(self.next) - spec.pts(wanted);
        if !self.stop.wait(start + Duration::from_nanos(spec.pts(self.next))) {
            return None;
        }
        let captured = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        let (pixels, truth) = self.scene.frame(self.next);
        let cuts = self.scene.cuts.partition_point(|cut| *cut <= truth.pts as f64 * 1e-9);
        let meta = FrameMeta {
            stream: self.stream.clone(),
            index: self.count,
            pts: truth.pts,
            captured,
            width: pixels.size.width,
            height: pixels.size.height,
            cut: cuts != self.seen_cuts,
            motion: self.before.as_ref().map_or(0.0, |before| change(before, &pixels)),
            gap,
        };
        self.seen_cuts = cuts;
        self.count += 1;
        self.next += 1;
        self.before = Some(pixels.clone());
        Some((Frame { meta, pixels }, truth))
    }
}

/// Mean absolute change of luma between two pictures of one size, 0 to 1, from every fourth pixel each way.
fn change(a: &Picture, b: &Picture) -> f32 {
    let (width, stride) = (a.size.width as usize, a.strides[0]);
    let (a, b) = (a.plane(0), b.plane(0));
    let (mut sum, mut count) = (0_u64, 0_u64);
    for (a, b) in a.chunks(stride).zip(b.chunks(stride)).step_by(4) {
        for (a, b) in a[..width].iter().zip(&b[..width]).step_by(4) {
            sum += u64::from(a.abs_diff(*b));
            count += 1;
        }
    }
    if count > 0 { sum as f32 / count as f32 / 255.0 } else { 0.0 }
}
