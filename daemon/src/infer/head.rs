//! The head of a two-stage clip model on the CPU, and the features that its windows share.
//!
//! In: windows' frames, and what the backbone gave of those that were [`Head::wanting`]. Out: the head's outputs, a window
//! an entry. Owned by whoever runs the backbone, on the same thread. A head that does not fit its backbone is refused when
//! it is opened; a run fails as any session's does.

use std::sync::Arc;

use super::{FeatureRing, Features, InferError, ModelDir, Runtime, Session, SessionOptions, gather};
use crate::flow::{ElementType, Lent, Recycle, Tensor, TensorData};

/// A head, ready to run, and the features of the frames that windows hold.
#[derive(Debug)]
pub struct Head<T: Recycle> {
    session: Session,
    features: Features,
    ring: FeatureRing<T, Tensor>,
    /// Memory of features that are gone.
    spares: Vec<Tensor>,
    /// Windows of features, put together.
    windows: Tensor,
}

impl<T: Recycle> Head<T> {
    /// Opens the head of a model whose backbone was opened; `None` where it has none.
    ///
    /// # Errors
    /// Where the head cannot be read, does not fit the manifest or the backbone, or does not run on zeros.
    pub fn open(
        runtime: &Runtime,
        model: &ModelDir,
        backbone: &Session,
        options: SessionOptions,
    ) -> Result<Option<Self>, InferError> {
        let Some(head) = model.head()? else { return Ok(None) };
        let session = Session::open(runtime, &head, options)?;
        let features = Features::new(model, backbone.graph(), backbone.outputs(), session.graph())?;
        let (ring, spares, windows) = (FeatureRing::default(), Vec::new(), Tensor::default());
        Ok(Some(Self { session, features, ring, spares, windows }))
    }

    /// The head itself.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The frames of these windows that the backbone has not seen yet, each once.
    pub fn wanting<'a>(&mut self, windows: impl IntoIterator<Item = &'a [Arc<Lent<T>>]>) -> Vec<Arc<Lent<T>>>
    where
        T: 'a,
    {
        self.spares.extend(self.ring.prune());
        self.ring.wanting(windows)
    }

    /// Keeps what the backbone gave of some frames, one an entry of its outputs.
    ///
    /// # Errors
    /// Where the outputs are not those of the trial run.
    pub fn keep(&mut self, frames: &[Arc<Lent<T>>], outputs: &[Tensor]) -> Result<(), InferError> {
        let of = &self.features;
        let values = outputs.get(of.output).and_then(Tensor::as_f32).unwrap_or_default();
        if values.len() < frames.len() * of.elements() {
            let problem = format!("the backbone gave {} features of {} frames", values.len(), frames.len());
            return Err(InferError::Ort(problem));
        }
        for (frame, values) in frames.iter().zip(values.chunks_exact(of.elements())) {
            let mut kept = self.spares.pop().unwrap_or_default();
            kept.fit(ElementType::F32, &[1, of.outer, of.inner, 1]);
            if let TensorData::F32(kept) = &mut kept.data {
                kept.copy_from_slice(values);
            }
            self.ring.keep(frame, kept);
        }
        Ok(())
    }

    /// Runs the head on windows whose frames all have features; at most as many as its session's batch.
    ///
    /// # Errors
    /// Where a frame has no features, and where ONNX Runtime fails.
    pub fn run(&mut self, windows: &[&[Arc<Lent<T>>]]) -> Result<&[Tensor], InferError> {
        let features = |window: &&[Arc<Lent<T>>]| {
            window.iter().map(|frame| self.ring.get(frame)).collect::<Option<Vec<&Tensor>>>()
        };
        let all: Option<Vec<_>> = windows.iter().map(features).collect();
        let all = all.ok_or_else(|| InferError::Ort("a window's frame has no features".into()))?;
        gather(&all, self.features.layout, &mut self.windows);
        let input = self.session.input();
        self.windows.shape = input.shape(windows.len());
        if input.element == ElementType::F16 {
            let values = self.windows.as_f32().unwrap_or_default();
            let halves = values.iter().map(|value| half::f16::from_f32(*value)).collect();
            let halves = Tensor::new(self.windows.shape.clone(), TensorData::F16(halves));
            return self.session.run(&halves);
        }
        self.session.run(&self.windows)
    }

    /// The head's outputs of the last run.
    #[must_use]
    pub fn outputs(&self) -> &[Tensor] {
        self.session.outputs()
    }
}
