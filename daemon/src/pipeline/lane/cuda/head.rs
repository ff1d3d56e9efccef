//! The head of a two-stage clip model on the GPU, and the features that its windows share: they never leave video memory.
//!
//! In: windows' frames, and where the backbone's outputs for those that were [`DeviceHead::wanting`] lie. Out: the head's
//! outputs on the host, a window an entry. Everything is queued on the model's stream, behind the backbone. Owned by the
//! model's engine. Fails where video memory runs out, or ONNX Runtime does.

use std::sync::Arc;

use super::tensor::{CudaTensor, bytes_of};
use crate::config::manifest::Layout;
use crate::flow::{Lent, Tensor};
use crate::gpu::{Buffer, Rows, Stream};
use crate::infer::{BoundSession, DeviceTensor, FeatureRing, Features, ModelDir, Placement};
use crate::pipeline::model::{Input, window};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A head, ready to run, and the features of the frames that windows hold.
pub(super) struct DeviceHead {
    session: BoundSession,
    features: Features,
    ring: FeatureRing<CudaTensor, Buffer>,
    /// Memory of features that are gone.
    spares: Vec<Buffer>,
    /// Of the last run.
    outputs: Vec<Tensor>,
}

impl DeviceHead {
    /// Of a model whose backbone and head were opened on the same stream.
    pub(super) fn new(
        model: &ModelDir,
        backbone: &BoundSession,
        mut session: BoundSession,
    ) -> Result<Self, Error> {
        let features = backbone.features(model, &session)?;
        session.place(Placement::Host)?;
        let (ring, spares, outputs) = (FeatureRing::default(), Vec::new(), Vec::new());
        Ok(Self { session, features, ring, spares, outputs })
    }

    /// The head itself.
    pub(super) fn session(&self) -> &BoundSession {
        &self.session
    }

    /// The head's outputs of the last run.
    pub(super) fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// The frames of these windows that the backbone has not seen yet, each once.
    pub(super) fn wanting(&mut self, inputs: &[Input<CudaTensor>]) -> Vec<Arc<Lent<CudaTensor>>> {
        self.spares.extend(self.ring.prune());
        self.ring.wanting(inputs.iter().map(window))
    }

    /// Keeps what the backbone gives of some frames, one an entry of its outputs.
    pub(super) fn keep(
        &mut self,
        frames: &[Arc<Lent<CudaTensor>>],
        outputs: &[DeviceTensor],
        stream: &Stream,
    ) -> Result<(), Error> {
        let output = outputs.get(self.features.output).ok_or("the backbone's features are gone")?;
        let bytes = self.bytes();
        for (index, frame) in frames.iter().enumerate() {
            let room = match self.spares.pop() {
                Some(buffer) => buffer,
                None => Buffer::new(stream.device(), bytes)?,
            };
            let from = Rows { address: output.address + (index * bytes) as u64, pitch: bytes };
            stream.copy(Rows { address: room.address(), pitch: bytes }, from, bytes, 1)?;
            self.ring.keep(frame, room);
        }
        Ok(())
    }

    /// Runs the head on windows whose frames all have features, and waits for what it says.
    pub(super) fn run(&mut self, inputs: &[Input<CudaTensor>], stream: &Stream) -> Result<(), Error> {
        let mut slot = self.session.slot(inputs.len())?;
        let bytes = self.bytes();
        for (entry, frames) in inputs.iter().map(window).enumerate() {
            let entry = slot.address() + (entry * frames.len() * bytes) as u64;
            for (time, frame) in frames.iter().enumerate() {
                let from = self.ring.get(frame).ok_or("a window's frame has no features")?.address();
                let (run, rows) = match self.features.layout {
                    Layout::Ncthw => (bytes / self.features.outer, self.features.outer),
                    _ => (bytes, 1),
                };
                let to = Rows { address: entry + (time * run) as u64, pitch: run * frames.len() };
                stream.copy(to, Rows { address: from, pitch: run }, run, rows)?;
            }
        }
        self.session.run(&mut slot)?;
        let outputs = self.session.host_outputs(&slot)?;
        self.outputs.clear();
        self.outputs.extend_from_slice(outputs);
        Ok(())
    }

    /// Of the features of a frame.
    fn bytes(&self) -> usize {
        self.features.elements() * bytes_of(self.features.element)
    }
}
