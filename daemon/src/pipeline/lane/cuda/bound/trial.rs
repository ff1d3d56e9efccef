//! Whether what is bound is what ONNX Runtime reads and writes, and whether kernels and inference keep their order.
//!
//! In: an opened GPU, a model, an execution provider. Out: findings, each with how much was compared. Pictures of a rendered
//! scene, each another one than the one before, go through the very engines of the lane; what must come out is what ONNX
//! Runtime itself hands to the host, or what comes out where the host waits after each step. Nothing is asserted by time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::engine::on_cpu;
use super::super::engines::Awaited;
use super::super::loader::bound;
use super::super::{Cuda, CudaPreprocess, CudaShared, CudaTensor, Surface};
use super::{Answer, BoundEngine, Engine, Error, Input};
use crate::flow::{
    Decoded, ElementType, Lent, Letterbox, Objects, Picture, Rect, Recycle, Run, Score, Tensor,
};
use crate::gpu::{Meter, Pinned, Rows};
use crate::infer::{ModelDir, Placement, Provider, Runtime, Slot};
use crate::pipeline::lane::check::{Finding, meta};
use crate::pipeline::lane::{Cpu, CpuLoader, Feed, Lane, LaneError, Loader, Order};
use crate::scene::{Scene, SceneSpec};

/// People who walk, and fight now and then.
const SCENE: &str = "scene://people?seed=31&size=320x180&fps=25&seconds=20";
/// Pictures that take turns, and frames of the scene from one to the next.
const PICTURES: u64 = 7;
const APART: u64 = 60;
/// Runs that are compared at most, and for how long; each picture comes in any case.
const RUNS: usize = 1000;
const TIME: Duration = Duration::from_secs(5);
/// TensorRT's engine takes no longer.
const BUILDING: Duration = Duration::from_secs(1800);
/// By so much of the larger one two numbers may differ that the same GPU calculated twice.
const NEAR: f32 = 1e-3;

/// What is tried of a provider.
#[must_use]
pub fn names(provider: Provider) -> [String; 3] {
    [
        format!("bound memory on {provider}"),
        format!("two slots on {provider}"),
        format!("order of kernels and {provider}"),
    ]
}

/// A provider of the GPU's: its binding, and its order with kernels.
#[must_use]
pub fn on_gpu(
    shared: &CudaShared,
    runtime: &Runtime,
    dir: &ModelDir,
    order: &Order<'_>,
    provider: Provider,
) -> Vec<Finding> {
    let awaited = Awaited::default();
    let opened = bound(shared, &awaited, runtime, &mut dir.clone(), order, provider).and_then(
        |(mut engine, feed, _)| {
            let until = Instant::now() + BUILDING;
            while engine.is_building() && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(200));
            }
            if engine.provider() != provider {
                return Err(format!("it runs on {}: the log says why", engine.provider()).into());
            }
            Ok((engine, feed))
        },
    );
    let names = names(provider);
    let (mut engine, feed) = match opened {
        Ok(opened) => opened,
        Err(error) => return names.map(|name| failed(name, &error)).into(),
    };
    let [binding, slots, order] = names;
    let mut findings = Vec::new();
    for (name, found) in [
        (binding, rebound(shared, &mut engine, &feed)),
        (slots, two_slots(shared, &mut engine, &feed)),
        (order, ordered(shared, &mut engine, &feed)),
    ] {
        findings.push(finding(name, found));
    }
    findings
}

