//! ONNX Runtime, its execution providers and their libraries, the configured models, and the engines that TensorRT has made of them.
//!
//! In: the configuration. Out: findings. Providers are registered with a session that nothing runs in, which loads
//! their libraries; models are loaded as a stream would. Runs in a process of its own: a graph or a library that is
//! broken may crash it.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::runtime;
use super::tries::{Tries, Went};
use crate::config::Settings;
use crate::config::settings::{LaneChoice, Stream};
use crate::gpu::{Driver, probe};
use crate::infer::{EngineState, Engines, Provider, Runtime, Stamp};

pub(super) fn look(tries: &mut Tries, settings: &Settings, driver: bool) {
    let load = || Runtime::load(settings.infer.library.as_deref());
    let all = super::enabled(settings, |stream| !stream.models.is_empty());
    tries.vital("ONNX Runtime", "libonnxruntime.so", &all, || vec![runtime::loaded(load(), &all)]);
    let Ok(runtime) = load() else { return };
    let loaded = providers(tries, settings, &runtime, driver);
    for name in settings.models.keys() {
        let users = super::enabled(settings, |stream| stream.models.contains_key(name));
        tries.one("model", name, &users, || {
            vec![match crate::pipeline::check_model(settings, name) {
                Ok(found) if users.is_empty() => {
                    Finding::good("model", format!("{name}: {found}; no stream uses it"))
                }
                Ok(found) => Finding::good("model", format!("{name}: {found}")),
                Err(error) => {
                    let fix = "`watchpost model check FOLDER` tries the model alone";
                    Finding::needed("model", error.to_string(), fix, &users)
                }
            }]
        });
    }
    // A driver that is broken is not asked again.
    if driver && let Ok(driver) = probe() {
        tries.one("engine", "TensorRT's engines", &[], || {
            engines(settings, &runtime, &driver, loaded.contains(&Provider::TensorRt))
        });
    }
}

/// Which load. Where none of those that the configuration names does, nothing on the CUDA lane has models.
fn providers(tries: &mut Tries, settings: &Settings, runtime: &Runtime, driver: bool) -> Vec<Provider> {
    let mut loaded = vec![Provider::Cpu];
    for provider in [Provider::TensorRt, Provider::Cuda] {
        let mut works = false;
        let went = tries.one("provider", &provider.to_string(), &[], || {
            let outcome = runtime.try_provider(provider);
            works = outcome.is_ok();
            vec![runtime::provider(runtime, provider, outcome, driver)]
        });
        if works || (went == Went::Before && runtime.try_provider(provider).is_ok()) {
            loaded.push(provider);
        }
    }
    tries.one("GPU runtime", "its libraries", &[], runtime::libraries);
    let wanted = &settings.infer.providers;
    if driver && !wanted.iter().any(|provider| loaded.contains(provider)) {
        let on_gpu = |stream: &Stream| stream.lane.unwrap_or(settings.accel.lane) != LaneChoice::Cpu;
        let stops = super::enabled(settings, |stream| on_gpu(stream) && !stream.models.is_empty());
        let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let found = format!("none of infer.providers loads: {}", names.join(", "));
        let fix = "add \"cpu\" to infer.providers, or mend what is said of them above";
        tries.one("provider", "infer.providers", &[], || {
            vec![Finding::needed("provider", found, fix, &stops)]
        });
    }
    loaded
}

