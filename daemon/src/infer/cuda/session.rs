//! The session: opening, slots, runs, results.
//!
//! In: a model's folder, options. Out: [`BoundSession`]. It owns ONNX Runtime's session, the memory of all slots and what
//! binds them (bind.rs). Errors name the model, or what was called out of its order.

use std::sync::Arc;
use std::time::Duration;

use super::memory;
use super::raw::{Block, PAGE};
use super::slot::{Output, Ring, Seat};
use super::{BoundOptions, DeviceTensor, Graphs, Placement, Slot, bind, options};
use crate::flow::Tensor;
use crate::infer::graph::{self, Graph, refused};
use crate::infer::output::copy;
use crate::infer::{Features, InferError, InputSpec, ModelDir, Provider, Runtime};

/// A model, opened and bound.
#[derive(Debug)]
pub struct BoundSession {
    /// Before the session: bindings go first.
    pub(super) seats: Vec<Seat>,
    pub(super) inner: ort::session::Session,
    pub(super) graph: Graph,
    pub(super) outputs: Vec<Output>,
    pub(super) input: Arc<Block>,
    /// Bytes from one slot's input to the next's.
    pub(super) stride: usize,
    /// Memory of the outputs whose shapes are known.
    pub(super) results: Option<Arc<Block>>,
    /// Bytes from one slot's outputs to the next's.
    pub(super) results_stride: usize,
    pub(super) trial: Vec<Tensor>,
    pub(super) ring: Arc<Ring>,
    pub(super) next: usize,
    pub(super) batch: usize,
    pub(super) graphs: Graphs,
    pub(super) options: BoundOptions,
    pub(super) first_run: Duration,
}

impl BoundSession {
    /// Opens a model.
    ///
    /// # Errors
    /// Where the provider does not register or refuses the graph, the graph does not fit the manifest, or does not run.
    pub fn open(runtime: &Runtime, model: &ModelDir, options: BoundOptions) -> Result<Self, InferError> {
        let (inner, graphs) = options::commit(runtime, model, &options)?;
        let graph = Graph::read(&inner, model)?;
        let mut options = options;
        options.slots = options.slots.max(1);
        let outputs = bind::declared(&inner);
        if graphs == Graphs::On && options.provider == Provider::TensorRt {
            // It records one run and no more, so there can be but one set of addresses.
            options.slots = 1;
        }
        let batch = graph.batch(options.batch);
        let stride = memory::bytes(graph.input.element, &graph.input.shape(batch)).next_multiple_of(PAGE);
        let input =
            Block::new(memory::allocator(&inner, &options, Placement::Device)?, stride * options.slots)?;
        let mut session = Self {
            seats: Vec::new(),
            ring: Ring::new(options.slots),
            inner,
            graph,
            outputs,
            input,
            stride,
            results: None,
            results_stride: 0,
            trial: Vec::new(),
            next: 0,
            batch,
            graphs,
            options,
            first_run: Duration::ZERO,
        };
        session.reseat()?;
        session.try_out().map_err(|error| {
            let shape = session.graph.input.shape(batch);
            refused(model, graph::trial_failed(&shape, &error))
        })?;
        let shapes = session.trial.iter().map(|output| output.shape.as_slice());
        session.graph.check_batch_axis(shapes, batch).map_err(|problem| refused(model, problem))?;
        session.record()?;
        Ok(session)
    }

    /// What the graph's input takes.
    #[must_use]
    pub fn input(&self) -> &InputSpec {
        &self.graph.input
    }

    /// What the head of the same model takes of this one, its backbone.
    ///
    /// # Errors
    /// Where they do not fit.
    pub fn features(&self, model: &ModelDir, head: &Self) -> Result<Features, InferError> {
        Features::new(model, &self.graph, &self.trial, &head.graph)
    }

