//! The TensorRT engines on this box's disk: which are of use here, and which may go.
//!
//! In: the settings, the cache, what this box is (driver, GPUs, ONNX Runtime, TensorRT). Out: [`KeptEngine`]s with a verdict;
//! engines that are removed. Nobody owns anything here. What cannot be known (TensorRT is not loaded, a model's folder is
//! wrong) is no reason to remove anything; what somebody runs on or builds is never removed.

use std::time::{Duration, SystemTime};

use crate::config::Settings;
use crate::gpu::probe;
use crate::infer::{Engine, Engines, InferError, Runtime, Stamp};

/// A stale engine that was not used for so long goes at the daemon's start: until then its model, driver or GPU may come
/// back.
const LONG: Duration = Duration::from_secs(30 * 86_400);

/// What an engine is good for on this box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is what a configured model needs here.
    Fresh,
    /// It is for something else, and for what.
    Stale(String),
    /// No model of its name is configured.
    Unconfigured,
    /// Nobody can tell, and why.
    Unknown(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fresh => f.write_str("fresh"),
            Self::Stale(why) => write!(f, "stale: {why}"),
            Self::Unconfigured => f.write_str("of no configured model"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// An engine on the disk.
#[derive(Debug)]
pub struct KeptEngine {
    /// What it is, and what for.
    pub engine: Engine,
    /// What it is good for.
    pub verdict: Verdict,
    /// Whether somebody runs on it now.
    pub in_use: bool,
    /// When it was used last, or built.
    pub used: Option<SystemTime>,
}

/// The engines in the cache. `load`: TensorRT is loaded for that, where it is not.
#[must_use]
pub fn kept_engines(settings: &Settings, load: bool) -> Vec<KeptEngine> {
    let engines = Engines::new(&settings.paths.cache);
    let found = engines.list();
    if found.is_empty() {
        return Vec::new();
    }
    let needed = Needed::here(settings, load);
    let kept = found.into_iter().map(|engine| KeptEngine {
        verdict: needed.verdict(settings, &engine.stamp),
        in_use: engines.in_use(&engine),
        used: engines.used(&engine),
        engine,
    });
    kept.collect()
}

/// Removes those engines that are chosen and that nobody runs on; gives those that went.
///
/// # Errors
/// Where a folder cannot be removed.
pub fn remove_engines(
    settings: &Settings,
    kept: &[KeptEngine],
    chosen: impl Fn(&KeptEngine) -> bool,
) -> Result<Vec<Engine>, InferError> {
    let keys: Vec<String> = kept.iter().filter(|it| chosen(it)).map(|it| it.engine.stamp.key()).collect();
    Engines::new(&settings.paths.cache).prune(|engine| !keys.contains(&engine.stamp.key()))
}

/// Removes what no start will want again: engines of models that are configured no more, and stale ones that were not used
/// for a month. For a daemon whose models are loaded.
pub fn prune_engines(settings: &Settings) {
    let kept = kept_engines(settings, false);
    if kept.is_empty() {
        return;
    }
    let now = SystemTime::now();
    match remove_engines(settings, &kept, |engine| may_go(engine, now)) {
        Ok(gone) => gone.iter().for_each(|engine| {
            let (model, gpu) = (&engine.stamp.model, &engine.stamp.gpu);
            tracing::info!(model, gpu, bytes = engine.bytes(), "an engine of no more use is removed");
        }),
        Err(error) => tracing::warn!(%error, "engines of no more use stay"),
    }
}

fn may_go(kept: &KeptEngine, now: SystemTime) -> bool {
    // A clock that was set back, and a time that nobody knows, are no reason.
    let long = || kept.used.and_then(|used| now.duration_since(used).ok()).is_some_and(|age| age > LONG);
    match kept.verdict {
        Verdict::Unconfigured => true,
        Verdict::Stale(_) => long(),
        Verdict::Fresh | Verdict::Unknown(_) => false,
    }
}

/// What the configured models need on the GPUs that are there, or why nobody can tell.
struct Needed(Result<Vec<Stamp>, String>);

impl Needed {
    fn here(settings: &Settings, load: bool) -> Self {
        Self(Self::stamps(settings, load))
    }

    fn stamps(settings: &Settings, load: bool) -> Result<Vec<Stamp>, String> {
        let driver = probe().map_err(|error| error.to_string())?;
        let runtime = Runtime::load(settings.infer.library.as_deref()).map_err(|error| error.to_string())?;
        if load {
            runtime.try_provider(crate::infer::Provider::TensorRt)?;
        }
        // An engine is for a version of it.
        runtime.tensorrt_version().ok_or("TensorRT is not loaded")?;
        let mut stamps = Vec::new();
        for (name, model) in &settings.models {
            // One whose folder is wrong gets its answer when it is loaded.
            let Ok(dir) = super::model_dir(settings, name) else { continue };
            for gpu in &driver.gpus {
                stamps.extend(Stamp::new(name, &dir, dir.batch(model.batch), gpu, &driver, &runtime));
            }
        }
        Ok(stamps)
    }

    fn verdict(&self, settings: &Settings, stamp: &Stamp) -> Verdict {
        if !settings.models.contains_key(&stamp.model) {
            return Verdict::Unconfigured;
        }
        let needed = match &self.0 {
            Ok(needed) => needed,
            Err(why) => return Verdict::Unknown(why.clone()),
        };
        let of_model = needed.iter().filter(|other| other.model == stamp.model);
        match of_model.map(|other| stamp.differences(other)).min_by_key(Vec::len) {
            None => Verdict::Unknown("its model cannot be read".into()),
            Some(differences) if differences.is_empty() => Verdict::Fresh,
            Some(differences) => Verdict::Stale(differences.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Model;

    fn stamp(model: &str, driver: &str) -> Stamp {
        Stamp {
            model: model.into(),
            graph: "a".repeat(64),
            input: "{}".into(),
            batch: 1,
            calibration: None,
            gpu: "NVIDIA L4".into(),
            compute: (8, 9),
            driver: driver.into(),
            runtime: "1.31.1".into(),
            tensorrt: "101303".into(),
            options: Default::default(),
        }
    }

    fn settings(cache: &std::path::Path) -> Settings {
        let mut settings = Settings::default();
        settings.paths.cache = cache.to_owned();
        let model = Model { path: "people".into(), batch: 1, threads: 0, threshold: None, precision: None };
        settings.models.insert("people".into(), model);
        settings
    }

    #[test]
    fn an_engine_is_of_use_stale_of_nobody_or_unknown() {
        let settings = settings(std::path::Path::new("/nowhere"));
        let needed = Needed(Ok(vec![stamp("people", "575.1")]));
        assert_eq!(needed.verdict(&settings, &stamp("people", "575.1")), Verdict::Fresh);
        let stale = needed.verdict(&settings, &stamp("people", "570.86.15")).to_string();
        assert_eq!(stale, "stale: made for driver 570.86.15, here is 575.1");
        assert_eq!(needed.verdict(&settings, &stamp("faces", "575.1")), Verdict::Unconfigured);
        let unknown = Needed(Err("TensorRT is not loaded".into()));
        assert_eq!(
            unknown.verdict(&settings, &stamp("people", "575.1")),
            Verdict::Unknown("TensorRT is not loaded".into())
        );
        assert_eq!(unknown.verdict(&settings, &stamp("faces", "575.1")), Verdict::Unconfigured);
        assert!(matches!(Needed(Ok(vec![])).verdict(&settings, &stamp("people", "1")), Verdict::Unknown(_)));
    }

    /// An engine, as a build leaves it.
    fn build(cache: &std::path::Path, stamp: &Stamp) -> crate::infer::EngineInUse {
        use crate::infer::{Build, EngineBuild, EngineBuilder, EngineOrder};
        let script = r#"echo code > "$1/graph.engine"; echo '"done"'"#;
        let builder = EngineBuilder {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into(), "builder".into()],
        };
        let order = EngineOrder {
            model: cache.to_owned(),
            library: "libonnxruntime.so".into(),
            device_index: 0,
            batch: 1,
            precision: None,
        };
        let engines = Engines::new(cache);
        let (told, over) = std::sync::mpsc::channel();
        let tell = move |build: &Build| {
            let _ = told.send(matches!(build, Build::Done { .. }));
        };
        let _build = EngineBuild::start(&builder, &engines, stamp, &order, tell).unwrap();
        while !over.recv().unwrap() {}
        engines.hold(stamp).unwrap()
    }

    /// On a box whose driver or TensorRT is not there nothing is known of configured models' engines.
    #[test]
    fn only_engines_that_nobody_wants_go_at_the_start() {
        let cache = tempfile::tempdir().unwrap();
        let settings = settings(cache.path());
        prune_engines(&settings);
        drop(build(cache.path(), &stamp("people", "1")));
        drop(build(cache.path(), &stamp("faces", "1")));
        let running = build(cache.path(), &stamp("plates", "1"));
        let left = |settings: &Settings| {
            let kept = kept_engines(settings, false);
            kept.into_iter().map(|kept| (kept.engine.stamp.model, kept.in_use)).collect::<Vec<_>>()
        };
        prune_engines(&settings);
        assert_eq!(left(&settings), [("people".to_owned(), false), ("plates".to_owned(), true)]);
        drop(running);
        prune_engines(&settings);
        assert_eq!(left(&settings), [("people".to_owned(), false)]);
    }

    #[test]
    fn a_stale_engine_goes_when_it_was_not_used_for_long() {
        let cache = tempfile::tempdir().unwrap();
        drop(build(cache.path(), &stamp("people", "1")));
        let [mut kept]: [KeptEngine; 1] = kept_engines(&settings(cache.path()), false).try_into().unwrap();
        let now = SystemTime::now();
        kept.verdict = Verdict::Stale("made for driver 1, here is 2".into());
        for (used, goes) in [
            (now, false),
            (now - Duration::from_secs(29 * 86_400), false),
            (now - Duration::from_secs(31 * 86_400), true),
            (now + Duration::from_secs(86_400), false),
        ] {
            kept.used = Some(used);
            assert_eq!(may_go(&kept, now), goes, "{used:?}");
        }
        kept.used = None;
        assert!(!may_go(&kept, now));
        kept.used = Some(now - LONG * 2);
        for verdict in [Verdict::Fresh, Verdict::Unknown("no driver".into())] {
            kept.verdict = verdict;
            assert!(!may_go(&kept, now));
        }
    }
}
