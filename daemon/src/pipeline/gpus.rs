//! The box's GPUs, as streams use them: opened when the first stream wants one, kept as long as the daemon runs.
//!
//! In: what a stream's configuration asks for. Out: the lane that it takes, with the reason; a [`Gpu`] with its context
//! and the models on it. Owned by the supervisor. `cuda` that cannot start is an error; `auto` takes the CPU then and
//! says why. A GPU whose context broke is lost until the process starts again: [`Gpus::lost`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::lane::{Cuda, CudaShared, CudaTensor, Lane};
use super::pool::Pool;
use crate::config::Settings;
use crate::config::settings::{Accel, LaneChoice, Stream};
use crate::gpu::{Device, Driver, probe};
use crate::publish::messages::ModelStatus;
use crate::service::crash;
use crate::telemetry::Registry;

/// Which lane, and which GPU, a stream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    lane: LaneChoice,
    gpu: u32,
}

impl Wish {
    /// The stream's own, else the box's.
    pub(super) fn of(accel: &Accel, stream: &Stream) -> Self {
        Self { lane: stream.lane.unwrap_or(accel.lane), gpu: stream.gpu.unwrap_or(accel.gpu) }
    }

    /// The box's.
    pub(super) fn of_box(accel: &Accel) -> Self {
        Self { lane: accel.lane, gpu: accel.gpu }
    }
}

/// The lane that a stream takes.
pub(super) enum Choice {
    /// The CPU, and why.
    Cpu(String),
    /// A GPU, and why.
    Cuda(Arc<Gpu>, String),
}

/// The lane that a stream would take, or the box's where none is given, and why. Opens the GPU for that.
///
/// # Errors
/// Where CUDA is asked for by name and cannot start.
pub fn check_lane(settings: &Settings, stream: Option<&Stream>) -> Result<String, String> {
    let wish =
        stream.map_or_else(|| Wish::of_box(&settings.accel), |stream| Wish::of(&settings.accel, stream));
    // By its settings, since a stream does not know its name.
    let named = settings.streams.iter().find(|(_, known)| stream.is_some_and(|stream| stream == *known));
    let name = named.map(|(name, _)| name.as_str());
    Gpus::new(settings, Registry::new()).choose(wish, name).map(|choice| choice.to_string())
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu(why) => write!(f, "cpu: {why}"),
            Self::Cuda(_, why) => write!(f, "cuda: {why}"),
        }
    }
}

/// A GPU with the models on it.
pub(super) struct Gpu {
    pub(super) shared: CudaShared,
    pub(super) models: Pool<CudaTensor>,
    name: String,
}

/// The box's GPUs.
pub(super) struct Gpus {
    registry: Registry,
    settings: Mutex<Settings>,
    open: Mutex<BTreeMap<u32, Arc<Gpu>>>,
    /// Held while one is opened: two streams that want the same wait for one context. Whoever only looks does not.
    opening: Mutex<()>,
}

impl Gpus {
    pub(super) fn new(settings: &Settings, registry: Registry) -> Self {
        Self {
            registry,
            settings: Mutex::new(settings.clone()),
            open: Mutex::default(),
            opening: Mutex::default(),
        }
    }

    /// The lane for what is asked, by a stream or by the box.
    ///
    /// # Errors
    /// Where CUDA is asked for by name and cannot start, or its GPU was lost.
    pub(super) fn choose(&self, wish: Wish, stream: Option<&str>) -> Result<Choice, String> {
        if wish.lane == LaneChoice::Cpu {
            return Ok(Choice::Cpu("as configured".into()));
        }
        match self.get(wish.gpu, stream) {
            Ok(gpu) => {
                if let Some(lost) = gpu.shared.device.lost() {
                    return Err(format!("GPU {} is lost until the daemon starts again: {lost}", wish.gpu));
                }
                let why = match wish.lane {
                    LaneChoice::Auto => format!("auto: GPU {} is {}", wish.gpu, gpu.name),
                    _ => format!("as configured: GPU {} is {}", wish.gpu, gpu.name),
                };
                Ok(Choice::Cuda(gpu, why))
            }
            Err(why) if wish.lane == LaneChoice::Auto => Ok(Choice::Cpu(format!("auto: {why}"))),
            Err(why) => Err(format!("lane \"cuda\" cannot start: {why}; see `watchpost doctor`")),
        }
    }

    /// The error of a GPU that was lost, if one was.
    pub(super) fn lost(&self) -> Option<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().find_map(|gpu| Some(gpu.shared.device.lost()?.to_string()))
    }

    /// Takes over changed settings of models.
    pub(super) fn configure(&self, settings: &Settings) {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone_from(settings);
        for gpu in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            gpu.models.configure(settings);
        }
    }

    /// What runs each model on each GPU.
    pub(super) fn report(&self) -> Vec<ModelStatus> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.iter().flat_map(|(index, gpu)| gpu.models.report(Cuda::NAME, Some(*index))).collect()
    }

    /// Stops every model's thread.
    pub(super) fn stop(&self) {
        for gpu in std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner)).values() {
            gpu.models.stop();
        }
    }

    fn get(&self, index: u32, stream: Option<&str>) -> Result<Arc<Gpu>, String> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let known = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = known().get(&index) {
            return Ok(Arc::clone(gpu));
        }
        let gpu = crash::blameless(|| self.open(index, stream))?;
        known().insert(index, Arc::clone(&gpu));
        Ok(gpu)
    }

    /// Opens a GPU, and has everything loaded that initialises CUDA: no stream's decoder has a part in that.
    fn open(&self, index: u32, stream: Option<&str>) -> Result<Arc<Gpu>, String> {
        let driver = probe().map_err(|error| error.to_string())?;
        let found = driver
            .gpus
            .iter()
            .find(|gpu| gpu.index == index)
            .ok_or_else(|| self.no_such(index, stream, &driver))?;
        let device = Device::open(index).map_err(|error| error.to_string())?;
        // What breaks once the context is broken is not its source's doing.
        device.when_lost(crash::pardon);
        let shared = CudaShared::new(device, &self.registry);
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let models = Pool::new(&settings, self.registry.clone(), Box::new(shared.loader()));
        let gpu = Arc::new(Gpu { shared, models, name: found.name.clone() });
        let version = driver.module.as_deref().unwrap_or("unknown");
        tracing::info!(gpu = index, name = found.name, driver = version, cuda = driver.cuda, "GPU opened");
        Ok(gpu)
    }

    /// That there is no such GPU: which key asks for it, where that is written, and what there is.
    fn no_such(&self, index: u32, stream: Option<&str>, driver: &Driver) -> String {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let own = stream.filter(|name| settings.streams.get(*name).is_some_and(|own| own.gpu.is_some()));
        let key = own.map_or_else(|| "accel.gpu".to_owned(), |name| format!("streams.{name}.gpu"));
        let key = settings.origins.place(&key);
        let there: Vec<String> =
            driver.gpus.iter().map(|gpu| format!("{} ({})", gpu.index, gpu.name)).collect();
        let (count, there) = (there.len(), there.join(", "));
        format!("{key}: there is no GPU {index}; the driver has {count}, counted from 0: {there}")
    }
}
