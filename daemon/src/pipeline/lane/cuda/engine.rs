//! A model on the CUDA lane whose inference runs on the CPU: its input lies in pinned memory that the kernel writes.
//!
//! In: what preprocessing left of frames and windows. Out: objects and scores. Kernel and copies go on a stream of the
//! model's own; the model waits for it, then runs. The pixels stay in video memory, only the tensor crosses the bus,
//! written by the kernel itself. Owned by the model's thread. A failed run fails its batch alone.

use half::f16;

use super::CudaShared;
use super::tensor::{CudaTensor, Jobs, Made, Memory, bytes_of, fill};
use crate::config::manifest::Layout;
use crate::flow::{ElementType, Letterbox, Run, TensorView};
use crate::gpu::params::Geometry;
use crate::gpu::{Pinned, Stream};
use crate::infer::{Head, ModelDir, Runtime, Session};
use crate::pipeline::lane::cpu::{OnCpu, open};
use crate::pipeline::lane::{Engine, Feed, Order};
use crate::pipeline::model::{Answer, Input, answer, window};
use crate::postprocess::Decoder;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A model whose input the GPU writes and the CPU reads.
pub struct HostEngine {
    session: Session,
    /// Of a two-stage clip model, whose backbone the session is.
    head: Option<Head<CudaTensor>>,
    decoder: Decoder,
    shared: CudaShared,
    stream: Stream,
    jobs: Jobs,
    /// Room for a whole batch.
    input: Pinned,
    element: ElementType,
    geometry: Geometry,
    layout: Layout,
    /// Elements of a batch entry.
    entry: usize,
}

impl Engine<CudaTensor> for HostEngine {
    fn run(&mut self, inputs: &[Input<CudaTensor>]) -> Result<(), String> {
        let outcome = match self.head.take() {
            None => self.gather(inputs).and_then(|()| self.infer(inputs.len())),
            Some(mut head) => {
                let outcome = self.two_stages(&mut head, inputs);
                self.head = Some(head);
                outcome
            }
        };
        outcome.map_err(|error| error.to_string())
    }

    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String> {
        let outputs = self.head.as_ref().map_or(self.session.outputs(), Head::outputs);
        Ok(answer(&mut self.decoder, outputs, entry, letterbox, run))
    }
}

impl HostEngine {
    /// Runs the model, or its backbone, on what its input holds.
    pub(super) fn alone(&mut self, inputs: usize) -> Result<(), String> {
        self.infer(inputs.min(self.session.batch())).map_err(|error| error.to_string())
    }

    /// Threads within one run.
    pub(super) fn threads(&self) -> usize {
        self.session.threads()
    }

    /// Runs the session on so many entries of the batch.
    fn infer(&mut self, entries: usize) -> Result<(), Error> {
        // A graph of one batch size takes nothing less: the entries beyond hold what they held.
        let entries = if self.session.input().batch.is_some() { self.session.batch() } else { entries };
        let (shape, count) = (self.session.input().shape(entries), entries * self.entry);
        let view = match self.element {
            ElementType::F32 => TensorView::F32(self.input.values::<f32>(count)),
            ElementType::F16 => TensorView::F16(self.input.values::<f16>(count)),
            ElementType::U8 => TensorView::U8(self.input.values::<u8>(count)),
        };
        Ok(self.session.run_view(&shape, view).map(drop)?)
    }

    /// The backbone on what it has not seen, then the head.
    fn two_stages(&mut self, head: &mut Head<CudaTensor>, inputs: &[Input<CudaTensor>]) -> Result<(), Error> {
        let windows: Vec<_> = inputs.iter().map(window).collect();
        for frames in head.wanting(windows.iter().copied()).chunks(self.session.batch()) {
            let entry = self.entry * bytes_of(self.element);
            for (frame, room) in frames.iter().zip(self.input.bytes_mut().chunks_exact_mut(entry)) {
                let Some(made) = &frame.made else { continue };
                made.ready.synchronize()?;
                if let Memory::Host(pinned) = &made.memory {
                    room.copy_from_slice(&pinned.bytes()[..entry]);
                }
            }
            self.infer(frames.len())?;
            head.keep(frames, self.session.outputs())?;
        }
        Ok(head.run(&windows).map(drop)?)
    }

