//! Builds, by processes that do what TensorRT's would: succeed, fail, die, hang, and be killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

use super::stamp;
use crate::infer::cuda::{Build, EngineBuild, EngineBuilder, EngineOrder, EngineState, Engines};

struct Case {
    cache: TempDir,
    engines: Engines,
    build: EngineBuild,
    told: Receiver<Build>,
}

/// Starts a build by a script, whose first argument is the folder.
fn start(script: &str) -> Case {
    let cache = tempfile::tempdir().unwrap();
    fs::write(cache.path().join("calibration.flatbuffers"), "ranges").unwrap();
    let engines = Engines::new(cache.path());
    let (build, told) = begin(cache.path(), &engines, "people", script);
    Case { cache, engines, build, told }
}

fn begin(cache: &Path, engines: &Engines, model: &str, script: &str) -> (EngineBuild, Receiver<Build>) {
    let builder = EngineBuilder {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into(), "builder".into()],
    };
    let order = EngineOrder {
        model: cache.to_owned(),
        library: PathBuf::from("libonnxruntime.so"),
        device_index: 0,
        batch: 4,
        precision: None,
    };
    let (tell, told) = channel();
    let build = EngineBuild::start(&builder, engines, &stamp(model), &order, move |build| {
        let _ = tell.send(build.clone());
    });
    (build.unwrap(), told)
}

/// Everything that was told until the end.
fn all(case: &Case) -> Vec<Build> {
    let mut told = Vec::new();
    while let Ok(build) = case.told.recv() {
        let over = !matches!(build, Build::Building { .. });
        told.push(build);
        if over {
            break;
        }
    }
    told
}

fn why(case: &Case) -> String {
    let Some(Build::Failed(why)) = all(case).pop() else { panic!("{:?}", case.build.poll()) };
    assert_eq!(case.build.poll(), Build::Failed(why.clone()));
    assert_eq!(case.engines.state(&stamp("people")), EngineState::Missing);
    let folder = case.cache.path().join("engines");
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".lock" || name == ".turn"), "{left:?}");
    why
}

#[test]
fn a_build_tells_that_it_goes_on_and_leaves_an_engine() {
    let case = start(
        r#"order=$(cat); echo "$order" > "$1/order.json"; echo '"alive"'; echo noise; cp "$1/calibration.flatbuffers" "$1/used"
           echo code > "$1/graph.engine"; echo '"done"'"#,
    );
    assert_eq!(case.build.model(), "people");
    let told = all(&case);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].line("people").starts_with("building the TensorRT engine of people, "));
    assert!(matches!(told[2], Build::Done { .. }), "{told:?}");
    assert!(matches!(case.build.poll(), Build::Done { .. }));
    assert_eq!(case.engines.state(&stamp("people")), EngineState::Fresh);
    let folder = case.engines.folder(&stamp("people"));
    let order: EngineOrder =
        serde_json::from_str(&fs::read_to_string(folder.join("order.json")).unwrap()).unwrap();
    assert_eq!((order.batch, order.model.as_path()), (4, case.cache.path()));
    assert!(folder.join("used").is_file(), "the calibration table lies where TensorRT looks for it");
}

#[test]
fn a_build_fails_with_the_words_of_whoever_knows() {
    let why_of = |script: &str| why(&start(script));
    let said = why_of("echo code > \"$1/graph.engine\"; echo '{\"failed\":\"no libnvinfer.so.10\"}'; exit 1");
    assert_eq!(said, "no libnvinfer.so.10");
    let said = why_of("echo code > \"$1/graph.engine\"; echo 'out of memory' >&2; kill -SEGV $$");
    assert!(said.contains("signal: 11") && said.contains("out of memory"), "{said}");
    let said = why_of("echo code > \"$1/graph.engine\"; echo '\"done\"'; exit 3");
    assert!(said.contains("exit status: 3"), "{said}");
    let said = why_of("echo code > \"$1/graph.engine\"");
    assert!(said.contains("no word of success"), "{said}");
    let said = why_of("echo '\"done\"'");
    assert!(said.contains("left no engine"), "{said}");
}

/// Writes half of an engine and its own number, says that it lives, and waits for what never comes.
const HANGS: &str = r#"echo half > "$1/graph.engine"; echo $$ > "$1/../../pid"; mkfifo "$1/never"; echo '"alive"'; exec cat "$1/never""#;

fn process(case: &Case) -> Pid {
    assert!(matches!(case.told.recv().unwrap(), Build::Building { .. }));
    assert!(matches!(case.told.recv().unwrap(), Build::Building { .. }));
    let number = fs::read_to_string(case.cache.path().join("pid")).unwrap();
    let pid = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
    test_kill_process(pid).unwrap();
    pid
}

