//! The engines' cache: keys, states, and what is left when a build ends at any point.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::stamp;
use crate::config::Manifest;
use crate::gpu::{Driver, Gpu};
use crate::infer::cuda::{EngineState, Engines, Stamp};
use crate::infer::{ModelDir, Runtime};

/// Builds an engine as TensorRT leaves it.
fn build(engines: &Engines, stamp: &Stamp) {
    let building = engines.begin(stamp).unwrap();
    fs::write(building.folder().join("graph_0_fp16_sm89.engine"), "machine code").unwrap();
    fs::write(building.folder().join("graph_0_fp16_sm89.profile"), "shapes").unwrap();
    fs::write(building.folder().join("cache_sm89.timing"), format!("timings with {}", stamp.model)).unwrap();
    let engine = building.complete(Duration::from_secs(90)).unwrap();
    assert_eq!((engine.seconds, engine.bytes()), (90.0, 18));
}

fn cache() -> (TempDir, Engines) {
    let cache = tempfile::tempdir().unwrap();
    let engines = Engines::new(cache.path());
    (cache, engines)
}

/// Names in the engines' folder, those of engines cut short.
fn names(cache: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(cache.path().join("engines"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().chars().take(10).collect())
        .collect();
    names.sort();
    names
}

fn why(state: EngineState) -> String {
    match state {
        EngineState::Stale(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_of_everything_that_an_engine_depends_on() {
    let first = stamp("people");
    assert_eq!(first.key(), stamp("people").key());
    assert_eq!(first.key().len(), 64);
    let mut keys = vec![first.key()];
    for change in [
        |stamp: &mut Stamp| stamp.model.push('2'),
        |stamp: &mut Stamp| stamp.graph = "b".repeat(64),
        |stamp: &mut Stamp| stamp.input = "{\"size\":\"640x640\"}".into(),
        |stamp: &mut Stamp| stamp.batch = 8,
        |stamp: &mut Stamp| stamp.calibration = Some("c".repeat(64)),
        |stamp: &mut Stamp| stamp.gpu = "NVIDIA T4".into(),
        |stamp: &mut Stamp| stamp.compute = (7, 5),
        |stamp: &mut Stamp| stamp.driver = "575.1".into(),
        |stamp: &mut Stamp| stamp.runtime = "1.32.0".into(),
        |stamp: &mut Stamp| stamp.tensorrt = "101400".into(),
        |stamp: &mut Stamp| stamp.options.clear(),
    ] {
        let mut other = stamp("people");
        change(&mut other);
        keys.push(other.key());
    }
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn a_stamp_says_what_the_model_and_the_box_are() {
    let folder = tempfile::tempdir().unwrap();
    let text = "task = \"detect\"\nlabels = [\"a\"]\ninput = {}\noutput.decoder = \"yolo\"\n";
    fs::write(folder.path().join("model.toml"), text).unwrap();
    fs::write(folder.path().join("model.onnx"), "abc").unwrap();
    let gpu = Gpu { index: 1, name: "NVIDIA L4".into(), uuid: "GPU-1".into(), compute: (8, 9), memory: 1 };
    let driver = Driver { cuda: 12_080, module: Some("570.86.15".into()), gpus: vec![gpu.clone()] };
    let runtime = Runtime::load(None).unwrap();
    let make = |gpu: &Gpu, driver: &Driver| {
        let model = ModelDir::open(folder.path()).unwrap();
        Stamp::new("people", &model, 4, gpu, driver, &runtime).unwrap()
    };
    let first = make(&gpu, &driver);
    assert_eq!((first.gpu.as_str(), first.driver.as_str(), first.batch), ("NVIDIA L4", "570.86.15", 4));
    assert_eq!(first.runtime, runtime.build());
    assert_eq!(first.options["trt_fp16_enable"], "1");
    // Another card of the same kind needs no other engine.
    let twin = Gpu { index: 0, uuid: "GPU-2".into(), memory: 2, ..gpu.clone() };
    assert_eq!(make(&twin, &driver).key(), first.key());
    let unnamed = Driver { module: None, ..driver.clone() };
    assert_eq!(make(&gpu, &unnamed).driver, "for CUDA 12.8");
    // What does not decide on the engine changes nothing; the input's size and a calibration table do.
    let parse = |text: &str| Manifest::parse(text, Path::new("model.toml")).unwrap();
    assert!(parse(text).keep.is_empty());
    fs::write(folder.path().join("model.toml"), format!("keep = [\"a\"]\n{text}")).unwrap();
    assert_eq!(make(&gpu, &driver).key(), first.key());
    fs::write(folder.path().join("model.toml"), text.replace("{}", "{ size = \"64x64\" }")).unwrap();
    let sized = make(&gpu, &driver);
    assert_ne!(sized.key(), first.key());
    fs::write(folder.path().join("calibration.flatbuffers"), "ranges").unwrap();
    let calibrated = make(&gpu, &driver);
    assert_ne!(calibrated.key(), sized.key());
    assert_eq!(calibrated.options["trt_int8_enable"], "1");
}

#[test]
fn an_engine_is_missing_then_fresh_then_stale() {
    let (cache, engines) = cache();
    let first = stamp("people");
    assert_eq!(engines.state(&first), EngineState::Missing);
    build(&engines, &first);
    assert_eq!(engines.state(&first), EngineState::Fresh);
    assert!(engines.folder(&first).join("graph_0_fp16_sm89.engine").is_file());
    assert_eq!(engines.state(&stamp("violence")), EngineState::Missing);
    let [engine] = engines.list().try_into().unwrap();
    assert_eq!((engine.stamp, engine.files.len()), (first.clone(), 2));

    let mut second = stamp("people");
    second.driver = "575.1".into();
    second.graph = "b".repeat(64);
    let said = why(engines.state(&second));
    assert_eq!(said, "the model's file has changed; made for driver 570.86.15, here is 575.1");
    // The old one goes when the new one is there, and not before.
    let building = engines.begin(&second).unwrap();
    assert_eq!(engines.state(&first), EngineState::Fresh);
    fs::write(building.folder().join("graph.engine"), "newer").unwrap();
    building.complete(Duration::from_secs(1)).unwrap();
    assert_eq!(engines.state(&second), EngineState::Fresh);
    assert!(!engines.folder(&first).exists());
    let _ = why(engines.state(&first));
    assert_eq!(names(&cache).len(), 2, "{:?}", names(&cache));
}

#[test]
fn engines_of_other_models_and_other_gpus_stay() {
    let (_cache, engines) = cache();
    let mut elsewhere = stamp("people");
    elsewhere.gpu = "NVIDIA T4".into();
    let others = [elsewhere, stamp("violence")];
    others.iter().for_each(|other| build(&engines, other));
    for batch in [1, 2, 4] {
        build(&engines, &Stamp { batch, ..stamp("people") });
    }
    assert!(others.iter().all(|other| engines.state(other) == EngineState::Fresh));
    assert_eq!(engines.list().len(), 3);
    assert_eq!(engines.prune(|engine| engine.stamp.model == "people").unwrap().len(), 1);
    assert_eq!(engines.prune(|engine| engine.stamp.gpu == "NVIDIA T4").unwrap().len(), 1);
    assert_eq!(engines.list().len(), 1);
    assert_eq!(Engines::new(Path::new("/nowhere")).prune(|_| false).unwrap().len(), 0);
}

#[test]
fn an_unfinished_build_leaves_nothing_that_is_taken_for_an_engine() {
    let (cache, engines) = cache();
    let stamp = stamp("people");
    let building = engines.begin(&stamp).unwrap();
    fs::write(building.folder().join("graph.engine"), "half").unwrap();
    assert_eq!(engines.state(&stamp), EngineState::Missing);
    drop(building);
    assert_eq!(names(&cache), [".lock"]);

    // A daemon that was killed cleans nothing up: with a lock that nobody holds, and without one.
    let left = cache.path().join("engines/.building-dead");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("graph.engine"), "half").unwrap();
    let locked = cache.path().join("engines/.building-dead2");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join(".lock"), "").unwrap();
    assert_eq!((engines.state(&stamp), engines.list().len()), (EngineState::Missing, 0));
    // Another build that lives is left alone.
    let one = engines.begin(&stamp).unwrap();
    assert!(!left.exists() && !locked.exists());
    let two = engines.begin(&super::stamp("violence")).unwrap();
    assert!(one.folder().is_dir() && two.folder().is_dir());
    fs::write(one.folder().join("graph.engine"), "whole").unwrap();
    one.complete(Duration::ZERO).unwrap();
    assert_eq!(engines.state(&stamp), EngineState::Fresh);
    assert!(two.folder().is_dir());

    // A build without an engine is none.
    let error = two.complete(Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("no TensorRT engine of violence: TensorRT took no part"), "{error}");
    assert_eq!(engines.state(&super::stamp("violence")), EngineState::Missing);
}

#[test]
fn a_spoiled_engine_is_stale_and_is_replaced() {
    let (_cache, engines) = cache();
    let stamp = stamp("people");
    build(&engines, &stamp);
    let folder = engines.folder(&stamp);
    let file = folder.join("graph_0_fp16_sm89.engine");
    fs::write(&file, "mach").unwrap();
    assert!(why(engines.state(&stamp)).contains("has 4 bytes; 12 were written"));
    fs::remove_file(&file).unwrap();
    assert!(why(engines.state(&stamp)).contains("graph_0_fp16_sm89.engine"));
    build(&engines, &stamp);
    assert_eq!(engines.state(&stamp), EngineState::Fresh);

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(why(engines.state(&stamp)).contains("others may write to"));
    build(&engines, &stamp);
    assert_eq!(engines.state(&stamp), EngineState::Fresh);

    // A stamp that was cut short says nothing.
    fs::write(folder.join("stamp.json"), "{\"schema\":").unwrap();
    assert_eq!((engines.state(&stamp), engines.list().len()), (EngineState::Missing, 0));
    build(&engines, &stamp);
    assert_eq!(engines.state(&stamp), EngineState::Fresh);
}

#[test]
fn timings_help_the_next_build_on_such_a_gpu_alone() {
    let (_cache, engines) = cache();
    build(&engines, &stamp("people"));
    let timings = |stamp: &Stamp| {
        let building = engines.begin(stamp).unwrap();
        fs::read_to_string(building.folder().join("cache_sm89.timing")).ok()
    };
    assert_eq!(timings(&stamp("violence")).as_deref(), Some("timings with people"));
    let mut elsewhere = stamp("people");
    elsewhere.driver = "575.1".into();
    assert_eq!(timings(&elsewhere), None);
    // They go with the last engine they are for.
    assert_eq!(engines.prune(|_| false).unwrap().len(), 1);
    assert_eq!(timings(&stamp("violence")), None);
}

#[test]
fn an_engine_that_somebody_runs_on_is_not_removed() {
    let (_cache, engines) = cache();
    let stamp = stamp("people");
    assert!(engines.hold(&stamp).is_err(), "there is none");
    build(&engines, &stamp);
    let [engine] = engines.list().try_into().unwrap();
    assert!(!engines.in_use(&engine));
    let file = engines.folder(&stamp).join("stamp.json");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(40 * 86_400);
    fs::File::open(&file).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(engines.used(&engine), Some(long_ago));
    // Two sessions on it, as on two GPUs of a kind.
    let (one, two) = (engines.hold(&stamp).unwrap(), engines.hold(&stamp).unwrap());
    assert!(engines.used(&engine).unwrap() > long_ago, "it was used now");
    drop(one);
    assert!(engines.in_use(&engine));
    assert!(engines.prune(|_| false).unwrap().is_empty());
    // Not by a newer one of the same model either.
    build(&engines, &Stamp { batch: 2, ..stamp.clone() });
    assert_eq!((engines.state(&stamp), engines.list().len()), (EngineState::Fresh, 2));
    drop(two);
    assert!(!engines.in_use(&engine));
    assert_eq!(engines.prune(|engine| engine.stamp.batch == 2).unwrap()[0].stamp, stamp);
    assert_eq!(engines.list().len(), 1);
}

#[test]
fn the_last_build_of_a_model_says_how_long_the_next_may_take() {
    let (_cache, engines) = cache();
    assert_eq!(engines.expected(&stamp("people")), None);
    let took = |stamp: &Stamp, seconds| {
        let building = engines.begin(stamp).unwrap();
        fs::write(building.folder().join("graph.engine"), "code").unwrap();
        building.complete(Duration::from_secs(seconds)).unwrap();
    };
    took(&Stamp { gpu: "NVIDIA T4".into(), ..stamp("people") }, 300);
    took(&stamp("violence"), 7);
    assert_eq!(engines.expected(&stamp("people")), Some(Duration::from_secs(300)));
    took(&stamp("people"), 60);
    assert_eq!(engines.expected(&Stamp { batch: 8, ..stamp("people") }), Some(Duration::from_secs(60)));
    assert_eq!(engines.expected(&stamp("other")), None);
}
