//! Features of frames, which the windows of a two-stage clip model share: each is computed once.
//!
//! In: a backbone and a head as they were opened; the frames of windows; what the backbone gave of each, in whatever
//! memory. Out: where the features lie among the backbone's outputs ([`Features`]); which frames have none yet, and those
//! of the others ([`FeatureRing`]). Owned by whoever runs the model. Features go when no window holds their frame any
//! more. A backbone and a head that do not fit are refused in words that name both tensors.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::graph::{Graph, refused};
use super::{InferError, ModelDir};
use crate::config::manifest::{HeadLayout, Layout};
use crate::flow::{ElementType, Lent, Recycle, Tensor};

/// What a backbone gives of each frame for the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Which of the backbone's outputs.
    pub output: usize,
    /// Element type, of both.
    pub element: ElementType,
    /// Length of the first axis after the batch.
    pub outer: usize,
    /// Product of the axes behind it.
    pub inner: usize,
    /// Where a window's time lies among those: as with pictures, after the channels or before.
    pub layout: Layout,
}

impl Features {
    /// What `head` takes of the `backbone` of the same model, whose trial run gave these outputs.
    pub(super) fn new(
        model: &ModelDir,
        backbone: &Graph,
        trial: &[Tensor],
        head: &Graph,
    ) -> Result<Self, InferError> {
        Self::fit(model, backbone, trial, head).map_err(|problem| refused(model, problem))
    }

    fn fit(model: &ModelDir, backbone: &Graph, trial: &[Tensor], head: &Graph) -> Result<Self, String> {
        let manifest = model.manifest.head.as_ref().ok_or("the manifest has no `head`")?;
        let names = &backbone.names;
        let shown = || names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let output = match (&manifest.features, names.as_slice()) {
            (Some(wanted), _) => names.iter().position(|name| name == wanted).ok_or_else(|| {
                format!("the manifest's `head.features` is `{wanted}`; the graph has the outputs {}", shown())
            })?,
            (None, [_]) => 0,
            (None, _) => {
                return Err(format!(
                    "the graph has the outputs {}; name the one that the head takes as `head.features`",
                    shown()
                ));
            }
        };
        let (name, input) = (&names[output], &head.input);
        if input.element == ElementType::U8 {
            return Err(format!("the head's input `{}` takes bytes; expected floats", input.name));
        }
        if backbone.elements[output] != Some(input.element) {
            let is = backbone.elements[output].map_or("something else".into(), |is| format!("{is:?}"));
            return Err(format!(
                "output `{name}` gives {is} elements; the head's input `{}` takes {:?}: export both with the same",
                input.name, input.element
            ));
        }
        let shape = trial.get(output).map(|output| output.shape.as_slice()).unwrap_or_default();
        let [_, outer, inner @ ..] = shape else {
            return Err(format!("output `{name}` is {shape:?}; expected features along a second axis"));
        };
        let (outer, inner) = (*outer, inner.iter().product::<usize>());
        let (takes, layout) = match (manifest.layout, input.axes.as_slice()) {
            (HeadLayout::Ntf, [_, features @ ..]) => {
                ((features.iter().product::<usize>() == outer * inner), Layout::Ntchw)
            }
            (HeadLayout::Nft, [first, _, rest @ ..]) => {
                ((*first, rest.iter().product::<usize>()) == (outer, inner), Layout::Ncthw)
            }
            _ => (false, Layout::Ntchw),
        };
        if !takes {
            return Err(format!(
                "output `{name}` is {:?} of a frame; the head's input `{}` is {:?} of a window: the features do not \
                 fit. Is `head.layout` right?",
                &shape[1..],
                input.name,
                input.axes
            ));
        }
        Ok(Self { output, element: input.element, outer, inner, layout })
    }

    /// Elements of one frame's.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.outer * self.inner
    }
}

/// Features of the frames that windows hold.
#[derive(Debug)]
pub struct FeatureRing<T: Recycle, F> {
    /// By the frame's address, which nothing else can have while the weak reference lives.
    kept: HashMap<usize, (Weak<Lent<T>>, F)>,
}

impl<T: Recycle, F> Default for FeatureRing<T, F> {
    fn default() -> Self {
        Self { kept: HashMap::new() }
    }
}

fn address<T: Recycle>(frame: &Arc<Lent<T>>) -> usize {
    Arc::as_ptr(frame) as usize
}

impl<T: Recycle, F> FeatureRing<T, F> {
    /// The frames of these windows that have no features yet, each once.
    pub fn wanting<'a>(&self, windows: impl IntoIterator<Item = &'a [Arc<Lent<T>>]>) -> Vec<Arc<Lent<T>>>
    where
        T: 'a,
    {
        let mut seen = std::collections::HashSet::new();
        let frames = windows.into_iter().flatten();
        frames
            .filter(|frame| !self.kept.contains_key(&address(frame)) && seen.insert(address(frame)))
            .cloned()
            .collect()
    }

    /// Keeps the features of a frame.
    pub fn keep(&mut self, frame: &Arc<Lent<T>>, features: F) {
        self.kept.insert(address(frame), (Arc::downgrade(frame), features));
    }

    /// The features of a frame, where they were kept.
    #[must_use]
    pub fn get(&self, frame: &Arc<Lent<T>>) -> Option<&F> {
        self.kept.get(&address(frame)).map(|(_, features)| features)
    }

    /// Takes out the features of frames that no window holds any more.
    pub fn prune(&mut self) -> Vec<F> {
        let gone = self.kept.extract_if(|_, (frame, _)| frame.strong_count() == 0);
        gone.map(|(_, (_, features))| features).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::manifest::Window;
    use crate::infer::WindowBuilder;

    #[test]
    fn features_of_each_frame_are_computed_once_and_go_with_it() {
        let mut builder = WindowBuilder::<Tensor>::new(Window { frames: 16, fps: 8.0, hop: 4 });
        let mut ring = FeatureRing::default();
        let (mut computed, mut windows) = (0_u64, 0);
        for index in 0..216_u64 {
            let Some(window) = builder.push(index * 125_000_000, Tensor::default()) else { continue };
            windows += 1;
            ring.prune();
            for frame in ring.wanting([window.frames.as_slice(), window.frames.as_slice()]) {
                ring.keep(&frame, computed);
                computed += 1;
            }
            let found: Vec<u64> = window.frames.iter().map(|frame| *ring.get(frame).unwrap()).collect();
            let first = found[0];
            assert_eq!(found, (first..first + 16).collect::<Vec<_>>(), "each frame its own, in order");
            assert!(ring.kept.len() <= 20, "{} kept", ring.kept.len());
        }
        assert_eq!((windows, computed), (51, 216), "216 frames, not 51 × 16");
        drop(builder);
        assert!(ring.prune().len() >= 16);
        assert!(ring.kept.is_empty());
    }
}
