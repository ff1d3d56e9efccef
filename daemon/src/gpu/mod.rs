//! The GPU: its driver, what the driver says of the devices, what they are doing; GStreamer's pictures in video memory;
//! the kernels and what they are given.
//!
//! In: nothing but the machine. Out: a [`Driver`] with its GPUs, or [`NoDriver`] with the reason, in words that say what
//! to do; [`Nvml`] for figures; PTX, and the structs that kernels read. Nothing here panics where a library is missing,
//! too old or broken: a box without a GPU is an ordinary box. Only `cuda.rs` files of rooms, the app and the jobs import
//! this.

pub mod block;
mod device;
mod driver;
mod error;
pub mod gst;
pub mod kernels;
mod library;
mod memory;
mod nvenc;
mod nvml;
pub mod params;
mod stream;
mod trial;
mod watch;

pub use device::Device;
pub use driver::{Driver, Gpu, NoDriver, probe};
pub use error::GpuError;
pub use library::loads;
pub use memory::{Buffer, Pinned};
pub use nvenc::{NoNvenc, ask_nvenc};
pub use nvml::{Load, NoNvml, Nvml, Process};
pub use stream::{Argument, Event, Meter, Rows, Stream, argument};
pub use trial::{TrialError, trial};
pub use watch::{Seen, Watch};

#[cfg(test)]
pub mod host;
#[cfg(test)]
pub mod soft;
