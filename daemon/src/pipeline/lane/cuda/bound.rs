//! A model on the CUDA lane that ONNX Runtime runs on the GPU: tensors, inference and the choice of candidates stay there.
//!
//! In: what preprocessing left of frames and windows. Out: objects and scores. Everything goes on one stream of the
//! model's own, in order: the kernel fills the input that ONNX Runtime owns and bound once, the run, the kernel that
//! chooses candidates; only those come back. Outputs that no kernel decodes are copied to the host by ONNX Runtime. While
//! TensorRT's engine is being built CUDA serves; the engine takes its place between two runs. Owned by the model's
//! thread. A failed run fails its batch alone.

mod candidates;

use candidates::Candidates;

use super::CudaShared;
use super::engines::{Better, Served};
use super::head::DeviceHead;
use super::tensor::{CudaTensor, Jobs, Memory, bytes_of, fill};
use crate::config::manifest::Layout;
use crate::flow::{ElementType, Letterbox, Objects, Run, Tensor};
use crate::gpu::params::{Geometry, Job};
use crate::gpu::{GpuError, Rows, Stream};
use crate::infer::{BoundSession, EngineInUse, Placement, Provider, Slot};
use crate::pipeline::lane::{Engine, Serving};
use crate::pipeline::model::{Answer, Input, answer};
use crate::postprocess::Decoder;
use crate::publish::messages::ModelEngineState;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A model that the GPU runs.
pub struct BoundEngine {
    /// Before the stream, which outlives it.
    session: BoundSession,
    /// TensorRT's, where that runs it.
    in_use: Option<EngineInUse>,
    /// Of a two-stage clip model, whose backbone the session is.
    head: Option<DeviceHead>,
    better: Option<Better>,
    serving: Serving,
    decoder: Decoder,
    shared: CudaShared,
    jobs: Jobs,
    candidates: Option<Candidates>,
    /// Of the last run, where no kernel decodes them.
    outputs: Vec<Tensor>,
    element: ElementType,
    geometry: Geometry,
    layout: Layout,
    /// Elements of a batch entry.
    entry: usize,
    /// Wait after each step: for whoever compares.
    stepwise: bool,
    stream: Stream,
}

impl BoundEngine {
    /// For an opened session, with its head where it is a backbone. Its outputs lie on the device where a kernel decodes
    /// them, or the head takes them.
    pub(super) fn new(
        stream: Stream,
        (served, head): (Served, Option<DeviceHead>),
        decoder: Decoder,
        layout: Layout,
        geometry: Geometry,
        shared: &CudaShared,
        serving: Serving,
    ) -> Result<Self, Error> {
        let Served { mut session, in_use, better } = served;
        let candidates = match head {
            None => Candidates::new(&mut session, &decoder, shared, &stream)?,
            Some(_) => None,
        };
        if candidates.is_none() && head.is_none() {
            session.place(Placement::Host)?;
        }
        let input = session.input();
        Ok(Self {
            jobs: Jobs::new(&shared.device, session.batch())?,
            element: input.element,
            entry: input.shape(1).iter().product(),
            outputs: Vec::new(),
            shared: shared.clone(),
            session,
            in_use,
            head,
            better,
            serving,
            decoder,
            candidates,
            geometry,
            layout,
            stepwise: false,
            stream,
        })
    }

    /// Runs the model, or its backbone, on what a slot holds, and waits.
    pub(super) fn alone(&mut self, inputs: usize) -> Result<(), String> {
        let inputs = inputs.min(self.session.batch());
        let ran = self.session.slot(inputs).and_then(|mut slot| self.session.run(&mut slot));
        let waited = self.stream.synchronize();
        ran.map_err(|error| error.to_string())?;
        waited.map_err(|error| error.to_string())
    }

    /// Whether TensorRT's engine is still being built.
    pub(super) fn is_building(&mut self) -> bool {
        self.look_for_better();
        self.better.is_some()
    }

    /// What runs it.
    pub(super) fn provider(&self) -> Provider {
        self.session.provider()
    }

    /// Address and bytes of what ONNX Runtime owns and the driver copies from and to.
    #[cfg(test)]
    fn memory(&self) -> Vec<(u64, usize)> {
        let mut all = vec![self.session.memory()];
        if let Some(head) = &self.head {
            all.push(head.session().memory());
            all.extend(self.session.results());
        }
        all
    }

    /// Takes TensorRT's session in CUDA's place, once there is one. Between two runs: nothing that was asked for is lost.
    fn look_for_better(&mut self) {
        let Some(better) = &mut self.better else { return };
        let Some(outcome) = better() else { return };
        self.better = None;
        let taken = outcome.and_then(|mut ready| {
            if self.candidates.is_none() && self.head.is_none() {
                ready.session.place(Placement::Host).map_err(|error| error.to_string())?;
            }
            Ok(ready)
        });
        match taken {
            Ok(ready) => {
                tracing::info!(provider = %ready.by, "a model runs on its own engine from here on");
                self.session = ready.session;
                self.in_use = Some(ready.in_use);
                self.serving.by(ready.by, false);
                self.serving.engine(ModelEngineState::Ready, None);
            }
            Err(error) => {
                let by = self.serving.edge().0;
                tracing::warn!(error, by, "a model stays as it is: its engine cannot be used");
                self.serving.engine(ModelEngineState::Failed, Some(error));
            }
        }
    }

