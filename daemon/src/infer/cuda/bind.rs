//! Binding and running: how a slot's memory meets ONNX Runtime.
//!
//! In: a session's blocks of memory, a slot's number, how many entries. Out: bindings, made once for each slot and number
//! of entries and kept in the slot's seat; runs over them. Outputs whose shapes the graph declares lie in the session's
//! own block; others are ONNX Runtime's to allocate in each run. Fails with ONNX Runtime's words.

use std::time::Instant;

use ort::session::RunOptions;
use ort::value::DynTensorValueType;

use super::memory;
use super::raw::{Block, View};
use super::slot::{Bound, Output, Seat};
use super::{BoundSession, DeviceTensor, Graphs, Placement};
use crate::flow::{ElementType, Tensor};
use crate::infer::InferError;

/// Offsets of outputs in their block are multiples of this, as CUDA's own allocations are.
const ALIGNMENT: usize = 256;

impl BoundSession {
    /// Empties the seats, and takes memory for the outputs at their placement.
    pub(super) fn reseat(&mut self) -> Result<(), InferError> {
        self.seats = (0..self.options.slots).map(|_| Seat::default()).collect();
        self.results = None;
        let mut stride = 0_usize;
        for output in &mut self.outputs {
            let Some((element, shape)) = output.shape(self.batch) else { continue };
            output.offset = stride;
            let bytes = element.byte_size(shape.iter().product()).unwrap_or(0);
            stride = (stride + bytes).next_multiple_of(ALIGNMENT);
        }
        self.results_stride = stride;
        if stride > 0 {
            let allocator = memory::allocator(&self.inner, &self.options, self.options.outputs)?;
            self.results = Some(Block::new(allocator, stride * self.options.slots)?);
        }
        Ok(())
    }

    /// Runs it for the first time. Where an output is not as the graph says, none is taken at its word any more.
    pub(super) fn try_out(&mut self) -> Result<(), InferError> {
        let begin = Instant::now();
        if let Err(error) = self.run_seat(0, self.batch, true) {
            let fixed = self.outputs.iter().any(|output| output.fixed.is_some());
            if !fixed || self.graphs == Graphs::On {
                return Err(error);
            }
            self.outputs.iter_mut().for_each(|output| output.fixed = None);
            self.reseat()?;
            self.run_seat(0, self.batch, true)?;
        }
        self.first_run = begin.elapsed();
        let zeros = |tensor: &DeviceTensor| Tensor::zeros(ElementType::F32, &tensor.shape);
        self.trial = self.seats[0].tensors.iter().map(zeros).collect();
        Ok(())
    }

    /// Runs each slot once where runs are recorded, so that none is recorded while others use the GPU.
    pub(super) fn record(&mut self) -> Result<(), InferError> {
        if self.graphs == Graphs::On {
            for index in 0..self.options.slots {
                self.run_seat(index, self.batch, true)?;
            }
        }
        Ok(())
    }

    /// Runs a slot's memory, and waits for the end where that is wanted.
    pub(super) fn run_seat(&mut self, index: usize, entries: usize, wait: bool) -> Result<(), InferError> {
        if !self.seats[index].bound.contains_key(&entries) {
            let bound = self.bind(index, entries)?;
            self.seats[index].bound.insert(entries, bound);
        }
        let seat = &mut self.seats[index];
        seat.entries = 0;
        let Some(bound) = seat.bound.get_mut(&entries) else {
            return Err(InferError::Slot("the slot is not bound".into()));
        };
        // Bound anew in each run: else the last run's memory would be written again, and have to be as large.
        for output in self.outputs.iter().filter(|output| output.fixed.is_none()) {
            let info = memory::placed(&self.options)?;
            bound.binding.bind_output_to_device(output.name.as_str(), &info)?;
        }
        let options = if wait { &bound.waited } else { &bound.queued };
        let mut values = self.inner.run_binding_with_options(&bound.binding, options)?;
        seat.tensors.clear();
        seat.loose.clear();
        for (output, view) in self.outputs.iter().zip(&bound.outputs) {
            if let Some(view) = view {
                seat.tensors.push(memory::described(view.tensor()));
                seat.loose.push(None);
            } else {
                let value = values
                    .remove(&output.name)
                    .ok_or_else(|| InferError::Ort(format!("the run gave no output `{}`", output.name)))?;
                let value = value.downcast::<DynTensorValueType>()?;
                seat.tensors.push(memory::described(&value));
                seat.loose.push(Some(value));
            }
        }
        seat.entries = entries;
        Ok(())
    }

    /// Binds a slot's memory to a number of entries.
    fn bind(&self, index: usize, entries: usize) -> Result<Bound, InferError> {
        let mut binding = self.inner.create_binding()?;
        let shape = self.graph.input.shape(entries);
        let input = View::new(
            &self.input,
            index * self.stride,
            memory::ort_element(self.graph.input.element),
            &shape,
        )?;
        binding.bind_input(self.graph.input.name.as_str(), input.tensor())?;
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            let view = match (output.shape(entries), &self.results) {
                (Some((element, shape)), Some(block)) => {
                    let offset = index * self.results_stride + output.offset;
                    let mut view = View::new(block, offset, element, &shape)?;
                    binding.bind_output(output.name.as_str(), view.tensor_mut())?;
                    Some(view)
                }
                _ => None,
            };
            outputs.push(view);
        }
        let (mut queued, mut waited) = (RunOptions::new()?, RunOptions::new()?);
        // Whoever handed a stream in waits for what he queued there. Copies to the host are waited for here.
        if self.options.compute_stream.is_some() && self.options.outputs == Placement::Device {
            queued.disable_device_sync()?;
        }
        if self.graphs == Graphs::On {
            // A recorded run is bound to its addresses, which are this slot's; copies to the host are not recorded.
            let id = if self.options.outputs == Placement::Device { index as i64 + 1 } else { -1 };
            queued.set("gpu_graph_id", id.to_string())?;
            waited.set("gpu_graph_id", id.to_string())?;
        }
        Ok(Bound { binding, queued, waited, _input: input, outputs })
    }
}

/// The outputs as the graph declares them.
pub(super) fn declared(session: &ort::session::Session) -> Vec<Output> {
    let outputs = session.outputs().iter().map(|outlet| {
        let element = outlet.dtype().tensor_type();
        let axes = outlet.dtype().tensor_shape().map(|shape| shape.to_vec());
        let fixed = element.zip(axes).filter(|(element, axes)| {
            axes.len() > 1 && axes[1..].iter().all(|axis| *axis > 0) && element.byte_size(1).is_some()
        });
        Output { name: outlet.name().to_owned(), fixed, offset: 0 }
    });
    outputs.collect()
}
