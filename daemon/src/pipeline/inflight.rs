//! The frames in flight of one stream: submitted to their models, completed later, released in order.
//!
//! In: frames, and what their models found. Out: finished frames, in the order in which they came. Owned by the
//! stream's worker; nothing fails.

use std::collections::VecDeque;

use crate::flow::{Frame, Objects, Run, Score};

/// A frame whose models have all answered.
pub(super) struct Finished<P> {
    pub(super) frame: Frame<P>,
    pub(super) runs: Vec<Run>,
    pub(super) objects: Objects,
    pub(super) scores: Vec<Score>,
}

/// What one model found in one frame.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) objects: Objects,
    pub(super) scores: Vec<Score>,
}

struct Slot<P> {
    frame: Frame<P>,
    waiting: usize,
    /// By model; `None` found: the run failed.
    found: Vec<(u32, Found)>,
}

/// The frames in flight, oldest first.
pub(super) struct InFlight<P> {
    slots: VecDeque<Slot<P>>,
    inferring: usize,
}

impl<P> InFlight<P> {
    pub(super) fn new() -> Self {
        Self { slots: VecDeque::new(), inferring: 0 }
    }

    /// Frames that wait, finished or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Frames that wait for a model.
    pub(super) fn inferring(&self) -> usize {
        self.inferring
    }

    /// A frame that waits for `models` answers.
    pub(super) fn push(&mut self, frame: Frame<P>, models: usize) {
        self.inferring += usize::from(models > 0);
        self.slots.push_back(Slot { frame, waiting: models, found: Vec::new() });
    }

    /// One model's answer for the frame with this index; `None` where the run failed.
    pub(super) fn complete(&mut self, index: u64, model: u32, found: Option<Found>) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.frame.meta.index == index) else { return };
        slot.waiting = slot.waiting.saturating_sub(1);
        self.inferring -= usize::from(slot.waiting == 0);
        if let Some(found) = found {
            slot.found.push((model, found));
        }
    }

    /// The oldest frame, once all its models have answered.
    pub(super) fn pop(&mut self) -> Option<Finished<P>> {
        if self.slots.front()?.waiting > 0 {
            return None;
        }
        let slot = self.slots.pop_front()?;
        let mut found = slot.found;
        // Models answer in any order; what plugins see does not depend on it.
        found.sort_by_key(|(model, _)| *model);
        let pts = slot.frame.meta.pts;
        let mut finished = Finished {
            runs: found.iter().map(|(model, _)| Run { model: *model, begin: pts, end: pts }).collect(),
            objects: Objects::default(),
            scores: Vec::new(),
            frame: slot.frame,
        };
        for (_, found) in found {
            finished.objects.extend(&found.objects);
            finished.scores.extend(found.scores);
        }
        Some(finished)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{FrameMeta, Rect};

    fn frame(index: u64) -> Frame<()> {
        let meta = FrameMeta {
            stream: Arc::from("s"),
            index,
            pts: index * 40,
            captured: 0,
            width: 4,
            height: 4,
            cut: false,
            motion: 0.0,
            gap: 0,
        };
        Frame { meta, pixels: () }
    }

    fn found(model: u32) -> Found {
        let mut objects = Objects::default();
        objects.push(model, 0, 0.5, Rect::default());
        Found { objects, scores: Vec::new() }
    }

    #[test]
    fn frames_leave_in_order_whatever_the_order_of_answers() {
        let mut flight = InFlight::new();
        flight.push(frame(0), 2);
        flight.push(frame(1), 1);
        flight.push(frame(2), 0);
        assert_eq!((flight.len(), flight.inferring()), (3, 2));
        flight.complete(1, 0, Some(found(0)));
        assert!(flight.pop().is_none());
        flight.complete(0, 1, Some(found(1)));
        assert!(flight.pop().is_none());
        flight.complete(0, 0, Some(found(0)));
        assert_eq!(flight.inferring(), 0);
        let first = flight.pop().unwrap();
        assert_eq!(first.frame.meta.index, 0);
        assert_eq!(first.objects.models, [0, 1]);
        assert_eq!(first.runs.len(), 2);
        assert_eq!(flight.pop().unwrap().frame.meta.index, 1);
        let last = flight.pop().unwrap();
        assert!(last.runs.is_empty(), "no run is not \"nothing found\"");
        assert!(flight.pop().is_none());
    }

    #[test]
    fn a_failed_run_releases_its_frame_without_a_run() {
        let mut flight = InFlight::new();
        flight.push(frame(0), 1);
        flight.complete(0, 0, None);
        assert!(flight.pop().unwrap().runs.is_empty());
    }
}
