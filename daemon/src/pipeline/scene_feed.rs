//! A rendered scene as a live source: frames at the pace of the clock.
//!
//! In: a scene's spec. Out: [`SourceEvent`]s, as from a camera. A frame that cannot be made in time is left out and
//! counted, as a camera's would be; nothing lags. Owned by the stream's reader, on whose thread it renders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::inbox::SourceEvent;
use crate::flow::{Frame, FrameMeta, StreamInfo};
use crate::ingest::ChangeMeter;
use crate::publish::messages::Timestamp;
use crate::scene::{Scene, SceneSpec};
use crate::telemetry::Counter;

/// A scene that plays.
pub(super) struct SceneFeed {
    stream: Arc<str>,
    spec: SceneSpec,
    /// Planned when the first frame is wanted: that takes a moment.
    scene: Option<Scene>,
    change: ChangeMeter,
    began: Instant,
    /// Index in the scene of the next frame, and in the stream.
    next: u64,
    given: u64,
    last_pts: Option<u64>,
    left_out: Counter,
}

impl SceneFeed {
    /// A scene that begins with the first call of [`SceneFeed::next`].
    pub(super) fn new(stream: Arc<str>, spec: SceneSpec, left_out: Counter) -> Self {
        Self {
            stream,
            spec,
            scene: None,
            change: ChangeMeter::default(),
            began: Instant::now(),
            next: 0,
            given: 0,
            last_pts: None,
            left_out,
        }
    }

    /// What comes next, once its time has come; `None` where the reader was told to stop.
    pub(super) fn next(&mut self, stop: &AtomicBool) -> Option<SourceEvent> {
        if self.scene.is_none() {
            self.scene = Some(Scene::new(&self.spec));
            self.began = Instant::now();
            return Some(SourceEvent::Started(StreamInfo {
                size: self.spec.size,
                rate: self.spec.rate,
                format: crate::flow::PixelFormat::Nv12,
                codec: None,
                decoder: "rendered".into(),
                live: true,
            }));
        }
        if self.spec.frames().is_some_and(|frames| self.next >= frames) {
            return Some(SourceEvent::Ended);
        }
        self.catch_up();
        let due = self.began + Duration::from_nanos(self.spec.pts(self.next));
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if stop.load(Ordering::Acquire) {
                return None;
            }
            // The reader's owner unparks it when it is to stop.
            std::thread::park_timeout(left);
        }
        self.render()
    }

    /// Leaves out the frames whose successors are due already.
    fn catch_up(&mut self) {
        let period = Duration::from_nanos(self.spec.pts(1).max(1));
        let elapsed = self.began.elapsed();
        let late = elapsed.saturating_sub(Duration::from_nanos(self.spec.pts(self.next)));
        let missed = (late.as_nanos() / period.as_nanos()) as u64;
        if missed > 0 {
            self.left_out.add(missed);
            self.next += missed;
        }
    }

    fn render(&mut self) -> Option<SourceEvent> {
        let (picture, truth) = self.scene.as_mut()?.frame(self.next);
        let change = self.change.measure(&picture);
        let period = self.spec.pts(1);
        // As for a camera: half a second without frames is a gap, a few lost frames are not.
        let missing = self.last_pts.map_or(0, |last| (truth.pts - last).saturating_sub(period));
        let meta = FrameMeta {
            stream: Arc::clone(&self.stream),
            index: self.given,
            pts: truth.pts,
            captured: Timestamp::now().0,
            width: picture.size.width,
            height: picture.size.height,
            cut: change.cut,
            motion: change.motion,
            gap: if missing > 500_000_000 { missing } else { 0 },
        };
        self.next += 1;
        self.given += 1;
        self.last_pts = Some(truth.pts);
        Some(SourceEvent::Frame(Frame { meta, pixels: picture }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finite_scene_starts_plays_in_order_and_ends() {
        let spec = SceneSpec::parse("scene://people?seed=3&size=64x36&fps=100&seconds=0.1").unwrap();
        let mut feed = SceneFeed::new(Arc::from("s"), spec, Counter::new());
        let stop = AtomicBool::new(false);
        assert!(matches!(feed.next(&stop), Some(SourceEvent::Started(info)) if info.live));
        let mut frames = Vec::new();
        while let Some(SourceEvent::Frame(frame)) = feed.next(&stop) {
            frames.push(frame.meta);
        }
        assert!(!frames.is_empty() && frames.len() <= 10);
        assert_eq!(frames.len() as u64 + feed.left_out.get(), 10);
        assert!(
            frames.windows(2).all(|pair| pair[0].index + 1 == pair[1].index && pair[0].pts < pair[1].pts)
        );
    }

    #[test]
    fn a_stop_is_noticed_while_waiting() {
        let spec = SceneSpec::parse("scene://people?seed=3&size=64x36&fps=1").unwrap();
        let mut feed = SceneFeed::new(Arc::from("s"), spec, Counter::new());
        assert!(feed.next(&AtomicBool::new(false)).is_some());
        assert!(feed.next(&AtomicBool::new(false)).is_some());
        assert!(feed.next(&AtomicBool::new(true)).is_none());
    }
}
