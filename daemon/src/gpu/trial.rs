//! Whether a GPU works: a context, the kernels, memory.
//!
//! In: its index. Out: nothing, or [`TrialError`] with the call that failed. Takes the video memory of a context while it
//! runs. A driver that is broken may crash the process: who asks does so in one of its own.

use super::{Buffer, Device, GpuError, Meter, NoDriver, Rows, Stream};

/// Bytes that go up and down again.
const BYTES: usize = 1 << 20;

/// What does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// There is no driver.
    #[error(transparent)]
    NoDriver(#[from] NoDriver),
    /// The driver refused something.
    #[error(transparent)]
    Refused(#[from] GpuError),
    /// The memory does not keep what is written to it.
    #[error("memory: what came back is not what was sent")]
    Memory,
}

impl TrialError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoDriver(error) => error.advice(),
            Self::Refused(error) => match error.code {
                2 => "its memory is full: `nvidia-smi` shows what uses it",
                // CUDA_ERROR_DEVICE_UNAVAILABLE: busy, in exclusive mode.
                46 => "another program has it alone: nvidia-smi --compute-mode=DEFAULT",
                // CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_INVALID_PTX, CUDA_ERROR_UNSUPPORTED_PTX_VERSION.
                209 | 218 | 222 => "the driver does not understand the kernels: install a newer one",
                _ => "see `nvidia-smi` and `journalctl -k -g NVRM`; reset the GPU or reboot",
            },
            Self::Memory => "the GPU's memory is broken: see `nvidia-smi -q -d ECC`",
        }
    }
}

/// Opens a GPU's primary context, has the driver compile every kernel, and moves memory up and down.
///
/// # Errors
/// The call that failed, and the driver's words.
pub fn trial(index: u32) -> Result<(), TrialError> {
    super::probe()?;
    let device = Device::open(index)?;
    let stream = Stream::new(&device)?;
    let buffer = Buffer::new(&device, BYTES)?;
    let rows = Rows { address: buffer.address(), pitch: BYTES };
    let sent: Vec<u8> = (0..BYTES).map(|at| (at * 31) as u8).collect();
    let mut back = vec![0; BYTES];
    stream.upload(&Meter::default(), rows, &sent, BYTES, BYTES, 1)?;
    stream.download(&Meter::default(), &mut back, BYTES, rows, BYTES, 1)?;
    stream.synchronize()?;
    if back == sent { Ok(()) } else { Err(TrialError::Memory) }
}
