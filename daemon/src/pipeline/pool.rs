//! The models of the box: loaded once, shared by all streams that use them.
//!
//! In: `models.NAME` of the configuration. Out: a running [`Model`]. Owned by the supervisor. A model that cannot be
//! loaded fails the streams that use it, with the reason; others go on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lane::{CpuLoader, Loader, NotYet, Order, Serving};
use super::looks::Looks;
use super::model::Model;
use crate::config::Settings;
use crate::config::settings::{Infer, Model as ModelSettings};
use crate::flow::Recycle;
use crate::infer::{ModelDir, Runtime, SessionOptions};
use crate::publish::messages::ModelStatus;
use crate::telemetry::{Registry, fields};

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The folder is nowhere.
    #[error("model {name}: no folder {path} with a model.toml; looked in {looked}")]
    NotFound {
        /// Name of the model.
        name: String,
        /// As configured.
        path: String,
        /// Where it was looked for.
        looked: String,
    },
    /// It is being made ready.
    #[error("model {name}: {why}")]
    NotYet {
        /// Name of the model.
        name: String,
        /// What is waited for.
        why: NotYet,
    },
    /// It cannot be loaded.
    #[error("model {name}: {source}")]
    Load {
        /// Name of the model.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

type Slot<T> = Arc<Mutex<Option<(Looks, Arc<Model<T>>)>>>;

/// Loads a model as a stream would; what it is, in a line.
///
/// # Errors
/// Why it cannot be used.
pub fn check_model(settings: &Settings, name: &str) -> Result<String, PoolError> {
    let model = Pool::new(settings, Registry::new(), Box::new(CpuLoader)).get(name)?;
    let feed = &model.feed;
    Ok(format!(
        "{}  {:?} {} {:?}  {} labels",
        model.dir.path.display(),
        feed.manifest.task,
        feed.size,
        feed.element,
        model.dir.labels.len()
    ))
}

/// The folder of a model, as a stream would find it.
///
/// # Errors
/// Where it is nowhere.
pub fn find_model(settings: &Settings, name: &str) -> Result<PathBuf, PoolError> {
    let path = settings.models.get(name).map(|model| model.path.as_path()).unwrap_or(Path::new(name));
    find(name, path, &settings.paths.models)
}

/// The folder of a model, read: its manifest and labels; the graph is not opened.
///
/// # Errors
/// Where it is nowhere, or its manifest is wrong.
pub fn model_dir(settings: &Settings, name: &str) -> Result<ModelDir, PoolError> {
    let path = settings.models.get(name).map(|model| model.path.clone()).unwrap_or_default();
    let folder = find(name, &path, &settings.paths.models)?;
    let precision = settings.models.get(name).and_then(|model| model.precision);
    ModelDir::open(&folder)
        .and_then(|model| model.in_numbers(precision))
        .map_err(|error| PoolError::Load { name: name.to_owned(), source: error.into() })
}

/// The models of the box, as one lane has them.
pub(super) struct Pool<T: Recycle> {
    settings: Mutex<Parts>,
    /// One lock a model: two streams that want the same model wait for one load, others do not wait.
    slots: Mutex<HashMap<String, Slot<T>>>,
    /// What runs each, also of those that are being made ready.
    serving: Mutex<BTreeMap<String, Serving>>,
    registry: Registry,
    loader: Box<dyn Loader<T>>,
}

impl<T: Recycle + Send + Sync + 'static> Pool<T> {
    pub(super) fn new(settings: &Settings, registry: Registry, loader: Box<dyn Loader<T>>) -> Self {
        let settings = Mutex::new(parts(settings));
        Self { settings, slots: Mutex::default(), serving: Mutex::default(), registry, loader }
    }

    /// Takes over changed settings; models that run stay as long as a stream holds them.
    pub(super) fn configure(&self, settings: &Settings) {
        let before = {
            let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, parts(settings)).models
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|name, _| settings.models.contains_key(name));
        // Nobody would ask again for one that no stream wants any more.
        let wanted = |name: &str| settings.streams.values().any(|stream| stream.models.contains_key(name));
        let as_before = |name: &str| before.get(name).cloned() == Looks::of(settings, name);
        self.loader.keep(&|name| wanted(name) && as_before(name));
        self.serving().retain(|name, serving| {
            let stays = settings.models.contains_key(name);
            if !stays {
                self.registry.forget(fields::MODEL, name);
            }
            stays && (wanted(name) || !serving.lacks_engine())
        });
    }

    /// What a model is made of, as it was when the settings were taken over.
    pub(super) fn looks(&self, name: &str) -> Option<Looks> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).models.get(name).cloned()
    }

    /// What runs each model.
    pub(super) fn report(&self, lane: &str, gpu: Option<u32>) -> Vec<ModelStatus> {
        self.serving().iter().map(|(name, serving)| serving.status(name, lane, gpu)).collect()
    }

    fn serving(&self) -> MutexGuard<'_, BTreeMap<String, Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model of that name, loaded where it is not.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Model<T>>, PoolError> {
        let Parts { models, folders, cache } =
            self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(looks) = models.get(name) else {
            return Err(PoolError::NotFound {
                name: name.to_owned(),
                path: String::new(),
                looked: "the configuration".into(),
            });
        };
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(name.to_owned()).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((loaded, model)) = &*slot
            && loaded == looks
        {
            return Ok(Arc::clone(model));
        }
        if let Some(why) = self.loader.preparing(name) {
            return Err(PoolError::NotYet { name: name.to_owned(), why });
        }
        let (settings, infer) = (&looks.settings, &looks.infer);
        let folder = find(name, &settings.path, &folders)?;
        if slot.is_some() {
            // The one before may serve other streams for a while yet.
            self.serving().remove(name);
        }
        let serving = self.serving().entry(name.to_owned()).or_default().clone();
        let model = match self.load(name, &folder, settings, infer, &cache, &serving) {
            Ok(model) => Arc::new(model),
            Err(source) => {
                if !serving.lacks_engine() {
                    self.serving().remove(name);
                }
                let name = name.to_owned();
                return Err(match source.downcast::<NotYet>() {
                    Ok(why) => PoolError::NotYet { name, why: *why },
                    Err(source) => PoolError::Load { name, source },
                });
            }
        };
        *slot = Some((looks.clone(), Arc::clone(&model)));
        Ok(model)
    }

    fn load(
        &self,
        name: &str,
        folder: &Path,
        settings: &ModelSettings,
        infer: &Infer,
        cache: &Path,
        serving: &Serving,
    ) -> Result<Model<T>, Box<dyn std::error::Error + Send + Sync>> {
        let runtime = Runtime::load(infer.library.as_deref())?;
        let mut dir = ModelDir::open(folder)?.in_numbers(settings.precision)?;
        let threads = if settings.threads == 0 { infer.threads } else { settings.threads };
        let options = SessionOptions { threads, batch: settings.batch };
        let order = Order { name, options, threshold: settings.threshold, serving, infer, cache };
        let opened = self.loader.open(&runtime, &mut dir, &order)?;
        let (threads, batch, by) = (opened.threads, opened.batch, serving.edge().0);
        tracing::info!(model = name, folder = %folder.display(), by, threads, batch, "model loaded");
        let wait = Duration::from_millis(infer.batch_wait_ms);
        Ok(Model::start(name, dir, opened, serving.clone(), wait, &self.registry)?)
    }

    /// Stops every model's thread, and what is being made ready.
    pub(super) fn stop(&self) {
        self.loader.keep(&|_| false);
        for (_, slot) in self.slots.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            if let Some((_, model)) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                model.stop();
            }
        }
    }
}

/// What the pool needs of the settings.
#[derive(Clone)]
struct Parts {
    models: BTreeMap<String, Looks>,
    folders: Vec<PathBuf>,
    cache: PathBuf,
}

fn parts(settings: &Settings) -> Parts {
    Parts {
        models: settings
            .models
            .keys()
            .filter_map(|name| Some((name.clone(), Looks::of(settings, name)?)))
            .collect(),
        folders: settings.paths.models.clone(),
        cache: settings.paths.cache.clone(),
    }
}

pub(super) fn find(name: &str, path: &Path, folders: &[PathBuf]) -> Result<PathBuf, PoolError> {
    let candidates: Vec<PathBuf> = if path.is_absolute() {
        vec![path.to_owned()]
    } else {
        folders.iter().map(|folder| folder.join(path)).collect()
    };
    candidates.iter().find(|folder| folder.join("model.toml").is_file()).cloned().ok_or_else(|| {
        PoolError::NotFound {
            name: name.to_owned(),
            path: path.display().to_string(),
            looked: candidates
                .iter()
                .map(|folder| folder.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }
    })
}
