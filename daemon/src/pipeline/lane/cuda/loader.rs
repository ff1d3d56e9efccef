//! Opens models for the CUDA lane: on the first execution provider that loads.
//!
//! In: a model's folder, `infer.providers`. Out: an engine: [`super::bound`] where the GPU infers, [`super::engine`] where
//! the CPU does. TensorRT without a fresh engine: see [`super::engines`]. Who measures a model opens a [`CudaModel`], which
//! can also run alone. Fails where no provider of the list loads, with ONNX Runtime's words for each.

use std::sync::Arc;

use super::bound::BoundEngine;
use super::engine::{HostEngine, on_cpu};
use super::engines::{Awaited, Plan, Served};
use super::head::DeviceHead;
use super::{CudaShared, CudaTensor};
use crate::flow::{Letterbox, Run};
use crate::gpu::{Stream, probe};
use crate::infer::{
    BoundOptions, BoundSession, EngineBuilder, EngineOrder, Engines, ModelDir, Provider, Runtime, Stamp,
    choose,
};
use crate::pipeline::lane::{Engine, Feed, Loader, NotYet, Opened, Order};
use crate::pipeline::model::{Answer, Input};
use crate::postprocess::{Decoder, ModelInfo};
use crate::preprocess::Preprocessor;
use crate::service::crash;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Opens models for the CUDA lane.
pub struct CudaLoader {
    pub(super) shared: CudaShared,
    pub(super) awaited: Awaited,
}

/// What runs a model for this lane.
pub enum CudaEngine {
    /// ONNX Runtime on the GPU.
    Gpu(Box<BoundEngine>),
    /// ONNX Runtime on the CPU, its input in pinned memory.
    Host(Box<HostEngine>),
}

/// A model opened for this lane.
pub struct CudaModel {
    /// Runs it.
    pub engine: CudaEngine,
    /// What it wants to be fed.
    pub feed: Feed,
    /// Most inputs of one run.
    pub batch: usize,
    /// Threads within one run; 0 where it runs on no CPU.
    pub threads: usize,
}

impl CudaEngine {
    /// Runs the model on what its input holds, with nothing before it or after it, and waits: for whoever measures it.
    ///
    /// # Errors
    /// Why the run failed.
    pub fn alone(&mut self, inputs: usize) -> Result<(), String> {
        match self {
            Self::Gpu(engine) => engine.alone(inputs),
            Self::Host(engine) => engine.alone(inputs),
        }
    }

    /// Whether TensorRT's engine is still being built; where it is there, it runs from here on.
    pub fn is_building(&mut self) -> bool {
        match self {
            Self::Gpu(engine) => engine.is_building(),
            Self::Host(_) => false,
        }
    }
}

impl Engine<CudaTensor> for CudaEngine {
    fn run(&mut self, inputs: &[Input<CudaTensor>]) -> Result<(), String> {
        match self {
            Self::Gpu(engine) => engine.run(inputs),
            Self::Host(engine) => engine.run(inputs),
        }
    }

    fn answer(&mut self, entry: usize, letterbox: &Letterbox, run: Run) -> Result<Answer, String> {
        match self {
            Self::Gpu(engine) => engine.answer(entry, letterbox, run),
            Self::Host(engine) => engine.answer(entry, letterbox, run),
        }
    }
}

impl CudaLoader {
    /// Opens a model; see [`Loader::open`].
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn model(
        &self,
        runtime: &Runtime,
        dir: &mut ModelDir,
        order: &Order<'_>,
    ) -> Result<CudaModel, Error> {
        let choice = choose(runtime, &order.infer.providers)?;
        for (provider, why) in &choice.skipped {
            tracing::info!(model = order.name, %provider, why, "an execution provider is not there");
        }
        if choice.provider == Provider::Cpu {
            let (engine, feed, batch) = on_cpu(&self.shared, runtime, dir, order)?;
            let threads = engine.threads();
            return Ok(CudaModel { engine: CudaEngine::Host(Box::new(engine)), feed, batch, threads });
        }
        // Execution providers initialise CUDA in their own way, and no stream's decoder has a part in that.
        let (engine, feed, batch) =
            crash::blameless(|| bound(&self.shared, &self.awaited, runtime, dir, order, choice.provider))?;
        Ok(CudaModel { engine: CudaEngine::Gpu(Box::new(engine)), feed, batch, threads: 0 })
    }
}

impl Loader<CudaTensor> for CudaLoader {
    fn open(
        &self,
        runtime: &Runtime,
        dir: &mut ModelDir,
        order: &Order<'_>,
    ) -> Result<Opened<CudaTensor>, Error> {
        let CudaModel { engine, feed, batch, threads } = self.model(runtime, dir, order)?;
        Ok(Opened { engine: Box::new(engine), feed, batch, threads })
    }