/// The engine of each model on each GPU that a stream runs it on. `tensorrt`: it loads; where it does not, engines are
/// compared by all but its version, and none can be called fresh.
fn engines(settings: &Settings, runtime: &Runtime, driver: &Driver, tensorrt: bool) -> Vec<Finding> {
    let engines = Engines::new(&settings.paths.cache);
    let there = engines.list();
    let mut findings = Vec::new();
    for (name, model) in &settings.models {
        if !tensorrt && !there.iter().any(|engine| engine.stamp.model == *name) {
            continue;
        }
        let users = settings.streams.values().filter(|stream| {
            let lane = stream.lane.unwrap_or(settings.accel.lane);
            stream.enabled && lane != LaneChoice::Cpu && stream.models.contains_key(name)
        });
        let gpus: BTreeSet<u32> = users.map(|stream| stream.gpu.unwrap_or(settings.accel.gpu)).collect();
        // What is wrong with the folder is said under `model`.
        let Ok(dir) = crate::pipeline::model_dir(settings, name) else { continue };
        for gpu in driver.gpus.iter().filter(|gpu| gpus.contains(&gpu.index)) {
            let whose = format!("{name} on GPU {}", gpu.index);
            findings.push(match Stamp::new(name, &dir, dir.batch(model.batch), gpu, driver, runtime) {
                Ok(stamp) if tensorrt => engine(&whose, engines.state(&stamp)),
                Ok(stamp) => {
                    // As if TensorRT were the one that an engine was made with.
                    let versions = there.iter().map(|engine| engine.stamp.tensorrt.clone());
                    let as_if = |tensorrt| engines.state(&Stamp { tensorrt, ..stamp.clone() });
                    let states: Vec<EngineState> = versions.map(as_if).collect();
                    let fresh = states.iter().find(|state| **state == EngineState::Fresh).cloned();
                    unloaded(
                        &whose,
                        fresh.or_else(|| states.into_iter().next()).unwrap_or(EngineState::Missing),
                    )
                }
                Err(error) => {
                    Finding::limited("engine", format!("{whose}: {error}"), "mend the model's calibration")
                }
            });
        }
    }
    // Nobody asks for these any more.
    let others: Vec<_> =
        there.iter().filter(|engine| !settings.models.contains_key(&engine.stamp.model)).collect();
    if !others.is_empty() {
        let names: BTreeSet<&str> = others.iter().map(|engine| engine.stamp.model.as_str()).collect();
        let bytes: u64 = others.iter().map(|engine| engine.bytes()).sum();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let found = format!("{names}: configured no more, {:.1} MB", bytes as f64 / 1e6);
        findings.push(Finding::good("engine", found));
    }
    findings
}

fn engine(whose: &str, state: EngineState) -> Finding {
    let fix = "it is built at the daemon's next start; CUDA serves meanwhile";
    match state {
        EngineState::Fresh => Finding::good("engine", format!("{whose}: fresh")),
        EngineState::Stale(why) => Finding::limited("engine", format!("{whose}: stale: {why}"), fix),
        EngineState::Missing => Finding::limited("engine", format!("{whose}: none yet"), fix),
    }
}