/// ONNX Runtime on the CPU, whose input the kernel writes into pinned memory: against the CPU lane, exactly.
#[must_use]
pub fn on_host(shared: &CudaShared, runtime: &Runtime, dir: &ModelDir, order: &Order<'_>) -> Finding {
    let compared = || -> Result<(usize, usize), Error> {
        let mut dir = dir.clone();
        let mut expected = Vec::new();
        {
            let mut opened = CpuLoader.open(runtime, &mut dir, order)?;
            let mut lane = Cpu;
            let mut preprocess = lane.preprocessor(&opened.feed)?;
            for picture in pictures()? {
                let size = picture.size;
                let pixels = lane.adopt(Decoded::Host(picture), &mut meta(size))?;
                let mut tensor = Lent::from(Tensor::default());
                let rect = Rect::of_size(size);
                let letterbox = lane.preprocess(&mut preprocess, &pixels, &rect, &mut tensor)?;
                opened.engine.run(&[input(&opened.feed, tensor)])?;
                expected.push(opened.engine.answer(0, &letterbox, RUN)?);
            }
        }
        let (mut engine, feed, _) = on_cpu(shared, runtime, &mut dir, order)?;
        repeat(&mut engine, &mut Pictures::new(shared, &feed)?, &expected)
    };
    finding("order of kernels and CPU, pinned memory".into(), compared())
}

const RUN: Run = Run { model: 0, begin: 0, end: 0 };

fn finding(name: String, found: Result<(usize, usize), Error>) -> Finding {
    match found {
        Ok((cases, different)) => Finding { name, cases, different, error: None },
        Err(error) => failed(name, &error),
    }
}

fn failed(name: String, error: &Error) -> Finding {
    Finding { name, cases: 0, different: 0, error: Some(error.to_string()) }
}

fn pictures() -> Result<Vec<Picture>, Error> {
    let mut scene = Scene::new(&SceneSpec::parse(SCENE)?);
    Ok((0..PICTURES).map(|index| scene.frame(index * APART).0).collect())
}

/// A whole input of one picture: a clip model sees it in every frame of a window.
fn input<T: Recycle>(feed: &Feed, tensor: Lent<T>) -> Input<T> {
    match feed.manifest.window {
        None => Input::Frame(tensor),
        Some(window) => {
            let tensor = Arc::new(tensor);
            Input::Window(vec![tensor; window.frames.max(1)])
        }
    }
}

/// Pictures in video memory, and what makes inputs of them.
struct Pictures<'a> {
    lane: Cuda,
    feed: &'a Feed,
    preprocess: CudaPreprocess,
    surfaces: Vec<Surface>,
}

impl<'a> Pictures<'a> {
    fn new(shared: &CudaShared, feed: &'a Feed) -> Result<Self, Error> {
        let mut lane = Cuda::new(shared, "check", &crate::telemetry::Registry::new())?;
        let preprocess = lane.preprocessor(feed)?;
        let mut surfaces = Vec::new();
        for picture in pictures()? {
            let size = picture.size;
            surfaces.push(lane.adopt(Decoded::Host(picture), &mut meta(size))?);
        }
        Ok(Self { lane, feed, preprocess, surfaces })
    }

    fn input(&mut self, index: usize) -> Result<(Input<CudaTensor>, Letterbox), LaneError> {
        let surface = &self.surfaces[index % self.surfaces.len()];
        let (mut tensor, size) = (Lent::from(CudaTensor::default()), surface.picture().size);
        let rect = Rect::of_size(size);
        let letterbox = self.lane.preprocess(&mut self.preprocess, surface, &rect, &mut tensor)?;
        Ok((input(self.feed, tensor), letterbox))
    }

    fn len(&self) -> usize {
        self.surfaces.len()
    }
}

