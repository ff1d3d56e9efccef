//! The models of one stream: which frames each sees, tensors, clip windows.
//!
//! In: a frame, in order. Out: jobs for the models' threads, whose answers come back as messages of the worker's
//! inbox. Owned by the stream's worker. A frame that cannot be preprocessed is counted and said once.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::inbox::Message;
use super::inflight::Found;
use super::lane::{Lane, LaneError};
use super::model::{Answer, Input, Job, Model};
use super::sampler::Sampler;
use crate::config::manifest::Task;
use crate::config::settings::{ModelUse, Sample};
use crate::flow::{Frame, Rect, Run, Size, Spares};
use crate::infer::WindowBuilder;
use crate::publish::messages::Edge;

/// One model as one stream uses it.
struct Use<L: Lane> {
    index: u32,
    model: Arc<Model<L::Tensor>>,
    sampler: Sampler,
    preprocess: L::Preprocess,
    /// Tensors that the model is done with.
    spares: Spares<L::Tensor>,
    window: Option<WindowBuilder<L::Tensor>>,
    /// Clip windows on their way; a live stream whose windows pile up skips new ones.
    windows_in_flight: Arc<std::sync::atomic::AtomicUsize>,
    failed: bool,
}

/// The models of one stream.
pub(super) struct StreamModels<L: Lane> {
    uses: Vec<Use<L>>,
    inbox: Sender<Message>,
}

impl<L: Lane> StreamModels<L> {
    /// The models in the stream's order (by name: their index in `runs`, `objects` and `scores`).
    ///
    /// # Errors
    /// Where a manifest asks for something the lane cannot do.
    pub(super) fn new(
        lane: &L,
        models: Vec<(Arc<Model<L::Tensor>>, ModelUse)>,
        inbox: Sender<Message>,
    ) -> Result<Self, LaneError> {
        let uses = models
            .into_iter()
            .enumerate()
            .map(|(index, (model, settings))| {
                let window = model.feed.manifest.window.filter(|_| model.feed.manifest.task == Task::Clip);
                // A clip model sees frames at its window's rate whatever the sampling says of other models.
                let sample = settings.sample.or(window.map(|window| Sample::Fps(window.fps)));
                Ok(Use {
                    index: index as u32,
                    sampler: Sampler::new(sample),
                    preprocess: lane.preprocessor(&model.feed)?,
                    spares: Spares::default(),
                    window: window.map(WindowBuilder::new),
                    windows_in_flight: Arc::default(),
                    failed: false,
                    model,
                })
            })
            .collect::<Result<_, LaneError>>()?;
        Ok(Self { uses, inbox })
    }

    /// Hands a frame to its models; gives how many answers the frame has to wait for.
    ///
    /// `live`: no window holds a frame back. A file's frame that ends a window waits for its scores: nothing is lost,
    /// and the reader waits for a clip model as for any other.
    /// `busy`: too much is in flight for a live stream; nothing that holds the frame back is started, and what
    /// would have been is counted in the second number.
    ///
    /// # Errors
    /// Where the lane cannot go on with the stream.
    pub(super) fn submit(
        &mut self,
        lane: &L,
        frame: &Frame<L::Pixels>,
        live: bool,
        busy: bool,
    ) -> Result<(usize, usize), LaneError> {
        let (mut waiting, mut skipped) = (0, 0);
        let size = Size::new(frame.meta.width, frame.meta.height);
        for model in &mut self.uses {
            if let Some(window) = &mut model.window
                && (frame.meta.cut || frame.meta.gap > 0)
            {
                window.reset();
            }
            let wanted = match &model.window {
                Some(window) => window.wants(frame.meta.pts),
                None => model.sampler.wants(frame.meta.pts),
            };
            if !wanted {
                continue;
            }
            if busy && model.window.is_none() {
                skipped += 1;
                continue;
            }
            let (rect, mut tensor) = (Rect::of_size(size), model.spares.lend());
            let letterbox = match lane.preprocess(&mut model.preprocess, &frame.pixels, &rect, &mut tensor) {
                Ok(letterbox) => letterbox,
                Err(error @ LaneError::Stream(_)) => return Err(error),
                Err(error) => {
                    if !std::mem::replace(&mut model.failed, true) {
                        tracing::error!(stream = %frame.meta.stream, model = %model.model.name, %error,
                                "a frame cannot be made into the model's input");
                    }
                    continue;
                }
            };
            let inbox = self.inbox.clone();
            let (index, frame_index, pts) = (model.index, frame.meta.index, frame.meta.pts);
            if let Some(window) = &mut model.window {
                let Some(ready) = window.push(pts, tensor) else { continue };
                let in_flight = Arc::clone(&model.windows_in_flight);
                if busy && in_flight.load(std::sync::atomic::Ordering::Relaxed) > 1 {
                    skipped += 1;
                    continue;
                }
                in_flight.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let run = Run { model: index, begin: ready.begin, end: ready.end };
                let holds = (!live).then_some(frame_index);
                waiting += usize::from(!live);
                let done = Box::new(move |answer: Result<Answer, String>| {
                    in_flight.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                    let answer = answer.map(|answer| found(answer).scores);
                    // A worker that has gone needs no answer.
                    let _ = inbox.send(Message::Clip { run, scores: answer, holds });
                });
                model.model.submit(Job { input: Input::Window(ready.frames), letterbox, run, done });
            } else {
                let run = Run { model: index, begin: pts, end: pts };
                let done = Box::new(move |answer: Result<Answer, String>| {
                    let found = answer.map(found);
                    let _ = inbox.send(Message::Found { index: frame_index, model: index, found });
                });
                model.model.submit(Job { input: Input::Frame(tensor), letterbox, run, done });
                waiting += 1;
            }
        }
        Ok((waiting, skipped))
    }

    /// What runs each model.
    pub(super) fn edges(&self) -> Vec<Edge> {
        let edge = |model: &Model<L::Tensor>| {
            let (by, copies) = model.serving.edge();
            Edge { name: format!("infer {}", model.name), by, copies }
        };
        self.uses.iter().map(|model| edge(&model.model)).collect()
    }

    /// Brings a stream's edges up to date: an engine takes the place of what served before it.
    pub(super) fn refresh(&self, edges: &mut [Edge]) {
        for edge in self.edges() {
            if let Some(known) = edges.iter_mut().find(|known| known.name == edge.name) {
                *known = edge;
            }
        }
    }

    /// Forgets unfinished windows: the source was lost, or what it shows changed.
    pub(super) fn reset(&mut self) {
        for window in self.uses.iter_mut().filter_map(|model| model.window.as_mut()) {
            window.reset();
        }
    }
}

fn found(answer: Answer) -> Found {
    match answer {
        Answer::Objects(objects) => Found { objects, scores: Vec::new() },
        Answer::Scores(scores) => Found { objects: Default::default(), scores },
    }
}