    /// Puts the inputs into the slot.
    fn gather(&mut self, inputs: &[Input<CudaTensor>], to: u64) -> Result<(), GpuError> {
        let mut jobs = Vec::with_capacity(inputs.len());
        let bytes = self.entry * bytes_of(self.element);
        for (index, input) in inputs.iter().enumerate() {
            match input {
                Input::Frame(tensor) => {
                    if let Some(source) = &tensor.source {
                        source.surface.wait_on(&self.stream)?;
                        jobs.push(Job { entry: index as i32, ..source.job });
                    }
                }
                Input::Window(frames) => {
                    let count = frames.len();
                    for (frame, tensor) in frames.iter().enumerate() {
                        let (run, rows) = match self.layout {
                            Layout::Ncthw => {
                                let channels = self.geometry.channels as usize;
                                (bytes / count / channels, channels)
                            }
                            _ => (bytes / count, 1),
                        };
                        let address = to + (index * bytes + frame * run) as u64;
                        self.place(tensor, Rows { address, pitch: run * count }, run, rows)?;
                    }
                }
            }
        }
        if !jobs.is_empty() {
            let address = self.jobs.send(&self.stream, &self.shared.tables, &jobs)?;
            fill(&self.stream, self.element, address, jobs.len(), to, &self.geometry)?;
        }
        Ok(())
    }

    fn step(&self) -> Result<(), GpuError> {
        if self.stepwise { self.stream.synchronize() } else { Ok(()) }
    }

    /// The backbone on what it has not seen, then the head.
    fn two_stages(&mut self, head: &mut DeviceHead, inputs: &[Input<CudaTensor>]) -> Result<(), Error> {
        let bytes = self.entry * bytes_of(self.element);
        for frames in head.wanting(inputs).chunks(self.session.batch()) {
            let mut slot = self.session.slot(frames.len())?;
            for (index, frame) in frames.iter().enumerate() {
                let address = slot.address() + (index * bytes) as u64;
                self.place(frame, Rows { address, pitch: bytes }, bytes, 1)?;
            }
            self.session.run(&mut slot)?;
            head.keep(frames, self.session.outputs(&slot)?, &self.stream)?;
        }
        head.run(inputs, &self.stream)
    }

    /// Copies the tensor of a clip's frame, once it is made, in rows of so many bytes.
    fn place(&self, tensor: &CudaTensor, to: Rows, run: usize, rows: usize) -> Result<(), GpuError> {
        let Some(made) = &tensor.made else { return Ok(()) };
        let Memory::Device(from) = &made.memory else { return Ok(()) };
        self.stream.wait(&made.ready)?;
        self.stream.copy(to, Rows { address: from.address(), pitch: run }, run, rows)
    }

    fn decode(&mut self, slot: &Slot) -> Result<(), Error> {
        match &mut self.candidates {
            Some(candidates) => {
                let outputs = self.session.outputs(slot)?;
                candidates.choose(&self.decoder, outputs, slot.entries(), &self.shared, &self.stream)?;
            }
            None => {
                let outputs = self.session.host_outputs(slot)?;
                self.outputs.clear();
                self.outputs.extend_from_slice(outputs);
            }
        }
        Ok(())
    }
}

impl Engine<CudaTensor> for BoundEngine {
    fn run(&mut self, inputs: &[Input<CudaTensor>]) -> Result<(), String> {
        self.look_for_better();
        let outcome = (|| -> Result<(), Error> {
            if let Some(mut head) = self.head.take() {
                let outcome = self.two_stages(&mut head, inputs);
                self.head = Some(head);
                return outcome;
            }
            let mut slot = self.session.slot(inputs.len())?;
            self.gather(inputs, slot.address())?;
            self.step()?;
            self.session.run(&mut slot)?;
            self.step()?;
            self.decode(&slot)
        })();
        // In any case: the inputs are let go, and the slot is used again.
        let waited = self.stream.synchronize();
        outcome.map_err(|error| error.to_string())?;
        waited.map_err(|error| error.to_string())
    }

    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String> {
        let Some(candidates) = &self.candidates else {
            let outputs = self.head.as_ref().map_or(self.outputs.as_slice(), DeviceHead::outputs);
            return Ok(answer(&mut self.decoder, outputs, entry, letterbox, run));
        };
        let (counter, records) = candidates.found.get(entry).ok_or("no candidates of this entry")?;
        let mut objects = Objects::default();
        self.decoder
            .found(&candidates.boxes, *counter, records, letterbox, run.model, &mut objects)
            .map_err(|error| error.to_string())?;
        Ok(Answer::Objects(objects))
    }
}

pub mod trial;

#[cfg(test)]
mod tests;
