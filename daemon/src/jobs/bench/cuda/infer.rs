//! Inference for the CUDA lane: its engine on an input that lies there already, and the session alone.
//!
//! In: a model's folder, pictures. Out: what a frame costs, from the call until what was found is on the host; with batches
//! a run is as many frames as it takes. The kernel that fills the input is measured as preprocessing. Owns the engine.
//! While TensorRT's engine is being built nothing is measured.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::Lab;
use crate::flow::{Lent, Letterbox, Rect, Run};
use crate::infer::{ModelDir, Runtime, SessionOptions};
use crate::jobs::bench::cost::{Cost, run_for};
use crate::jobs::bench::interrupt::Stop;
use crate::jobs::bench::subject::Subject;
use crate::jobs::bench::video::Video;
use crate::pipeline::lane::{CudaEngine, CudaModel, CudaTensor, Engine, Feed, Lane, Order, Serving};
use crate::pipeline::model::Input;

/// As many runs fill every slot that an engine may have.
const SLOTS: usize = 8;
/// How often a build is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The engine, and the session alone.
pub(super) struct Parts {
    model: CudaModel,
    serving: Serving,
    letterbox: Letterbox,
    /// Inputs that leave what lies there.
    ready: Vec<Input<CudaTensor>>,
    /// Last: memory goes before the lane.
    pub(super) lab: Lab,
}

impl Parts {
    pub(super) fn open(subject: &Subject, lab: Lab, stop: &Stop) -> anyhow::Result<Self> {
        let model = subject.settings.models.get(&subject.model).context("no model in the settings")?;
        let runtime = Runtime::load(subject.settings.infer.library.as_deref())?;
        let folder = crate::pipeline::find_model(&subject.settings, &subject.model)?;
        let mut dir = ModelDir::open(&folder)?.in_numbers(model.precision)?;
        let serving = Serving::default();
        let order = Order {
            serving: &serving,
            name: &subject.model,
            options: SessionOptions { threads: model.threads, batch: model.batch },
            threshold: model.threshold,
            infer: &subject.settings.infer,
            cache: &subject.settings.paths.cache,
        };
        let opened = lab.shared.loader().model(&runtime, &mut dir, &order);
        // Its text names its causes.
        let mut model = opened.map_err(|error| anyhow::anyhow!("{error}"))?;
        if model.engine.is_building() {
            eprintln!("building TensorRT's engine");
        }
        while model.engine.is_building() {
            stop.wait(LOOK)?;
        }
        let none = || Input::Frame(Lent::from(CudaTensor::default()));
        // Of a two-stage clip model the backbone is measured, as on the CPU: one frame.
        let entries = if dir.manifest.head.is_some() { 1 } else { model.batch };
        let ready = (0..entries).map(|_| none()).collect();
        let letterbox = Letterbox { source: Rect::default(), target: Rect::default() };
        Ok(Self { model, serving, letterbox, ready, lab })
    }

    /// Every entry of every slot becomes the first picture.
    pub(super) fn fill(&mut self, video: &Video) -> anyhow::Result<()> {
        let surface = self.lab.surfaces(&video.pictures[..1])?.pop().context("no picture")?;
        let rect = Rect::of_size(surface.picture().size);
        let mut preprocess = self.lab.lane.preprocessor(&self.model.feed)?;
        for _ in 0..SLOTS {
            let mut inputs = Vec::new();
            for _ in 0..self.model.batch {
                let mut tensor = Lent::from(CudaTensor::default());
                self.letterbox = self.lab.lane.preprocess(&mut preprocess, &surface, &rect, &mut tensor)?;
                inputs.push(match self.model.feed.manifest.window {
                    None => Input::Frame(tensor),
                    Some(window) => {
                        let tensor = Arc::new(tensor);
                        Input::Window(vec![tensor; window.frames.max(1)])
                    }
                });
            }
            self.model.engine.run(&inputs).map_err(anyhow::Error::msg)?;
        }
        self.lab.ready()
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.model.feed
    }

    pub(super) fn on_gpu(&self) -> bool {
        matches!(self.model.engine, CudaEngine::Gpu(_))
    }

    pub(super) fn by(&self) -> String {
        self.serving.edge().0
    }

    pub(super) fn part(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        if self.model.feed.manifest.head.is_some() {
            return self.floor(time, stop);
        }
        let Self { model, letterbox, ready, lab, .. } = self;
        let run = Run { model: 0, begin: 0, end: 0 };
        run_for(time, stop, || {
            model.engine.run(ready).map_err(anyhow::Error::msg)?;
            for entry in 0..ready.len() {
                model.engine.answer(entry, letterbox, run).map_err(anyhow::Error::msg)?;
            }
            lab.frames += ready.len() as u64;
            Ok(ready.len() as u64)
        })
    }

    pub(super) fn floor(&mut self, time: Duration, stop: &Stop) -> anyhow::Result<Cost> {
        let entries = self.ready.len();
        run_for(time, stop, || {
            self.model.engine.alone(entries).map_err(anyhow::Error::msg)?;
            Ok(entries as u64)
        })
    }
}
