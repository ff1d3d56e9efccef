//! What the CUDA driver refuses, and what that means for whoever asked.
//!
//! In: a call's name and its result. Out: a [`GpuError`] in the driver's own words, and whether the GPU can be used on.

use cudarc::driver::sys::CUresult;

/// A call of the CUDA driver that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GPU {gpu}: {call}: {name} ({code}): {text}")]
pub struct GpuError {
    /// Index of the GPU.
    pub gpu: u32,
    /// Name of the driver's function.
    pub call: &'static str,
    /// The driver's number.
    pub code: u32,
    /// Its name for it.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl GpuError {
    /// What a call gave, where that is no success.
    pub(super) fn of(gpu: u32, call: &'static str, result: CUresult) -> Self {
        let error = cudarc::driver::DriverError(result);
        let text = |found: Result<&std::ffi::CStr, cudarc::driver::DriverError>| {
            found.map_or_else(|_| "unknown".to_owned(), |text| text.to_string_lossy().into_owned())
        };
        Self {
            gpu,
            call,
            code: result as u32,
            name: text(error.error_name()),
            text: text(error.error_string()),
        }
    }

    /// Whether there was no video memory left: what asked for it may try again later.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32
    }

    /// Whether every later call of this process on this GPU fails too: its context is broken, or the GPU is gone. Only
    /// a new process helps (CUDA driver API, "CUresult": "this leaves the process in an inconsistent state").
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        const STICKY: [CUresult; 14] = [
            CUresult::CUDA_ERROR_DEINITIALIZED,
            CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
            CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
            CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
            CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
            CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
            CUresult::CUDA_ERROR_ASSERT,
            CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
            CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
            CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
            CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
            CUresult::CUDA_ERROR_INVALID_PC,
            CUresult::CUDA_ERROR_LAUNCH_FAILED,
        ];
        STICKY.iter().any(|sticky| *sticky as u32 == self.code)
    }
}
