//! A model on the CUDA lane that ONNX Runtime runs on the GPU: tensors, inference and the choice of candidates stay there.
//!
//! In: what preprocessing left of frames and windows. Out: objects and scores. Everything goes on one stream of the
//! model's own, in order: the kernel fills the input that ONNX Runtime owns and bound once, the run, the kernel that
//! chooses candidates; only those come back. Outputs that no kernel decodes are copied to the host by ONNX Runtime. While
//! TensorRT's engine is being built CUDA serves; the engine takes its place between two runs. Owned by the model's
//! thread. A failed run fails its batch alone.

use super::CudaShared;
use super::engines::{Better, Served};
use super::tensor::{CudaTensor, Jobs, Memory, bytes_of, fill};
use crate::config::manifest::Layout;
use crate::flow::{ElementType, Letterbox, Objects, Run, Tensor};
use crate::gpu::params::{Geometry, Job, Sink};
use crate::gpu::{Buffer, GpuError, Pinned, Rows, Stream, argument};
use crate::infer::{BoundSession, DeviceTensor, EngineInUse, Placement, Slot};
use crate::pipeline::lane::{Engine, Serving};
use crate::pipeline::model::{Answer, Input, answer};
use crate::postprocess::{Boxes, Decoder, Layout as Outputs};
use crate::publish::messages::ModelEngineState;

/// Records that come back with the counters, for each batch entry; where there are more, the rest is fetched.
const FIRST: usize = 512;

/// A model that the GPU runs.
pub(super) struct BoundEngine {
    /// Before the stream, which outlives it.
    session: BoundSession,
    /// TensorRT's, where that runs it.
    in_use: Option<EngineInUse>,
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
    stream: Stream,
}

/// What the kernel chose.
struct Candidates {
    boxes: Boxes,
    kept: Buffer,
    counters: Buffer,
    records: Buffer,
    /// Counters first, then each entry's first records.
    host: Pinned,
    /// Candidates of each entry of the last run, and their records.
    found: Vec<(i32, Vec<u32>)>,
}

