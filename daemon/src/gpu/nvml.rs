//! What the GPUs are doing, by NVML: load of their parts, memory, temperature, power, what holds them back.
//!
//! In: the system's `libnvidia-ml.so.1`. Out: a [`Load`] of each GPU; what a GPU does not tell is `None`. Owned by who
//! asks. Fails with [`NoNvml`] where there is no library, or it does not start.

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum NoNvml {
    /// The library is nowhere.
    #[error(
        "no libnvidia-ml.so.1: no NVIDIA driver is installed, or not its tools' library (Debian: libnvidia-ml1)"
    )]
    NoLibrary,
    /// It is there and does not start.
    #[error("NVML does not start: {0}")]
    Start(String),
}

/// NVML, started.
#[derive(Debug)]
pub struct Nvml(nvml_wrapper::Nvml);

/// What a GPU is doing.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Load {
    /// Index, as NVML counts.
    pub index: u32,
    /// Its id, the same as CUDA's.
    pub uuid: Option<String>,
    /// Share of the last sample in which a kernel ran, percent.
    pub sm: Option<u32>,
    /// The same for the video decoder.
    pub decoder: Option<u32>,
    /// The same for the video encoder.
    pub encoder: Option<u32>,
    /// Bytes of video memory in use, by all processes.
    pub memory_used: Option<u64>,
    /// Bytes of video memory there are.
    pub memory_total: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Watts.
    pub power: Option<f32>,
    /// What holds its clocks back: names such as `SW_THERMAL_SLOWDOWN`.
    pub throttled_by: Vec<String>,
    /// Bytes of video memory of this process.
    pub own_memory: Option<u64>,
}

impl Nvml {
    /// Starts NVML.
    ///
    /// # Errors
    /// Where there is no library, or it does not start.
    pub fn start() -> Result<Self, NoNvml> {
        match nvml_wrapper::Nvml::init() {
            Ok(nvml) => Ok(Self(nvml)),
            Err(NvmlError::LibloadingError(_)) => Err(NoNvml::NoLibrary),
            Err(error) => Err(NoNvml::Start(error.to_string())),
        }
    }

    /// What each GPU is doing.
    #[must_use]
    pub fn loads(&self) -> Vec<Load> {
        let count = self.0.device_count().unwrap_or(0);
        (0..count).filter_map(|index| self.load(index)).collect()
    }

    fn load(&self, index: u32) -> Option<Load> {
        use nvml_wrapper::bitmasks::device::ThrottleReasons as Reasons;
        use nvml_wrapper::enums::device::UsedGpuMemory;

        let device = self.0.device_by_index(index).ok()?;
        let memory = device.memory_info().ok();
        let harmless = Reasons::GPU_IDLE | Reasons::APPLICATIONS_CLOCKS_SETTING;
        let reasons = device.current_throttle_reasons().unwrap_or(Reasons::empty()).difference(harmless);
        let own = device.running_compute_processes().ok().and_then(|processes| {
            processes.into_iter().find(|process| process.pid == std::process::id()).and_then(|process| {
                match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                }
            })
        });
        Some(Load {
            index,
            uuid: device.uuid().ok(),
            sm: device.utilization_rates().ok().map(|rates| rates.gpu),
            decoder: device.decoder_utilization().ok().map(|load| load.utilization),
            encoder: device.encoder_utilization().ok().map(|load| load.utilization),
            memory_used: memory.as_ref().map(|memory| memory.used),
            memory_total: memory.as_ref().map(|memory| memory.total),
            temperature: device.temperature(TemperatureSensor::Gpu).ok(),
            power: device.power_usage().ok().map(|milliwatts| milliwatts as f32 / 1000.0),
            throttled_by: reasons.iter_names().map(|(name, _)| name.to_owned()).collect(),
            own_memory: own,
        })
    }
}
