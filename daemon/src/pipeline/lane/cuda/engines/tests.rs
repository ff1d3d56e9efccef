//! Engines that a script builds, in TensorRT's place, and sessions of ONNX Runtime's CPU provider in the GPU's: who serves
//! when, what is said of it, and what happens when something goes wrong.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::infer::{BoundOptions, ModelDir, Runtime};
use crate::publish::messages::ModelEngine;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Builds at once.
const BUILDS: &str = r#"echo code > "$1/graph.engine"; echo '"done"'"#;
/// Builds when somebody opens the gate.
const GATED: &str = r#"echo '"alive"'; cat "$1/../../gate"; echo code > "$1/graph.engine"; echo '"done"'"#;

pub(in crate::pipeline::lane::cuda) fn stamp() -> Stamp {
    Stamp {
        model: "people".into(),
        graph: "a".repeat(64),
        input: "{}".into(),
        batch: 1,
        calibration: None,
        gpu: "NVIDIA L4".into(),
        compute: (8, 9),
        driver: "570.86.15".into(),
        runtime: "1.31.1".into(),
        tensorrt: "101303".into(),
        options: Default::default(),
    }
}

/// The model that stands for both, on the CPU.
fn session() -> Result<BoundSession, InferError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/people");
    BoundSession::open(&Runtime::load(None)?, &ModelDir::open(&folder)?, BoundOptions::default())
}

struct Case {
    plan: Plan,
    serving: Serving,
    awaited: Awaited,
    /// Sessions that were opened on the engine.
    on_engine: Arc<AtomicUsize>,
    cache: tempfile::TempDir,
}

impl Case {
    fn new(script: &str, meanwhile: bool) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let gate = std::process::Command::new("mkfifo").arg(cache.path().join("gate")).status().unwrap();
        assert!(gate.success());
        let on_engine = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&on_engine);
        let open: Open = Arc::new(move |engine| {
            if let Some(folder) = engine {
                opened.fetch_add(1, Ordering::Relaxed);
                let code = fs::read_to_string(folder.join("graph.engine")).unwrap_or_default();
                if code.trim() != "code" {
                    return Err(InferError::Ort("TensorRT cannot read its engine".into()));
                }
            }
            session()
        });
        let plan = Plan {
            engines: Engines::new(cache.path()),
            stamp: stamp(),
            builder: EngineBuilder {
                program: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into(), "builder".into()],
            },
            order: EngineOrder {
                model: cache.path().to_owned(),
                library: "libonnxruntime.so".into(),
                device_index: 0,
                batch: 1,
                precision: None,
            },
            open,
            meanwhile,
            in_place: false,
        };
        Self { plan, serving: Serving::default(), awaited: Awaited::default(), on_engine, cache }
    }

    fn open(&self) -> Result<Served, Error> {
        self.plan.clone().open(&self.awaited, &self.serving)
    }

    /// Lets a gated build go on.
    fn open_gate(&self) {
        fs::write(self.cache.path().join("gate"), "").unwrap();
    }

    fn provider(&self) -> String {
        self.serving.edge().0
    }

    fn engine(&self) -> ModelEngine {
        self.serving.status("people", "cuda", Some(0)).engine.unwrap()
    }
}

/// Looks until something is there.
fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// An engine of [`stamp`], held.
pub(in crate::pipeline::lane::cuda) fn held(cache: &Path) -> EngineInUse {
    let case = Case::new(BUILDS, true);
    let engines = Engines::new(cache);
    let build = EngineBuild::start(&case.plan.builder, &engines, &stamp(), &case.plan.order, |_| {}).unwrap();
    wait(|| matches!(build.poll(), Build::Done { .. }).then_some(()));
    engines.hold(&stamp()).unwrap()
}

#[test]
fn cuda_serves_until_the_engine_is_there_and_then_the_engine_does() {
    for in_place in [false, true] {
        let mut case = Case::new(GATED, true);
        case.plan.in_place = in_place;
        let mut served = case.open().unwrap();
        assert_eq!((case.provider().as_str(), case.on_engine.load(Ordering::Relaxed)), ("CUDA", 0));
        let mut better = served.better.take().unwrap();
        wait(|| (case.engine().state == ModelEngineState::Building).then_some(()));
        assert_eq!(case.engine().reason.as_deref(), Some("there is none yet"));
        assert!(better().is_none());
        // It serves all the while.
        let mut slot = served.session.slot(1).unwrap();
        served.session.run_and_wait(&mut slot).unwrap();
        case.open_gate();
        let ready = wait(&mut better).unwrap();
        assert_eq!((ready.by, case.on_engine.load(Ordering::Relaxed)), (Provider::TensorRt, 1));
        let [engine] = case.plan.engines.list().try_into().unwrap();
        assert!(case.plan.engines.in_use(&engine));
        drop((ready, better));
        assert!(!case.plan.engines.in_use(&engine));

        // The next start finds it.
        let case = Case { serving: Serving::default(), ..case };
        let again = case.open().unwrap();
        assert!(again.better.is_none() && again.in_use.is_some());
        assert_eq!((case.provider().as_str(), case.engine().state), ("TensorRT", ModelEngineState::Ready));
    }
}