#[test]
fn a_build_that_is_cancelled_midway_leaves_nothing() {
    let case = start(HANGS);
    let pid = process(&case);
    assert_eq!(case.engines.state(&stamp("people")), EngineState::Missing);
    case.build.cancel();
    assert_eq!(why(&case), "cancelled");
    assert!(test_kill_process(pid).is_err());
}

#[test]
fn a_build_goes_with_its_owner() {
    let case = start(HANGS);
    let pid = process(&case);
    let Case { cache, engines, build, .. } = case;
    drop(build);
    assert!(test_kill_process(pid).is_err());
    assert_eq!(engines.state(&stamp("people")), EngineState::Missing);
    let left: Vec<_> = fs::read_dir(cache.path().join("engines")).unwrap().collect();
    assert_eq!(left.len(), 2, "the two locks: {left:?}");
}

/// It hangs after it has closed its output.
#[test]
fn a_build_that_falls_silent_can_be_killed() {
    let case = start(r#"echo '"alive"'; mkfifo "$1/never"; exec cat "$1/never" >&-"#);
    assert!(matches!(case.told.recv().unwrap(), Build::Building { .. }));
    assert!(matches!(case.told.recv().unwrap(), Build::Building { .. }));
    case.build.cancel();
    assert_eq!(why(&case), "cancelled");
}

#[test]
fn a_builder_that_is_not_there_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let engines = Engines::new(cache.path());
    let order = EngineOrder {
        model: cache.path().to_owned(),
        library: PathBuf::new(),
        device_index: 0,
        batch: 1,
        precision: None,
    };
    let (tell, told) = channel();
    let builder = EngineBuilder::of("/nowhere/watchpost".into());
    let build = EngineBuild::start(&builder, &engines, &stamp("people"), &order, move |build| {
        let _ = tell.send(build.clone());
    })
    .unwrap();
    let case = Case { cache, engines, build, told };
    let said = why(&case);
    assert!(said.contains("/nowhere/watchpost does not start"), "{said}");
}

const BUILDS: &str = r#"echo code > "$1/graph.engine"; echo '"done"'"#;

#[test]
fn one_engine_is_built_at_a_time() {
    let first = start(HANGS);
    let pid = process(&first);
    let (second, told) = begin(first.cache.path(), &first.engines, "violence", BUILDS);
    assert_eq!(told.recv().unwrap(), Build::Waiting);
    assert_eq!(second.poll(), Build::Waiting);
    assert!(Build::Waiting.line("violence").contains("waits until another one is built"));
    // One that waits goes at once when it is not wanted any more.
    let (third, told_third) = begin(first.cache.path(), &first.engines, "faces", BUILDS);
    assert_eq!(told_third.recv().unwrap(), Build::Waiting);
    third.cancel();
    assert_eq!(told_third.recv().unwrap(), Build::Failed("cancelled".into()));

    first.build.cancel();
    assert!(matches!(told.recv().unwrap(), Build::Building { .. }));
    assert!(matches!(told.recv().unwrap(), Build::Done { .. }));
    assert!(test_kill_process(pid).is_err());
    assert_eq!(first.engines.state(&stamp("violence")), EngineState::Fresh);
}

#[test]
fn an_engine_for_two_gpus_of_a_kind_is_built_once() {
    let first = start(
        r#"echo code > "$1/graph.engine"; echo built >> "$1/../../built"; mkfifo "$1/../../gate"; echo '"alive"'
           cat "$1/../../gate"; rm "$1/../../gate"; echo '"done"'"#,
    );
    for _ in 0..2 {
        assert!(matches!(first.told.recv().unwrap(), Build::Building { .. }));
    }
    let (second, told) = begin(first.cache.path(), &first.engines, "people", "exit 1");
    assert_eq!(told.recv().unwrap(), Build::Waiting);
    fs::write(first.cache.path().join("gate"), "").unwrap();
    assert!(matches!(all(&first).pop(), Some(Build::Done { .. })));
    assert!(matches!(told.recv().unwrap(), Build::Done { .. }), "{:?}", second.poll());
    assert_eq!(fs::read_to_string(first.cache.path().join("built")).unwrap(), "built\n");
}

/// A program that it started holds its output open.
#[test]
fn a_build_ends_with_everything_that_it_started() {
    let case = start(r#"mkfifo "$1/never"; echo '"alive"'; cat "$1/never"; echo '"done"'"#);
    assert!(matches!(case.told.recv().unwrap(), Build::Building { .. }));
    assert!(matches!(case.told.recv().unwrap(), Build::Building { .. }));
    case.build.cancel();
    assert_eq!(why(&case), "cancelled");
}