impl BoundEngine {
    /// For an opened session, whose outputs lie on the device where a kernel decodes them.
    pub(super) fn new(
        stream: Stream,
        served: Served,
        decoder: Decoder,
        layout: Layout,
        geometry: Geometry,
        shared: &CudaShared,
        serving: Serving,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let Served { mut session, in_use, better } = served;
        let candidates = Candidates::new(&mut session, &decoder, shared, &stream)?;
        if candidates.is_none() {
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
            better,
            serving,
            decoder,
            candidates,
            geometry,
            layout,
            stream,
        })
    }

    /// Takes TensorRT's session in CUDA's place, once there is one. Between two runs: nothing that was asked for is lost.
    fn look_for_better(&mut self) {
        let Some(better) = &mut self.better else { return };
        let Some(outcome) = better() else { return };
        self.better = None;
        let taken = outcome.and_then(|mut ready| {
            if self.candidates.is_none() {
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
                        let Some(made) = &tensor.made else { continue };
                        let Memory::Device(from) = &made.memory else { continue };
                        self.stream.wait(&made.ready)?;
                        let (run, rows) = match self.layout {
                            Layout::Ncthw => {
                                let channels = self.geometry.channels as usize;
                                (bytes / count / channels, channels)
                            }
                            _ => (bytes / count, 1),
                        };
                        let address = to + (index * bytes + frame * run) as u64;
                        let from = Rows { address: from.address(), pitch: run };
                        self.stream.copy(Rows { address, pitch: run * count }, from, run, rows)?;
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

    fn decode(&mut self, slot: &Slot) -> Result<(), Box<dyn std::error::Error>> {
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
        let outcome = (|| -> Result<(), Box<dyn std::error::Error>> {
            let mut slot = self.session.slot(inputs.len())?;
            self.gather(inputs, slot.address())?;
            self.session.run(&mut slot)?;
            self.decode(&slot)
        })();
        // In any case: the inputs are let go, and the slot is used again.
        let waited = self.stream.synchronize();
        outcome.map_err(|error| error.to_string())?;
        waited.map_err(|error| error.to_string())
    }

    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String> {
        let Some(candidates) = &self.candidates else {
            return Ok(answer(&mut self.decoder, &self.outputs, entry, letterbox, run));
        };
        let (counter, records) = candidates.found.get(entry).ok_or("no candidates of this entry")?;
        let mut objects = Objects::default();
        self.decoder
            .found(&candidates.boxes, *counter, records, letterbox, run.model, &mut objects)
            .map_err(|error| error.to_string())?;
        Ok(Answer::Objects(objects))
    }
}

impl Candidates {
    /// `None` where no kernel decodes the outputs.
    fn new(
        session: &mut BoundSession,
        decoder: &Decoder,
        shared: &CudaShared,
        stream: &Stream,
    ) -> Result<Option<Self>, Box<dyn std::error::Error + Send + Sync>> {
        let batch = session.batch();
        let trial = session.slot(batch).and_then(|mut slot| {
            session.run_and_wait(&mut slot)?;
            session.outputs(&slot).map(<[DeviceTensor]>::to_vec)
        })?;
        let floats = trial.iter().all(|output| output.element == Some(ElementType::F32));
        let addresses: Vec<u64> = trial.iter().map(|output| output.address).collect();
        let Some(boxes) = decoder.boxes(&addresses).filter(|_| floats) else { return Ok(None) };
        let (device, classes) = (&shared.device, decoder.kept());
        let kept = Buffer::new(device, classes.len())?;
        let to = Rows { address: kept.address(), pitch: classes.len() };
        stream.upload(&shared.tables, to, &classes, classes.len(), classes.len(), 1)?;
        shared.tables.copies.inc();
        stream.synchronize()?;
        let first = boxes.anchors.min(FIRST) * boxes.record();
        Ok(Some(Self {
            counters: Buffer::new(device, batch * size_of::<i32>())?,
            records: Buffer::new(device, boxes.words(batch) * size_of::<u32>())?,
            host: Pinned::new(device, batch * (1 + first) * size_of::<u32>())?,
            found: Vec::new(),
            boxes,
            kept,
        }))
    }

    /// Launches the kernel on a run's outputs, and fetches what it found.
    fn choose(
        &mut self,
        decoder: &Decoder,
        outputs: &[DeviceTensor],
        entries: usize,
        shared: &CudaShared,
        stream: &Stream,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let addresses: Vec<u64> = outputs.iter().map(|output| output.address).collect();
        self.boxes = decoder.boxes(&addresses).ok_or("the outputs are not those of the trial run")?;
        let boxes = &self.boxes;
        stream.clear(self.counters.address(), entries * size_of::<i32>())?;
        let sink = Sink {
            counters: self.counters.address(),
            records: self.records.address(),
            kept: self.kept.address(),
            ..boxes.sink
        };
        let (threads, count) = ([boxes.anchors as u32, entries as u32, 1], entries as i32);
        let launch = |layout| {
            stream.launch(boxes.layout.kernel(), threads, &[layout, argument(&sink), argument(&count)])
        };
        match &boxes.layout {
            Outputs::Rows(rows) | Outputs::Corners(rows) => launch(argument(rows)),
            Outputs::Columns(columns) => launch(argument(columns)),
            Outputs::Grids(grids) => launch(argument(&**grids)),
        }?;
        let (word, record) = (size_of::<u32>(), boxes.record());
        let first = boxes.anchors.min(FIRST) * record;
        let all = boxes.anchors * record * word;
        let (counters, records) = self.host.bytes_mut().split_at_mut(entries * word);
        let from = Rows { address: self.counters.address(), pitch: counters.len() };
        let meter = &shared.candidates;
        stream.download(meter, counters, entries * word, from, entries * word, 1)?;
        let from = Rows { address: self.records.address(), pitch: all };
        stream.download(meter, records, first * word, from, first * word, entries)?;
        stream.synchronize()?;
        meter.copies.inc();
        let words: &[u32] = self.host.values(entries * (1 + first));
        let (counters, records) = words.split_at(entries);
        self.found.clear();
        for (index, (counter, records)) in counters.iter().zip(records.chunks_exact(first)).enumerate() {
            let found = (counter.cast_signed().max(0) as usize).min(boxes.anchors);
            let mut words = records[..(found * record).min(first)].to_vec();
            if found * record > first {
                // Rare: a threshold near zero, or a picture full of objects.
                let mut rest = Pinned::new(&shared.device, found * record * word)?;
                let len = rest.len();
                let from = Rows { address: self.records.address() + (index * all) as u64, pitch: len };
                stream.download(meter, rest.bytes_mut(), len, from, len, 1)?;
                stream.synchronize()?;
                words = rest.values(found * record).to_vec();
            }
            self.found.push((counter.cast_signed(), words));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
