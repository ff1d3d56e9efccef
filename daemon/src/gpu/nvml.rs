//! What the GPUs are doing, by NVML: load of their parts, memory and whose, temperature, power, what holds them back.
//!
//! In: the system's `libnvidia-ml.so.1`. Out: a [`Load`] of each GPU; what a GPU does not tell is `None`, and what the
//! library is too old to tell is named. Owned by who asks. Fails with [`NoNvml`] where there is no library, or it does
//! not start; a GPU that is lost later says so in its [`Load`].

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

/// Why there are no figures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoNvml {
    /// The library is nowhere.
    #[error("no libnvidia-ml.so.1: no NVIDIA driver is installed, or not its tools' library")]
    NoLibrary,
    /// It is there and does not load.
    #[error("libnvidia-ml.so.1 does not load: {0}")]
    Broken(String),
    /// It lacks a function without which nothing can be asked.
    #[error("libnvidia-ml.so.1 is too old: {0}")]
    TooOld(String),
    /// It does not start.
    #[error("NVML does not start: {0}")]
    Start(String),
    /// It has no GPU.
    #[error("NVML works and has no GPU")]
    NoGpu,
}

impl NoNvml {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoLibrary => "on a box with an NVIDIA GPU: apt install libnvidia-ml1",
            Self::Broken(_) => "reinstall the driver's library (Debian: libnvidia-ml1)",
            Self::TooOld(_) => "install a newer driver",
            Self::Start(_) => {
                "see `nvidia-smi`; after an update of the driver: reboot; in a container or unit: allow /dev/nvidia*"
            }
            Self::NoGpu => "see `nvidia-smi`",
        }
    }

    fn of(error: NvmlError) -> Self {
        match error {
            NvmlError::LibloadingError(error) => {
                let text = error.to_string();
                // The loader says it of the library itself, or of one that it needs.
                let nowhere =
                    text.starts_with("libnvidia-ml.so.1: cannot open") && text.contains("No such file");
                if nowhere { Self::NoLibrary } else { Self::Broken(text) }
            }
            NvmlError::FailedToLoadSymbol(text) => Self::TooOld(text),
            error => Self::Start(error.to_string()),
        }
    }
}

/// NVML, started.
#[derive(Debug)]
pub struct Nvml(nvml_wrapper::Nvml);

/// What a GPU is doing.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Load {
    /// Index, as NVML counts (and `nvidia-smi` does).
    pub index: u32,
    /// Its id, the same as CUDA's.
    pub uuid: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Share of the last sample in which a kernel ran, percent.
    pub sm: Option<u32>,
    /// The same for the video decoder.
    pub decoder: Option<u32>,
    /// The same for the video encoder.
    pub encoder: Option<u32>,
    /// Encoder sessions that are open, of all processes.
    pub encoder_sessions: Option<u32>,
    /// Bytes of video memory in use, by all processes; not what the driver keeps for itself.
    pub memory_used: Option<u64>,
    /// Bytes of video memory there are.
    pub memory_total: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Watts.
    pub power: Option<f32>,
    /// What holds its clocks back: names of [`HOLDS`]. `None` where it does not say.
    pub held_by: Option<Vec<&'static str>>,
    /// Who uses it, by process id. `None` where it does not say.
    pub processes: Option<Vec<Process>>,
    /// Figures that the driver's library is too old to give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub too_old_for: Vec<&'static str>,
    /// Why it tells nothing: it fell off the bus, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Bytes of video memory, where the driver says it.
    pub memory: Option<u64>,
    /// Whether it is this process, or one that this one started.
    pub own: bool,
}

/// What may hold a GPU's clocks back; clocks that are low because nothing runs, or were set low on purpose, are none.
pub const HOLDS: [(&str, ThrottleReasons); 6] = [
    ("power_cap", ThrottleReasons::SW_POWER_CAP),
    ("hardware", ThrottleReasons::HW_SLOWDOWN),
    ("sync_boost", ThrottleReasons::SYNC_BOOST),
    ("thermal", ThrottleReasons::SW_THERMAL_SLOWDOWN),
    ("hardware_thermal", ThrottleReasons::HW_THERMAL_SLOWDOWN),
    ("power_brake", ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN),
];

impl Nvml {
    /// Starts NVML.
    ///
    /// # Errors
    /// Where there is no library, it does not start, or has no GPU.
    pub fn start() -> Result<Self, NoNvml> {
        let nvml = nvml_wrapper::Nvml::init().map_err(NoNvml::of)?;
        match nvml.device_count().map_err(NoNvml::of)? {
            0 => Err(NoNvml::NoGpu),
            _ => Ok(Self(nvml)),
        }
    }

