//! The engine of models on the GPU, with the software driver and ONNX Runtime's CPU provider in the GPU's place: there
//! addresses are addresses, so kernels fill the input and choose candidates as they would on a device.

use std::path::{Path, PathBuf};

use super::super::loader::bound;
use super::*;
use crate::config::settings::Infer;
use crate::flow::{Decoded, Lent, Rect, Size, Spares};
use crate::gpu::Device;
use crate::gpu::soft::{Registered, child};
use crate::infer::{ModelDir, Runtime, SessionOptions, WindowBuilder};
use crate::pipeline::lane::check::meta;
use crate::pipeline::lane::{Cpu, CpuLoader, Cuda, Lane, Loader, Order};
use crate::scene::{Scene, SceneSpec};
use crate::telemetry::Registry;

fn model(name: &str) -> ModelDir {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name);
    ModelDir::open(&folder).unwrap()
}

/// Frames of a rendered scene through a lane and an engine: what was found in each, `batch` of them in a run.
fn answers<L: Lane>(
    mut lane: L,
    engine: &mut dyn Engine<L::Tensor>,
    feed: &crate::pipeline::lane::Feed,
    batch: usize,
) -> Vec<Answer> {
    let size = Size::new(320, 180);
    let mut scene =
        Scene::new(&SceneSpec::parse("scene://people?seed=31&size=320x180&fps=25&seconds=20").unwrap());
    let mut preprocess = lane.preprocessor(feed).unwrap();
    let spares = Spares::default();
    let mut window = feed.manifest.window.map(WindowBuilder::new);
    let (mut inputs, mut letterboxes, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0.. {
        if found.len() >= 6 {
            break;
        }
        let pts = index * 40_000_000;
        let (picture, _) = scene.frame(index);
        let pixels = lane.adopt(Decoded::Host(picture), &mut meta(size)).unwrap();
        let rect = Rect::of_size(size);
        let mut tensor: Lent<L::Tensor> = spares.lend();
        let letterbox = lane.preprocess(&mut preprocess, &pixels, &rect, &mut tensor).unwrap();
        let input = match &mut window {
            None => Some(Input::Frame(tensor)),
            Some(window) => window.push(pts, tensor).map(|ready| Input::Window(ready.frames)),
        };
        inputs.extend(input.inspect(|_| letterboxes.push(letterbox)));
        if inputs.len() == batch {
            engine.run(&inputs).unwrap();
            inputs.clear();
            for (entry, letterbox) in letterboxes.drain(..).enumerate() {
                found.push(engine.answer(entry, &letterbox, Run { model: 3, begin: 0, end: pts }).unwrap());
            }
        }
    }
    found
}

fn compare(name: &str, batch: usize) {
    let (runtime, infer) = (Runtime::load(None).unwrap(), Infer::default());
    let options = SessionOptions { threads: 1, batch };
    let order = Order { name, options, threshold: None, infer: &infer, cache: Path::new("/nowhere") };
    let mut dir = model(name);
    let mut expected = CpuLoader.open(&runtime, &mut dir, &order).unwrap();
    let expected = answers(Cpu, &mut *expected.engine, &expected.feed, batch);

    crate::gpu::probe().unwrap();
    let registry = Registry::new();
    let shared = CudaShared::new(Device::open(0).unwrap(), &registry);
    let (mut engine, feed, _) = bound(&shared, &runtime, &mut dir, &order, Provider::Cpu).unwrap();
    // Windows are copied by the driver, which must know the memory.
    let (address, len) = engine.session.memory();
    let _registered = Registered::new(address, len);
    let lane = Cuda::new(&shared, "test", &registry).unwrap();
    let found = answers(lane, &mut engine, &feed, batch);
    assert_eq!(found, expected);
    let any = found.iter().any(|answer| match answer {
        Answer::Objects(objects) => !objects.models.is_empty(),
        Answer::Scores(scores) => !scores.is_empty(),
    });
    assert!(any, "nothing was found, so nothing was compared");
}

#[test]
fn candidates_are_those_of_the_cpu_lane() {
    if child(module_path!(), "candidates_are_those_of_the_cpu_lane", &[]) {
        compare("people", 1);
    }
}

#[test]
fn windows_are_put_together_on_the_gpu() {
    if child(module_path!(), "windows_are_put_together_on_the_gpu", &[]) {
        compare("violence", 1);
    }
}

/// What [`trial`] finds of a model whose GPU is the CPU.
fn tried() -> Vec<crate::pipeline::lane::check::Finding> {
    crate::gpu::probe().unwrap();
    let (runtime, infer) = (Runtime::load(None).unwrap(), Infer::default());
    let options = SessionOptions { threads: 1, batch: 1 };
    let cache = Path::new("/nowhere");
    let order = Order { name: "people", options, threshold: None, infer: &infer, cache };
    let shared = CudaShared::new(Device::open(0).unwrap(), &Registry::new());
    let mut findings = trial::on_gpu(&shared, &runtime, &model("people"), &order, Provider::Cpu);
    findings.push(trial::on_host(&shared, &runtime, &model("people"), &order));
    findings
}

#[test]
fn the_trial_finds_binding_slots_and_order_good() {
    if child(module_path!(), "the_trial_finds_binding_slots_and_order_good", &[]) {
        for finding in tried() {
            assert!(finding.is_good() && finding.cases >= 7, "{finding:?}");
        }
    }
}

/// With a worker for each stream the driver is late with kernels, and the CPU's provider does not wait for them.
#[test]
fn the_trial_finds_a_run_that_does_not_wait_for_its_kernel() {
    let slow = [("WATCHPOST_SOFT_ASYNC", "1"), ("WATCHPOST_SOFT_DELAY_US", "20000")];
    if child(module_path!(), "the_trial_finds_a_run_that_does_not_wait_for_its_kernel", &slow) {
        let found = tried();
        let [binding, slots, order, host] = found.as_slice() else { panic!("{found:?}") };
        assert!(binding.is_good() && slots.is_good() && host.is_good(), "{found:?}");
        assert!(order.error.is_none() && order.different > order.cases / 2, "{order:?}");
    }
}