    /// Class names, from the manifest or the graph's metadata.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.graph.labels
    }

    /// Most entries that one run takes.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Threads within one run.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.options.threads()
    }

    /// What runs it.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.options.provider
    }

    /// Whether runs are replayed as CUDA graphs.
    #[must_use]
    pub fn graphs(&self) -> &Graphs {
        &self.graphs
    }

    /// Names of the outputs, in the graph's order.
    #[must_use]
    pub fn output_names(&self) -> &[String] {
        &self.graph.names
    }

    /// Zeros of the shapes that the outputs had in the trial run with [`Self::batch`] entries: what a decoder is checked
    /// against.
    #[must_use]
    pub fn trial(&self) -> &[Tensor] {
        &self.trial
    }

    /// How long the trial run took.
    #[must_use]
    pub fn first_run(&self) -> Duration {
        self.first_run
    }

    /// Address and bytes of the memory of all slots' inputs, whole pages: where the CPU runs the model, a driver can map
    /// it for the GPU's kernels.
    #[must_use]
    pub fn memory(&self) -> (u64, usize) {
        (self.input.address(), self.input.bytes())
    }

    /// The same of the outputs whose shapes the graph declares, where there are any.
    #[must_use]
    pub fn results(&self) -> Option<(u64, usize)> {
        self.results.as_ref().map(|block| (block.address(), block.bytes()))
    }

    /// Where the outputs go.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.options.outputs
    }

    /// Says where the outputs go from the next run on.
    ///
    /// # Errors
    /// While a slot is out, and where ONNX Runtime fails; then the session is of no more use.
    pub fn place(&mut self, outputs: Placement) -> Result<(), InferError> {
        if !self.ring.idle() {
            return Err(InferError::Slot("outputs cannot be placed elsewhere while a slot is out".into()));
        }
        if self.graphs == Graphs::On && self.options.provider == Provider::TensorRt {
            let problem =
                "outputs cannot be placed elsewhere once TensorRT has recorded a run as a CUDA graph";
            return Err(InferError::Slot(problem.into()));
        }
        if self.options.outputs != outputs {
            self.options.outputs = outputs;
            self.reseat()?;
            self.record()?;
        }
        Ok(())
    }

    /// Takes a slot for so many batch entries: the next of the ring that is free. Nothing waits.
    ///
    /// A graph of a fixed batch size takes fewer entries too; what the outputs then say beyond those means nothing.
    ///
    /// # Errors
    /// Where that is none or more than [`Self::batch`], or all slots are out.
    pub fn slot(&mut self, entries: usize) -> Result<Slot, InferError> {
        if !(1..=self.batch).contains(&entries) {
            let most = self.batch;
            return Err(InferError::Slot(format!("{entries} entries asked for; a run takes 1 to {most}")));
        }
        let index = self.ring.take(self.next).ok_or_else(|| {
            InferError::Slot(format!("all {} slots are out; drop one first", self.options.slots))
        })?;
        self.next = index + 1;
        Ok(Slot {
            index,
            entries,
            address: self.input.address() + (index * self.stride) as u64,
            bytes: memory::bytes(
                self.graph.input.element,
                &self.graph.input.shape(self.entries_run(entries)),
            ),
            ran: false,
            ring: Arc::clone(&self.ring),
            _memory: Arc::clone(&self.input),
        })
    }

    /// Runs the model on a slot. On a stream handed in, with the outputs on the device, it is queued and not yet done.
    ///
    /// # Errors
    /// Where the slot is another session's, and where ONNX Runtime fails.
    pub fn run(&mut self, slot: &mut Slot) -> Result<(), InferError> {
        self.run_slot(slot, false)
    }

    /// As [`Self::run`], and over when the model is done, on whichever stream.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_and_wait(&mut self, slot: &mut Slot) -> Result<(), InferError> {
        self.run_slot(slot, true)
    }

    fn run_slot(&mut self, slot: &mut Slot, wait: bool) -> Result<(), InferError> {
        self.check(slot)?;
        slot.ran = false;
        self.run_seat(slot.index, self.entries_run(slot.entries), wait)?;
        slot.ran = true;
        Ok(())
    }

    /// Where the outputs of a slot's last run lie, in the order of [`Self::output_names`].
    ///
    /// # Errors
    /// Where the slot was not run, or is another session's.
    pub fn outputs(&self, slot: &Slot) -> Result<&[DeviceTensor], InferError> {
        self.check_ran(slot)?;
        Ok(&self.seats[slot.index].tensors)
    }

    /// Whether an output, by its index in [`Self::output_names`], is bound once and stays where it is; else ONNX Runtime
    /// allocates it in each run.
    #[must_use]
    pub fn stays(&self, output: usize) -> bool {
        self.outputs.get(output).is_some_and(|output| output.fixed.is_some())
    }

    /// The outputs of a slot's last run in 32-bit floats, whatever the graph's element type, as
    /// [`crate::infer::Session::run`] gives them.
    ///
    /// # Errors
    /// Where the slot was not run, or is another session's; where the outputs lie in video memory ([`Self::place`]); and
    /// where an output is of no number that a decoder takes.
    pub fn host_outputs(&mut self, slot: &Slot) -> Result<&[Tensor], InferError> {
        self.check_ran(slot)?;
        if self.options.on_gpu() && self.options.outputs == Placement::Device {
            return Err(InferError::Slot("the outputs lie in video memory; place them on the host".into()));
        }
        let seat = &mut self.seats[slot.index];
        let mut host = std::mem::take(&mut seat.host);
        host.resize_with(self.outputs.len(), Tensor::default);
        for (index, output) in self.outputs.iter().enumerate() {
            let value = seat.output(index).ok_or_else(|| InferError::Slot("an output is gone".into()))?;
            copy(value, &mut host[index], &output.name)?;
        }
        seat.host = host;
        Ok(&seat.host)
    }

    /// Entries that ONNX Runtime is given for so many.
    fn entries_run(&self, entries: usize) -> usize {
        self.graph.input.batch.unwrap_or(entries)
    }

    fn check(&self, slot: &Slot) -> Result<(), InferError> {
        if Arc::ptr_eq(&slot.ring, &self.ring) {
            return Ok(());
        }
        Err(InferError::Slot("the slot is another session's".into()))
    }

    fn check_ran(&self, slot: &Slot) -> Result<(), InferError> {
        self.check(slot)?;
        if slot.ran {
            Ok(())
        } else {
            Err(InferError::Slot("the slot was not run since it was taken".into()))
        }
    }
}
