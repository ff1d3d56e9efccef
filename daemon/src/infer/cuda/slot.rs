//! The ring of slots: who has which, and what each was last run with.
//!
//! In: a session's outputs, how many slots. Out: [`Slot`]s, each in one hand at a time, and the bindings that belong to
//! each. The session owns the seats; a slot that is dropped is free again. A slot keeps the memory it points to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ort::session::{IoBinding, RunOptions};
use ort::value::{DynTensor, TensorElementType};

use super::DeviceTensor;
use super::raw::{Block, View};
use crate::flow::Tensor;

/// Which slots are in somebody's hands.
#[derive(Debug)]
pub(super) struct Ring {
    taken: Vec<AtomicBool>,
}

impl Ring {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { taken: (0..slots).map(|_| AtomicBool::new(false)).collect() })
    }

    /// Takes the first free slot from this one on.
    pub(super) fn take(&self, from: usize) -> Option<usize> {
        let count = self.taken.len();
        (0..count)
            .map(|step| (from + step) % count)
            .find(|index| !self.taken[*index].swap(true, Ordering::Acquire))
    }

    /// Whether all are free.
    pub(super) fn idle(&self) -> bool {
        self.taken.iter().all(|taken| !taken.load(Ordering::Acquire))
    }
}

/// A model's input, to be filled and run; dropped, it is free for the next.
///
/// Whoever fills or reads by a stream of the GPU may drop it as soon as that work is queued, where the next one who fills
/// it queues on the same stream.
#[derive(Debug)]
pub struct Slot {
    pub(super) index: usize,
    pub(super) entries: usize,
    pub(super) address: u64,
    pub(super) bytes: usize,
    pub(super) ran: bool,
    pub(super) ring: Arc<Ring>,
    pub(super) _memory: Arc<Block>,
}

impl Slot {
    /// Where the input lies: in video memory, or in the host's where the CPU runs the model. Of the ring's slots each
    /// has an address of its own, which stays.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes of the input that a run reads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Batch entries it was taken for.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ring.taken[self.index].store(false, Ordering::Release);
    }
}

/// An output as it is bound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    pub(super) name: String,
    /// Where the graph says its element type and its axes but for the batch, so that its memory can be bound once: those
    /// axes. Else ONNX Runtime allocates it in each run.
    pub(super) fixed: Option<(TensorElementType, Vec<i64>)>,
    /// Where it lies in a slot's part of the block.
    pub(super) offset: usize,
}

impl Output {
    /// The shape with so many entries, where it is fixed.
    pub(super) fn shape(&self, entries: usize) -> Option<(TensorElementType, Vec<usize>)> {
        let (element, axes) = self.fixed.as_ref()?;
        let length = |axis: &i64| usize::try_from(*axis).unwrap_or(entries);
        Some((*element, axes.iter().map(length).collect()))
    }
}

/// What binds a slot to a number of entries.
pub(super) struct Bound {
    /// Before the views: it goes first.
    pub(super) binding: IoBinding,
    /// For a run that is queued, where a stream was handed in.
    pub(super) queued: RunOptions,
    /// For a run that is over when it returns.
    pub(super) waited: RunOptions,
    pub(super) _input: View,
    /// Those outputs whose memory is bound.
    pub(super) outputs: Vec<Option<View>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("binding", &self.binding)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// What the session keeps of a slot.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// By entries.
    pub(super) bound: BTreeMap<usize, Bound>,
    /// Entries of the last run that went well.
    pub(super) entries: usize,
    /// Outputs of the last run that ONNX Runtime allocated.
    pub(super) loose: Vec<Option<DynTensor>>,
    /// Where the outputs of the last run lie.
    pub(super) tensors: Vec<DeviceTensor>,
    /// The outputs of the last run as floats on the host, where they were asked for.
    pub(super) host: Vec<Tensor>,
}

impl Seat {
    /// An output of the last run.
    pub(super) fn output(&self, index: usize) -> Option<&DynTensor> {
        let bound = self.bound.get(&self.entries)?;
        let fixed = bound.outputs.get(index)?.as_ref().map(View::tensor);
        fixed.or_else(|| self.loose.get(index)?.as_ref())
    }
}
