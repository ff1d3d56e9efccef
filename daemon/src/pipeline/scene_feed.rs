//! A rendered scene as a live source.
//!
//! In: a scene's spec. Out: [`SourceEvent`]s, as from a camera: a few frames left out are no
//! gap. Owned by the stream's reader, on whose thread it renders.

use super::inbox::SourceEvent;
use crate::flow::{Decoded, Frame, PixelFormat, StreamInfo};
use crate::scene::{LiveScene, LiveStop, SceneSpec};
use crate::telemetry::Counter;

/// Stream time without frames that is a gap, nanoseconds: as for a camera.
const GAP: u64 = 500_000_000;

/// A scene that plays.
pub(super) struct SceneFeed {
    stream: String,
    spec: SceneSpec,
    stop: LiveStop,
    /// Planned when the first frame is wanted: that takes a moment.
    scene: Option<LiveScene>,
    left_out: Counter,
    counted: u64,
}

impl SceneFeed {
    /// A scene that begins with the first call of [`SceneFeed::next`].
    pub(super) fn new(stream: &str, spec: SceneSpec, left_out: Counter) -> Self {
        Self { stream: stream.to_owned(), spec, stop: LiveStop::default(), scene: None, left_out, counted: 0 }
    }

    /// What ends a wait for the next frame, from another thread.
    pub(super) fn stopper(&self) -> LiveStop {
        self.stop.clone()
    }

    /// What comes next, once its time has come. After a stop, and after the last frame, the end.
    pub(super) fn next(&mut self) -> SourceEvent {
        let Some(scene) = &mut self.scene else {
            self.scene = Some(LiveScene::stopped_by(&self.spec, &self.stream, self.stop.clone()));
            return SourceEvent::Started(StreamInfo {
                size: self.spec.size,
                rate: self.spec.rate,
                format: PixelFormat::Nv12,
                codec: None,
                decoder: "rendered".into(),
                on_gpu: false,
                live: true,
            });
        };
        let Some((mut frame, _)) = scene.next() else { return SourceEvent::Ended };
        self.left_out.add(scene.dropped() - self.counted);
        self.counted = scene.dropped();
        if frame.meta.gap < GAP {
            frame.meta.gap = 0;
        }
        SourceEvent::Frame(Frame { meta: frame.meta, pixels: Decoded::Host(frame.pixels) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finite_scene_starts_plays_in_order_and_ends() {
        let spec = SceneSpec::parse("scene://people?seed=3&size=160x90&fps=10&seconds=1").unwrap();
        let mut feed = SceneFeed::new("s", spec, Counter::new());
        assert!(matches!(feed.next(), SourceEvent::Started(info) if info.live));
        let mut frames = Vec::new();
        while let SourceEvent::Frame(frame) = feed.next() {
            frames.push(frame.meta);
        }
        assert_eq!(frames.len() as u64 + feed.left_out.get(), 10);
        assert!(
            frames.windows(2).all(|pair| pair[0].index + 1 == pair[1].index && pair[0].pts < pair[1].pts)
        );
    }

    #[test]
    fn a_stop_ends_it() {
        let spec = SceneSpec::parse("scene://people?seed=3&size=160x90&fps=1").unwrap();
        let mut feed = SceneFeed::new("s", spec, Counter::new());
        assert!(matches!(feed.next(), SourceEvent::Started(_)));
        assert!(matches!(feed.next(), SourceEvent::Frame(_)));
        feed.stopper().stop();
        assert!(matches!(feed.next(), SourceEvent::Ended));
    }
}