    /// Puts the inputs into the batch, and waits until they are there.
    fn gather(&mut self, inputs: &[Input<CudaTensor>]) -> Result<(), Error> {
        let mut jobs = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            if let Input::Frame(tensor) = input
                && let Some(source) = &tensor.source
            {
                source.surface.wait_on(&self.stream)?;
                jobs.push(crate::gpu::params::Job { entry: index as i32, ..source.job });
            }
        }
        if !jobs.is_empty() {
            let address = self.jobs.send(&self.stream, &self.shared.tables, &jobs)?;
            fill(&self.stream, self.element, address, jobs.len(), self.input.address(), &self.geometry)?;
            self.stream.synchronize()?;
        }
        let entry = self.entry * bytes_of(self.element);
        for (input, room) in inputs.iter().zip(self.input.bytes_mut().chunks_exact_mut(entry)) {
            let Input::Window(frames) = input else { continue };
            let made: Vec<&Made> = frames.iter().filter_map(|frame| frame.made.as_ref()).collect();
            for made in &made {
                made.ready.synchronize()?;
            }
            let frames: Vec<&[u8]> = made
                .iter()
                .map(|made| match &made.memory {
                    Memory::Host(pinned) => pinned.bytes(),
                    Memory::Device(_) => &[],
                })
                .collect();
            spread(room, &frames, self.layout, self.geometry.channels as usize);
        }
        Ok(())
    }
}

/// A window's frames, the oldest first, as one batch entry; see [`crate::infer::gather`].
fn spread(entry: &mut [u8], frames: &[&[u8]], layout: Layout, channels: usize) {
    let Some(frame) = entry.len().checked_div(frames.len()) else { return };
    let run = if layout == Layout::Ncthw { frame / channels } else { frame };
    for (index, out) in entry.chunks_exact_mut(run.max(1)).enumerate() {
        let start = index / frames.len() * run;
        if let Some(bytes) = frames[index % frames.len()].get(start..start + run) {
            out.copy_from_slice(bytes);
        }
    }
}

/// Opens a model on the CPU, for the lane's tensors.
pub(super) fn on_cpu(
    shared: &CudaShared,
    runtime: &Runtime,
    dir: &mut ModelDir,
    order: &Order<'_>,
) -> Result<(HostEngine, Feed, usize), Error> {
    let OnCpu { session, head, decoder, feed, batch } = open(runtime, dir, order.options, order.threshold)?;
    let element = feed.element;
    let preprocessor = crate::preprocess::Preprocessor::new(&feed.manifest.input, feed.size, element)?;
    let room = session.batch();
    let entry = session.input().shape(1).iter().product::<usize>();
    let device = &shared.device;
    let engine = HostEngine {
        stream: Stream::new(device)?,
        jobs: Jobs::new(device, room)?,
        input: Pinned::new(device, room * entry * bytes_of(element))?,
        geometry: preprocessor.geometry(),
        layout: dir.manifest.input.layout,
        shared: shared.clone(),
        element,
        entry,
        session,
        head,
        decoder,
    };
    order.serving.by("CPU, input in pinned memory", true);
    Ok((engine, feed, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_put_together_as_on_the_cpu_lane() {
        let frames: [&[u8]; 3] = [&[1, 1, 10, 10], &[2, 2, 20, 20], &[3, 3, 30, 30]];
        let mut entry = [0; 12];
        spread(&mut entry, &frames, Layout::Ntchw, 2);
        assert_eq!(entry, [1, 1, 10, 10, 2, 2, 20, 20, 3, 3, 30, 30]);
        spread(&mut entry, &frames, Layout::Ncthw, 2);
        assert_eq!(entry, [1, 1, 2, 2, 3, 3, 10, 10, 20, 20, 30, 30]);
    }
}
