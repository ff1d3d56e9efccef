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

/// The engine of each model on each GPU that a stream runs it on.
fn engines(settings: &Settings, runtime: &Runtime, driver: &Driver, tensorrt: bool) -> Vec<Finding> {
    let engines = Engines::new(&settings.paths.cache);
    if !tensorrt {
        // Whether they are fresh depends on the version of a library that is not there.
        let count = engines.list().len();
        let found = format!("{count} in {}; TensorRT does not load", settings.paths.cache.display());
        return if count > 0 { vec![Finding::untried("engine", found)] } else { Vec::new() };
    }
    let mut findings = Vec::new();
    for (name, model) in &settings.models {
        let users = settings.streams.values().filter(|stream| {
            let lane = stream.lane.unwrap_or(settings.accel.lane);
            stream.enabled && lane != LaneChoice::Cpu && stream.models.contains_key(name)
        });
        let gpus: BTreeSet<u32> = users.map(|stream| stream.gpu.unwrap_or(settings.accel.gpu)).collect();
        // What is wrong with the folder is said under `model`.
        let Ok(dir) = crate::pipeline::model_dir(settings, name) else { continue };
        for gpu in driver.gpus.iter().filter(|gpu| gpus.contains(&gpu.index)) {
            let whose = format!("{name} on GPU {}", gpu.index);
            findings.push(match Stamp::new(name, &dir, model.batch, gpu, driver, runtime) {
                Ok(stamp) => engine(&whose, engines.state(&stamp)),
                Err(error) => {
                    Finding::limited("engine", format!("{whose}: {error}"), "mend the model's calibration")
                }
            });
        }
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

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn engines_are_fresh_stale_or_not_there() {
        assert_eq!(engine("people on GPU 0", EngineState::Fresh).verdict, Verdict::Good);
        let stale = engine("people on GPU 0", EngineState::Stale("made for driver 1, here is 2".into()));
        assert_eq!(stale.verdict, Verdict::Limited);
        assert_eq!(stale.found, "people on GPU 0: stale: made for driver 1, here is 2");
        assert!(engine("people on GPU 0", EngineState::Missing).found.ends_with("none yet"));
    }

    #[test]
    fn engines_that_nothing_can_run_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.paths.cache = folder.path().to_owned();
        let runtime = Runtime::load(None).unwrap();
        let driver = Driver { cuda: 12_080, module: None, gpus: Vec::new() };
        assert!(engines(&settings, &runtime, &driver, false).is_empty());
    }
}