    fn preparing(&self, name: &str) -> Option<NotYet> {
        self.awaited.preparing(name)
    }

    fn keep(&self, wanted: &dyn Fn(&str) -> bool) {
        self.awaited.keep(wanted);
    }
}

/// Opens a model on a provider with its input bound; on the CPU too, which the tests do. What it wants to be fed, and most
/// inputs of one run.
pub(super) fn bound(
    shared: &CudaShared,
    awaited: &Awaited,
    runtime: &Runtime,
    dir: &mut ModelDir,
    order: &Order<'_>,
    provider: Provider,
) -> Result<(BoundEngine, Feed, usize), Error> {
    let stream = Stream::new(&shared.device)?;
    let options = BoundOptions {
        provider,
        device_index: shared.device.index(),
        compute_stream: Some(stream.handle()),
        batch: dir.batch(order.options.batch),
        threads: order.options.threads,
        cuda_graphs: order.infer.cuda_graphs,
        ..BoundOptions::default()
    };
    let head = head(runtime, dir, order, &options)?;
    let served = match provider {
        Provider::TensorRt => tensorrt(runtime, dir, order, options)?.open(awaited, order.serving)?,
        _ => {
            let session = BoundSession::open(runtime, dir, options)?;
            order.serving.by(provider, false);
            Served { session, in_use: None, better: None }
        }
    };
    let session = &served.session;
    dir.labels = session.labels().to_vec();
    let head = head.map(|head| DeviceHead::new(dir, session, head)).transpose()?;
    let last = head.as_ref().map_or(session, DeviceHead::session);
    let decoder = Decoder::new(&ModelInfo {
        decoder: &dir.manifest.output,
        labels: &dir.labels,
        keep: &dir.manifest.keep,
        input: session.input().size,
        names: last.output_names(),
        outputs: last.trial(),
        threshold: order.threshold,
    })?;
    let (size, element) = (session.input().size, session.input().element);
    let feed = Feed { manifest: dir.manifest.clone(), size, element, on_host: false };
    let geometry = Preprocessor::new(&feed.manifest.input, size, element)?.geometry();
    let batch = last.batch();
    let layout = dir.manifest.input.layout;
    let serving = order.serving.clone();
    let engine = BoundEngine::new(stream, (served, head), decoder, layout, geometry, shared, serving)?;
    Ok((engine, feed, batch))
}

/// The head of a two-stage clip model, on the same stream. CUDA runs it where TensorRT runs the backbone: it is small, and
/// recurrent layers are not what an engine is built for.
fn head(
    runtime: &Runtime,
    dir: &ModelDir,
    order: &Order<'_>,
    options: &BoundOptions,
) -> Result<Option<BoundSession>, Error> {
    let Some(head) = dir.head()? else { return Ok(None) };
    let provider = match options.provider {
        Provider::TensorRt => Provider::Cuda,
        other => other,
    };
    let options = BoundOptions { provider, batch: order.options.batch, ..options.clone() };
    Ok(Some(BoundSession::open(runtime, &head, options)?))
}

/// TensorRT's engine of a model on a GPU, and what may serve until it is there.
fn tensorrt(
    runtime: &Runtime,
    dir: &ModelDir,
    order: &Order<'_>,
    options: BoundOptions,
) -> Result<Plan, Error> {
    let driver = probe()?;
    let gpu = driver.gpus.iter().find(|gpu| gpu.index == options.device_index).ok_or("the GPU is gone")?;
    let build = EngineOrder {
        model: dir.path.clone(),
        library: runtime.named().to_owned(),
        device_index: options.device_index,
        batch: options.batch,
        precision: dir.precision,
    };
    let stamp = Stamp::new(order.name, dir, options.batch, gpu, &driver, runtime)?;
    // While runs are recorded no other thread may ask CUDA for memory: the model's own waits for it.
    let in_place = options.cuda_graphs;
    let (runtime, dir) = (runtime.clone(), dir.clone());
    Ok(Plan {
        engines: Engines::new(order.cache),
        stamp,
        builder: EngineBuilder::own()?,
        order: build,
        open: Arc::new(move |engine| {
            let provider = if engine.is_some() { Provider::TensorRt } else { Provider::Cuda };
            let options = BoundOptions { provider, engine, ..options.clone() };
            // Also where it takes another's place later: no stream's decoder has a part in that.
            crash::blameless(|| BoundSession::open(&runtime, &dir, options))
        }),
        // A list without CUDA is an order.
        meanwhile: order.infer.providers.contains(&Provider::Cuda),
        in_place,
    })
}
