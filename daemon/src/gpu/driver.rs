//! The CUDA driver: whether there is one, which, and which GPUs it has.
//!
//! In: the system's `libcuda.so.1`. Out: a [`Driver`], or why there is none. Makes no context, so it takes no video
//! memory. Fails with [`NoDriver`], whose text names the cause and what to do.
#![allow(unsafe_code)]

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{DriverError, result, sys};

/// The oldest driver whose CUDA version serves: PTX 6.0, primary contexts, asynchronous memory pools.
const OLDEST: u32 = 11_040;

/// A CUDA driver that works.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Driver {
    /// Version of CUDA that it implements, 1000 times the major and 10 times the minor number.
    pub cuda: u32,
    /// Version of the kernel module, such as `570.86.15`, where the system says it.
    pub module: Option<String>,
    /// Its GPUs, by index.
    pub gpus: Vec<Gpu>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Gpu {
    /// Index, as in the configuration.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its id, which stays when indices change.
    pub uuid: String,
    /// Compute capability.
    pub compute: (u32, u32),
    /// Bytes of video memory.
    pub memory: u64,
}

/// Why there is no driver to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDriver {
    /// The library is nowhere.
    #[error("no libcuda.so.1: no NVIDIA driver is installed")]
    NoLibrary,
    /// It is there and does not start.
    #[error("the NVIDIA driver does not start: {name} ({code}): {text}")]
    Start {
        /// The driver's number.
        code: u32,
        /// Its name for it.
        name: String,
        /// What it says.
        text: String,
    },
    /// It is too old.
    #[error("the NVIDIA driver is for CUDA {}.{}; at least {}.{} is needed", cuda / 1000, cuda % 1000 / 10, OLDEST / 1000, OLDEST % 1000 / 10)]
    TooOld {
        /// Its version of CUDA.
        cuda: u32,
    },
    /// It has no GPU.
    #[error("the NVIDIA driver works and has no GPU")]
    NoGpu,
}

impl NoDriver {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoLibrary => {
                "on a box with an NVIDIA GPU: install the driver (Debian: nvidia-driver, libnvcuvid1, libnvidia-encode1)"
            }
            // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: library and module were updated apart.
            Self::Start { code: 803, .. } => {
                "the driver's library and kernel module are of two versions: reboot after an update"
            }
            Self::Start { code: 100, .. } => {
                "the driver sees no device: `nvidia-smi`; in a container or unit, allow /dev/nvidia*"
            }
            Self::Start { .. } => "see `nvidia-smi` and `journalctl -k -g NVRM`",
            Self::TooOld { .. } => "install a newer driver",
            Self::NoGpu => "see `nvidia-smi` and CUDA_VISIBLE_DEVICES",
        }
    }

    fn of(error: DriverError) -> Self {
        let text = |found: Result<&std::ffi::CStr, DriverError>| {
            found.map_or_else(|_| "unknown".to_owned(), |text| text.to_string_lossy().into_owned())
        };
        Self::Start { code: error.0 as u32, name: text(error.error_name()), text: text(error.error_string()) }
    }
}

/// Looks for a driver and its GPUs.
///
/// # Errors
/// Where there is none that can be used.
pub fn probe() -> Result<Driver, NoDriver> {
    // SAFETY: loads the driver's library, whose initialisers are NVIDIA's; every user of CUDA does.
    if !unsafe { sys::is_culib_present() } {
        return Err(NoDriver::NoLibrary);
    }
    result::init().map_err(NoDriver::of)?;
    let mut cuda = 0;
    // SAFETY: writes one number to where it is told.
    unsafe { sys::cuDriverGetVersion(&raw mut cuda) }.result().map_err(NoDriver::of)?;
    let cuda = u32::try_from(cuda).unwrap_or(0);
    if cuda < OLDEST {
        return Err(NoDriver::TooOld { cuda });
    }
    let count = result::device::get_count().map_err(NoDriver::of)?;
    let gpus = (0..count).map(gpu).collect::<Result<Vec<_>, _>>().map_err(NoDriver::of)?;
    if gpus.is_empty() {
        return Err(NoDriver::NoGpu);
    }
    let module = std::fs::read_to_string("/sys/module/nvidia/version").ok();
    Ok(Driver { cuda, module: module.map(|text| text.trim().to_owned()), gpus })
}

fn gpu(index: i32) -> Result<Gpu, DriverError> {
    let device = result::device::get(index)?;
    let attribute = |which| {
        // SAFETY: the device was just given by the driver.
        unsafe { result::device::get_attribute(device, which) }.map(|value| u32::try_from(value).unwrap_or(0))
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: as above.
    let memory = unsafe { result::device::total_mem(device) }? as u64;
    let bytes = result::device::get_uuid(device)?.bytes;
    let hex = |from: usize, to: usize| {
        bytes[from..to].iter().map(|byte| format!("{:02x}", *byte as u8)).collect::<String>()
    };
    let uuid = format!("GPU-{}-{}-{}-{}-{}", hex(0, 4), hex(4, 6), hex(6, 8), hex(8, 10), hex(10, 16));
    let name = result::device::get_name(device)?;
    Ok(Gpu { index: index as u32, name, uuid, compute: (major, minor), memory })
}