/// Runs pictures in an order of no pattern, and compares what was found with what was found before.
fn repeat(
    engine: &mut dyn Engine<CudaTensor>,
    pictures: &mut Pictures<'_>,
    expected: &[Answer],
) -> Result<(usize, usize), Error> {
    if !expected.iter().any(|answer| answer != &expected[0]) {
        return Err("the model says the same of all pictures: nothing could be compared".into());
    }
    let (mut state, mut last, mut different) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
    let begun = Instant::now();
    for run in 0..RUNS {
        if run >= 3 * pictures.len() && begun.elapsed() > TIME {
            return Ok((run, different));
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Another one than the last: what is left of that one must not be taken for this one's.
        last = (last + 1 + (state >> 40) as usize % (pictures.len() - 1)) % pictures.len();
        let (input, letterbox) = pictures.input(last)?;
        engine.run(&[input])?;
        different += usize::from(!alike(&engine.answer(0, &letterbox, RUN)?, &expected[last]));
    }
    Ok((RUNS, different))
}

/// The kernel that fills the input, the run and the kernel that chooses candidates, on one stream: without a wait in
/// between as with one after each.
fn ordered(shared: &CudaShared, engine: &mut BoundEngine, feed: &Feed) -> Result<(usize, usize), Error> {
    let mut pictures = Pictures::new(shared, feed)?;
    let mut expected = Vec::new();
    engine.stepwise = true;
    for index in 0..pictures.len() {
        let (input, letterbox) = pictures.input(index)?;
        engine.run(&[input])?;
        expected.push(engine.answer(0, &letterbox, RUN)?);
    }
    engine.stepwise = false;
    repeat(engine, &mut pictures, &expected)
}

/// What ONNX Runtime itself hands to the host of each picture.
fn handed_out(engine: &mut BoundEngine, pictures: &mut Pictures<'_>) -> Result<Vec<Vec<f32>>, Error> {
    let before = engine.session.placement();
    engine.session.place(Placement::Host)?;
    let mut expected = Vec::new();
    for index in 0..pictures.len() {
        let mut slot = engine.session.slot(1)?;
        let (input, _) = pictures.input(index)?;
        engine.gather(&[input], slot.address())?;
        engine.stream.synchronize()?;
        engine.session.run_and_wait(&mut slot)?;
        let outputs = engine.session.host_outputs(&slot)?;
        expected
            .push(outputs.iter().flat_map(|output| output.as_f32().unwrap_or_default().to_vec()).collect());
    }
    engine.session.place(before)?;
    if expected.iter().all(|values| values == &expected[0]) {
        return Err("the model says the same of all pictures: nothing could be compared".into());
    }
    Ok(expected)
}

/// The buffers that are bound are those that are read and written, and stay where they are.
fn rebound(shared: &CudaShared, engine: &mut BoundEngine, feed: &Feed) -> Result<(usize, usize), Error> {
    let mut pictures = Pictures::new(shared, feed)?;
    let expected = handed_out(engine, &mut pictures)?;
    let (mut cases, mut different) = (0, 0);
    // Of each input's address the addresses of those outputs that stay where they are.
    let mut seen: BTreeMap<u64, BTreeMap<usize, u64>> = BTreeMap::new();
    for run in 0..8 * pictures.len() {
        let index = run % pictures.len();
        let mut slot = engine.session.slot(1)?;
        if let Some(addresses) = seen.get(&slot.address()) {
            clear(engine, &slot, addresses)?;
        }
        fill(engine, &mut pictures, index, &slot)?;
        engine.session.run(&mut slot)?;
        let found = read(engine, &slot)?;
        cases += 1;
        different += usize::from(!near(&found, &expected[index]));
        let outputs = engine.session.outputs(&slot)?.iter().enumerate();
        let stay = outputs.filter(|(index, _)| engine.session.stays(*index));
        let addresses: BTreeMap<usize, u64> = stay.map(|(index, output)| (index, output.address)).collect();
        let first = seen.entry(slot.address()).or_insert_with(|| addresses.clone());
        different += usize::from(*first != addresses);
    }
    Ok((cases, different + usize::from(seen.len() > 2)))
}

/// Two slots that are out at the same time: two inputs, two results.
fn two_slots(shared: &CudaShared, engine: &mut BoundEngine, feed: &Feed) -> Result<(usize, usize), Error> {
    let mut pictures = Pictures::new(shared, feed)?;
    let expected = handed_out(engine, &mut pictures)?;
    let (mut cases, mut different) = (0, 0);
    for index in 0..pictures.len() {
        let other = (index + 1) % pictures.len();
        let (mut one, mut two) = (engine.session.slot(1)?, engine.session.slot(1)?);
        fill(engine, &mut pictures, index, &one)?;
        fill(engine, &mut pictures, other, &two)?;
        engine.session.run(&mut one)?;
        engine.session.run(&mut two)?;
        for (slot, index) in [(&one, index), (&two, other)] {
            cases += 1;
            different += usize::from(!near(&read(engine, slot)?, &expected[index]));
        }
    }
    Ok((cases, different))
}

fn fill(
    engine: &mut BoundEngine,
    pictures: &mut Pictures<'_>,
    index: usize,
    slot: &Slot,
) -> Result<(), Error> {
    let (input, _) = pictures.input(index)?;
    engine.gather(&[input], slot.address())?;
    // The CPU's provider knows no stream, and jobs are sent from one place in memory.
    Ok(engine.stream.synchronize()?)
}

/// Zeros where a slot's outputs were: what is found there afterwards was written by the run.
fn clear(engine: &BoundEngine, slot: &Slot, addresses: &BTreeMap<usize, u64>) -> Result<(), Error> {
    if engine.provider() == Provider::Cpu || engine.session.placement() == Placement::Host {
        return Ok(());
    }
    for (index, address) in addresses {
        let Some(zeros) = engine.session.trial().get(*index) else { continue };
        let values = zeros.shape.iter().product::<usize>() / engine.session.batch() * slot.entries();
        // As many bytes as the smallest element has; that is enough to tell.
        engine.stream.clear(*address, values)?;
    }
    Ok(())
}

/// The outputs of a slot, from where they lie.
fn read(engine: &mut BoundEngine, slot: &Slot) -> Result<Vec<f32>, Error> {
    if engine.provider() == Provider::Cpu || engine.session.placement() == Placement::Host {
        let outputs = engine.session.host_outputs(slot)?;
        return Ok(outputs.iter().flat_map(|output| output.as_f32().unwrap_or_default().to_vec()).collect());
    }
    let mut found = Vec::new();
    for output in engine.session.outputs(slot)?.to_vec() {
        let count: usize = output.shape.iter().product();
        let element = output.element.ok_or("an output is of an element type that the lane does not read")?;
        let bytes = count * super::bytes_of(element);
        let mut host = Pinned::new(&engine.shared.device, bytes)?;
        let from = Rows { address: output.address, pitch: bytes };
        engine.stream.download(&Meter::default(), host.bytes_mut(), bytes, from, bytes, 1)?;
        engine.stream.synchronize()?;
        match element {
            ElementType::F32 => found.extend_from_slice(host.values::<f32>(count)),
            ElementType::F16 => {
                found.extend(host.values::<half::f16>(count).iter().map(|value| value.to_f32()))
            }
            ElementType::U8 => found.extend(host.bytes()[..count].iter().map(|value| f32::from(*value))),
        }
    }
    Ok(found)
}

fn near(one: &[f32], other: &[f32]) -> bool {
    let close = |a: f32, b: f32| (a - b).abs() <= NEAR * a.abs().max(b.abs()).max(1.0);
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| close(*a, *b))
}

fn alike(one: &Answer, other: &Answer) -> bool {
    match (one, other) {
        (Answer::Objects(one), Answer::Objects(other)) => {
            let sides = |objects: &Objects| -> Vec<f32> {
                objects.bounds.iter().flat_map(|it| [it.x, it.y, it.width, it.height]).collect()
            };
            one.classes == other.classes
                && near(&one.scores, &other.scores)
                && near(&sides(one), &sides(other))
        }
        (Answer::Scores(one), Answer::Scores(other)) => {
            let values = |scores: &[Score]| scores.iter().map(|score| score.value).collect::<Vec<_>>();
            near(&values(one), &values(other))
        }
        _ => false,
    }
}