#[test]
fn a_model_that_nothing_else_may_run_waits_for_its_engine() {
    let case = Case::new(GATED, false);
    for _ in 0..3 {
        let told = case.open().err().unwrap();
        let told = told.downcast_ref::<NotYet>().unwrap().to_string();
        assert!(told.contains("engine of people") && told.contains("infer.providers"), "{told}");
        assert!(case.serving.lacks_engine());
        assert_eq!(case.awaited.preparing("people").unwrap().to_string(), told);
    }
    wait(|| (case.engine().state == ModelEngineState::Building).then_some(()));
    case.open_gate();
    let served = wait(|| match case.open() {
        Ok(served) => Some(served),
        Err(error) => {
            assert!(error.is::<NotYet>(), "{error}");
            None
        }
    });
    assert!(served.better.is_none() && served.in_use.is_some());
    assert_eq!((case.provider().as_str(), case.engine().state), ("TensorRT", ModelEngineState::Ready));
    assert!(case.awaited.lock().is_empty() && case.awaited.preparing("people").is_none());
}

#[test]
fn a_build_that_nobody_waits_for_ends() {
    let case = Case::new(GATED, false);
    assert!(case.open().is_err());
    wait(|| (case.engine().state == ModelEngineState::Building).then_some(()));
    case.awaited.keep(&|name| name == "people");
    assert_eq!(case.engine().state, ModelEngineState::Building);
    case.awaited.keep(&|_| false);
    assert_eq!(case.engine().reason.as_deref(), Some("cancelled"));
    assert!(case.plan.engines.list().is_empty());
}

#[test]
fn an_engine_that_cannot_be_built_leaves_the_model_where_it_is() {
    const FAILS: &str = r#"echo '{"failed":"no libnvinfer.so.10"}'; exit 1"#;
    let case = Case::new(FAILS, true);
    let mut served = case.open().unwrap();
    let mut better = served.better.take().unwrap();
    assert_eq!(wait(&mut better).err().unwrap(), "no libnvinfer.so.10");
    assert_eq!(case.provider(), "CUDA");
    assert_eq!(case.engine().reason.as_deref(), Some("no libnvinfer.so.10"));

    // Where nothing else may run it, the stream fails with these words, and the next try builds anew.
    let case = Case::new(FAILS, false);
    let error = wait(|| case.open().err().filter(|error| !error.is::<NotYet>()));
    assert!(error.to_string().contains("no TensorRT engine of people: no libnvinfer.so.10"), "{error}");
    assert!(case.serving.lacks_engine(), "its engine's state is worth knowing");
    assert_eq!(case.engine().state, ModelEngineState::Failed);
    assert!(case.open().err().unwrap().is::<NotYet>());
}

#[test]
fn an_engine_that_cannot_be_used_is_said_and_cuda_serves() {
    const WRONG: &str = r#"echo spoiled > "$1/graph.engine"; echo '"done"'"#;
    let case = Case::new(WRONG, true);
    let mut better = case.open().unwrap().better.unwrap();
    assert!(wait(&mut better).err().unwrap().contains("cannot read its engine"));
    drop(better);
    // At the next start it lies there, whole as far as one can see.
    let served = case.open().unwrap();
    assert!(served.better.is_none() && served.in_use.is_none());
    assert_eq!((case.provider().as_str(), case.engine().state), ("CUDA", ModelEngineState::Failed));
    assert!(case.engine().reason.unwrap().contains("cannot read its engine"));
    let alone = Case { plan: Plan { meanwhile: false, ..case.plan.clone() }, ..case };
    assert!(alone.open().err().unwrap().to_string().contains("cannot read its engine"));
}

#[test]
fn a_model_that_does_not_open_takes_its_build_along() {
    let mut case = Case::new(GATED, true);
    case.plan.open = Arc::new(|_| Err(InferError::Ort("no such operator".into())));
    assert!(case.open().err().unwrap().to_string().contains("no such operator"));
    assert!(!case.serving.lacks_engine() && case.plan.engines.list().is_empty());
}