    /// The driver's version, such as `570.86.15`.
    #[must_use]
    pub fn driver(&self) -> Option<String> {
        self.0.sys_driver_version().ok()
    }

    /// What each GPU is doing.
    ///
    /// # Errors
    /// Where NVML does not even say any more how many there are.
    pub fn loads(&self) -> Result<Vec<Load>, String> {
        let count = self.0.device_count().map_err(|error| error.to_string())?;
        Ok((0..count).map(|index| self.load(index)).collect())
    }

    fn load(&self, index: u32) -> Load {
        let mut load = Load { index, ..Load::default() };
        let device = match self.0.device_by_index(index) {
            Ok(device) => device,
            Err(error) => {
                load.lost = Some(error.to_string());
                return load;
            }
        };
        let mut asked = Asked::default();
        load.uuid = asked.take("uuid", device.uuid());
        load.name = asked.take("name", device.name());
        load.sm = asked.take("utilization", device.utilization_rates()).map(|rates| rates.gpu);
        load.decoder = asked.take("decoder", device.decoder_utilization()).map(|load| load.utilization);
        load.encoder = asked.take("encoder", device.encoder_utilization()).map(|load| load.utilization);
        load.encoder_sessions =
            asked.take("encoder sessions", device.encoder_stats()).map(|stats| stats.session_count);
        let memory = asked.take("memory", device.memory_info());
        load.memory_used = memory.as_ref().map(|memory| memory.used);
        load.memory_total = memory.as_ref().map(|memory| memory.total);
        load.temperature = asked.take("temperature", device.temperature(TemperatureSensor::Gpu));
        load.power = asked.take("power", device.power_usage()).map(|milliwatts| milliwatts as f32 / 1000.0);
        load.held_by = asked.take("throttling", device.current_throttle_reasons()).map(|reasons| {
            HOLDS.iter().filter(|(_, reason)| reasons.contains(*reason)).map(|(name, _)| *name).collect()
        });
        load.processes = processes(&mut asked, &device);
        load.too_old_for = asked.too_old_for;
        load.lost = asked.lost;
        load
    }
}

/// Collects why figures are missing.
#[derive(Default)]
struct Asked {
    too_old_for: Vec<&'static str>,
    lost: Option<String>,
}

impl Asked {
    fn take<T>(&mut self, what: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(value) => return Some(value),
            Err(NvmlError::FailedToLoadSymbol(_)) => self.too_old_for.push(what),
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::Uninitialized)) => {
                self.lost = Some(error.to_string());
            }
            // Not every GPU tells everything, nor to everybody.
            Err(_) => {}
        }
        None
    }
}

fn processes(asked: &mut Asked, device: &Device<'_>) -> Option<Vec<Process>> {
    let compute = asked.take("processes", device.running_compute_processes());
    let graphics = asked.take("processes", device.running_graphics_processes());
    asked.too_old_for.dedup();
    if compute.is_none() && graphics.is_none() {
        return None;
    }
    // One that computes and draws is in both lists, with the same memory.
    let mut found = BTreeMap::new();
    for ProcessInfo { pid, used_gpu_memory, .. } in compute.into_iter().chain(graphics).flatten() {
        let memory = match used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = found.entry(pid).or_insert(memory);
        *known = (*known).max(memory);
    }
    Some(found.into_iter().map(|(id, memory)| Process { id, memory, own: is_own(id) }).collect())
}

/// Whether a process is this one, or a child of it.
fn is_own(process: u32) -> bool {
    let own = std::process::id();
    process == own || parent(process) == Some(own)
}

fn parent(process: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the program's name, which is in brackets and may hold anything: state, parent.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_processes_are_this_one_and_its_children() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(is_own(std::process::id()) && is_own(child.id()) && !is_own(1));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn why_a_figure_is_missing_is_kept_apart() {
        let mut asked = Asked::default();
        assert_eq!(asked.take("power", Ok(3)), Some(3));
        assert_eq!(asked.take::<u32>("power", Err(NvmlError::NotSupported)), None);
        assert_eq!(asked.take::<u32>("memory", Err(NvmlError::FailedToLoadSymbol("x".into()))), None);
        assert_eq!((asked.too_old_for.as_slice(), &asked.lost), (&["memory"][..], &None));
        asked.take::<u32>("sm", Err(NvmlError::GpuLost));
        assert!(asked.lost.unwrap().contains("off the bus"));
    }
}