/// One that nothing can run, since TensorRT does not load.
fn unloaded(whose: &str, state: EngineState) -> Finding {
    let fix = "mend what is said of TensorRT above; the next provider serves meanwhile";
    match state {
        EngineState::Stale(why) => {
            Finding::limited("engine", format!("{whose}: stale: {why}; and TensorRT does not load"), fix)
        }
        _ => {
            Finding::untried("engine", format!("{whose}: made for this GPU; TensorRT does not load")).fix(fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::gpu::Gpu;

    #[test]
    fn engines_are_fresh_stale_or_not_there() {
        assert_eq!(engine("people on GPU 0", EngineState::Fresh).verdict, Verdict::Good);
        let stale = engine("people on GPU 0", EngineState::Stale("made for driver 1, here is 2".into()));
        assert_eq!(stale.verdict, Verdict::Limited);
        assert_eq!(stale.found, "people on GPU 0: stale: made for driver 1, here is 2");
        assert!(engine("people on GPU 0", EngineState::Missing).found.ends_with("none yet"));
    }

    /// A box with one GPU, a model in a folder, and an engine for it, as a build leaves it.
    struct Case {
        folder: tempfile::TempDir,
        settings: Settings,
        runtime: Runtime,
        driver: Driver,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let model = folder.path().join("people");
            std::fs::create_dir(&model).unwrap();
            std::fs::write(model.join("model.onnx"), "a graph").unwrap();
            let manifest = "task = \"detect\"\nlabels = [\"person\"]\n[input]\nlayout = \"nchw\"\nchannels = \"rgb\"\n\
                            fit = \"letterbox\"\n[output]\ndecoder = \"yolox\"\nthreshold = 0.3\nstrides = [8]\n";
            std::fs::write(model.join("model.toml"), manifest).unwrap();
            let settings = serde_json::from_value(serde_json::json!({
                "paths": { "cache": folder.path() },
                "models": { "people": { "path": model } },
                "streams": { "yard": { "source": "scene://people", "models": { "people": {} } } },
            }));
            let gpu =
                Gpu { index: 0, name: "NVIDIA L4".into(), uuid: "0".into(), compute: (8, 9), memory: 0 };
            let driver = Driver { cuda: 12_080, module: Some("570.86.15".into()), gpus: vec![gpu] };
            Self { folder, settings: settings.unwrap(), runtime: Runtime::load(None).unwrap(), driver }
        }

        fn stamp(&self) -> Stamp {
            let dir = crate::pipeline::model_dir(&self.settings, "people").unwrap();
            Stamp::new("people", &dir, 1, &self.driver.gpus[0], &self.driver, &self.runtime).unwrap()
        }

        /// Writes an engine; gives its folder.
        fn build(&self, stamp: &Stamp) -> std::path::PathBuf {
            let place = Engines::new(self.folder.path()).folder(stamp);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("graph.engine"), "machine code").unwrap();
            let text = serde_json::json!({ "schema": "watchpost.engine/1", "stamp": stamp, "seconds": 90.0,
                "built": 1_800_000_000, "files": { "graph.engine": 12 } });
            std::fs::write(place.join("stamp.json"), text.to_string()).unwrap();
            place
        }

        fn found(&self, tensorrt: bool) -> Vec<(Verdict, String)> {
            let findings = engines(&self.settings, &self.runtime, &self.driver, tensorrt);
            findings.into_iter().map(|finding| (finding.verdict, finding.found)).collect()
        }
    }

    fn limited(text: &str) -> Vec<(Verdict, String)> {
        vec![(Verdict::Limited, format!("people on GPU 0: {text}"))]
    }

    #[test]
    fn an_engine_on_disk_is_compared_with_the_box() {
        let mut case = Case::new();
        assert_eq!(case.found(true), limited("none yet"));
        let place = case.build(&case.stamp());
        let fresh = vec![(Verdict::Good, "people on GPU 0: fresh".to_owned())];
        assert_eq!(case.found(true), fresh);

        case.driver.module = Some("580.1".into());
        assert_eq!(case.found(true), limited("stale: made for driver 570.86.15, here is 580.1"));
        case.driver.module = Some("570.86.15".into());
        let graph = case.folder.path().join("people/model.onnx");
        std::fs::write(&graph, "another graph").unwrap();
        assert_eq!(case.found(true), limited("stale: the model's file has changed"));
        std::fs::write(&graph, "a graph").unwrap();
        assert_eq!(case.found(true), fresh);
        std::fs::write(place.join("graph.engine"), "half").unwrap();
        assert_eq!(case.found(true), limited("stale: graph.engine has 4 bytes; 12 were written"));
        std::fs::remove_file(place.join("stamp.json")).unwrap();
        assert_eq!(case.found(true), limited("none yet"));

        case.build(&Stamp { model: "cars".into(), ..case.stamp() });
        assert_eq!(case.found(true)[1], (Verdict::Good, "cars: configured no more, 0.0 MB".to_owned()));
        // Nobody runs it on a GPU: it needs no engine.
        case.settings.accel.lane = LaneChoice::Cpu;
        assert_eq!(case.found(true).len(), 1);
    }

    #[test]
    fn without_tensorrt_no_engine_is_called_fresh() {
        let mut case = Case::new();
        assert!(case.found(false).is_empty(), "there is none, and none is needed");
        // Which version it was made with cannot be compared.
        case.build(&Stamp { tensorrt: "101303".into(), ..case.stamp() });
        let untried = "people on GPU 0: made for this GPU; TensorRT does not load".to_owned();
        assert_eq!(case.found(false), [(Verdict::Untried, untried)]);
        case.driver.gpus[0].name = "Tesla T4".into();
        let stale = "stale: made for GPU NVIDIA L4, here is Tesla T4; and TensorRT does not load";
        assert_eq!(case.found(false), limited(stale));
    }
}
