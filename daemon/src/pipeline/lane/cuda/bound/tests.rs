//! The engine of models on the GPU, with the software driver and ONNX Runtime's CPU provider in the GPU's place: there
//! addresses are addresses, so kernels fill the input and choose candidates as they would on a device.

use std::path::{Path, PathBuf};

use super::super::engines::tests::held;
use super::super::engines::{Awaited, Ready};
use super::super::loader::bound;
use super::*;
use crate::config::settings::Infer;
use crate::flow::{Decoded, Lent, Rect, Size, Spares};
use crate::gpu::Device;
use crate::gpu::soft::{Registered, child};
use crate::infer::{BoundOptions, BoundSession, ModelDir, Provider, Runtime, SessionOptions, WindowBuilder};
use crate::pipeline::lane::check::meta;
use crate::pipeline::lane::{Cpu, CpuLoader, Cuda, Lane, Loader, Order};
use crate::scene::{Scene, SceneSpec};
use crate::telemetry::Registry;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name)
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

fn on_cpu(folder: &Path, batch: usize) -> Vec<Answer> {
    let (runtime, infer, serving) = (Runtime::load(None).unwrap(), Infer::default(), Serving::default());
    let options = SessionOptions { threads: 1, batch };
    let cache = Path::new("/nowhere");
    let order = Order { name: "m", options, threshold: None, serving: &serving, infer: &infer, cache };
    let mut dir = ModelDir::open(folder).unwrap();
    let mut opened = CpuLoader.open(&runtime, &mut dir, &order).unwrap();
    answers(Cpu, &mut *opened.engine, &opened.feed, batch)
}

fn compare(folder: &Path, batch: usize) -> Vec<Answer> {
    compare_with(folder, batch, |_| {})
}

/// As the CPU lane's, with something done to the engine before.
fn compare_with(folder: &Path, batch: usize, prepare: impl FnOnce(&mut BoundEngine)) -> Vec<Answer> {
    let expected = on_cpu(folder, batch);
    let (runtime, infer, serving) = (Runtime::load(None).unwrap(), Infer::default(), Serving::default());
    let options = SessionOptions { threads: 1, batch };
    let cache = Path::new("/nowhere");
    let order = Order { name: "m", options, threshold: None, serving: &serving, infer: &infer, cache };
    let mut dir = ModelDir::open(folder).unwrap();
    crate::gpu::probe().unwrap();
    let registry = Registry::new();
    let shared = CudaShared::new(Device::open(0).unwrap(), &registry);
    let awaited = Awaited::default();
    let (mut engine, feed, _) = bound(&shared, &awaited, &runtime, &mut dir, &order, Provider::Cpu).unwrap();
    assert_eq!(serving.edge(), ("CPU".to_owned(), false));
    // Windows and features are copied by the driver, which must know the memory.
    let _registered: Vec<Registered> =
        engine.memory().into_iter().map(|(address, len)| Registered::new(address, len)).collect();
    prepare(&mut engine);
    let lane = Cuda::new(&shared, "test", &registry).unwrap();
    let found = answers(lane, &mut engine, &feed, batch);
    assert_eq!(found, expected);
    let any = found.iter().any(|answer| match answer {
        Answer::Objects(objects) => !objects.models.is_empty(),
        Answer::Scores(scores) => !scores.is_empty(),
    });
    assert!(any, "nothing was found, so nothing was compared");
    found
}

#[test]
fn candidates_are_those_of_the_cpu_lane() {
    if child(module_path!(), "candidates_are_those_of_the_cpu_lane", &[]) {
        compare(&model("people"), 1);
    }
}

#[test]
fn windows_are_put_together_on_the_gpu() {
    if child(module_path!(), "windows_are_put_together_on_the_gpu", &[]) {
        compare(&model("violence"), 1);
    }
}

/// Three models that must say the same: one graph, and two whose features stay in video memory.
#[test]
fn features_of_two_stage_models_stay_on_the_gpu() {
    if !child(module_path!(), "features_of_two_stage_models_stay_on_the_gpu", &[]) {
        return;
    }
    let scores = |answers: &[Answer]| -> Vec<f32> {
        let of = |answer: &Answer| match answer {
            Answer::Scores(scores) => scores.iter().map(|score| score.value).collect::<Vec<_>>(),
            Answer::Objects(_) => Vec::new(),
        };
        answers.iter().flat_map(of).collect()
    };
    let [one, ntf, nft] = crate::infer::tests::stages::folders(64);
    let expected = scores(&on_cpu(one.path(), 1));
    assert!(expected.len() >= 18 && expected.windows(4).any(|pair| pair[0] != pair[3]), "{expected:?}");
    for folder in [ntf, nft] {
        for batch in [1, 2] {
            for (found, expected) in scores(&compare(folder.path(), batch)).iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }
    }
}

/// What [`trial`] finds of a model whose GPU is the CPU.
fn tried() -> Vec<crate::pipeline::lane::check::Finding> {
    crate::gpu::probe().unwrap();
    let (runtime, infer, serving) = (Runtime::load(None).unwrap(), Infer::default(), Serving::default());
    let options = SessionOptions { threads: 1, batch: 1 };
    let cache = Path::new("/nowhere");
    let order = Order { name: "people", options, threshold: None, serving: &serving, infer: &infer, cache };
    let shared = CudaShared::new(Device::open(0).unwrap(), &Registry::new());
    let dir = ModelDir::open(&model("people")).unwrap();
    let mut findings = trial::on_gpu(&shared, &runtime, &dir, &order, Provider::Cpu);
    findings.push(trial::on_host(&shared, &runtime, &dir, &order));
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

/// Another session takes the place of the first between the second run and the third: no answer is missing or another.
#[test]
fn an_engine_takes_its_place_between_two_runs() {
    if !child(module_path!(), "an_engine_takes_its_place_between_two_runs", &[]) {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let mut serving = Serving::default();
    compare_with(&model("people"), 1, |engine| {
        serving = engine.serving.clone();
        let (runtime, in_use) = (Runtime::load(None).unwrap(), held(cache.path()));
        let people = ModelDir::open(&model("people")).unwrap();
        let session = BoundSession::open(&runtime, &people, BoundOptions::default()).unwrap();
        let (mut ready, mut asked) = (Some(Ready { session, in_use, by: Provider::TensorRt }), 0);
        engine.better = Some(Box::new(move || {
            asked += 1;
            if asked > 2 { ready.take().map(Ok) } else { None }
        }));
    });
    assert_eq!(serving.edge(), ("TensorRT".to_owned(), false));
    assert_eq!(serving.status("people", "cuda", None).engine.unwrap().state, ModelEngineState::Ready);
}

#[test]
fn an_engine_that_fails_takes_nobodys_place() {
    if !child(module_path!(), "an_engine_that_fails_takes_nobodys_place", &[]) {
        return;
    }
    let mut serving = Serving::default();
    compare_with(&model("people"), 1, |engine| {
        serving = engine.serving.clone();
        engine.better = Some(Box::new(|| Some(Err("no memory".into()))));
    });
    assert_eq!(serving.edge(), ("CPU".to_owned(), false));
    let engine = serving.status("people", "cuda", None).engine.unwrap();
    assert_eq!((engine.state, engine.reason.as_deref()), (ModelEngineState::Failed, Some("no memory")));
}
