//! A model whose input and outputs lie at addresses that stay: what the GPU lane runs.
//!
//! In: a [`super::ModelDir`], an execution provider and, on a GPU, the stream on which kernels run. Out: a ring of
//! [`Slot`]s, whose input somebody fills at [`Slot::address`]; [`BoundSession::run`]; the addresses of the outputs, or
//! their values on the host. ONNX Runtime owns the memory, which is bound once and copied by nobody. On a stream handed
//! in, a run is queued behind the kernel that fills the input, and the kernel that decodes the outputs behind the run. A
//! session belongs to one inference thread. It refuses what [`super::Session`] refuses; a call out of its order is an
//! error and changes nothing.
//!
//! TensorRT's engines are kept by [`Engines`] and made by an [`EngineBuild`], in a process of its own.

mod bind;
mod build;
mod engine;
mod memory;
mod options;
mod precision;
mod raw;
mod session;
mod slot;
#[cfg(test)]
mod tests;

pub use build::{Build, ENGINE_SUBCOMMAND, EngineBuild, EngineBuilder, EngineOrder, build_child};
pub use engine::{Engine, EngineInUse, EngineState, Engines, Stamp};
pub use memory::DeviceTensor;
pub use options::{BoundOptions, Graphs, Placement};
pub(super) use precision::check as check_precision;
pub use session::BoundSession;
pub use slot::Slot;
