//! GStreamer's CUDA memory: pictures that decoders leave in video memory, and pictures for encoders to take from there.
//!
//! In: the daemon's primary context of a GPU, buffers of a pipeline. Out: one [`CudaContext`] a GPU, which every pipeline
//! of that GPU is given; [`crate::flow::DeviceFrame`]s over decoders' buffers; a [`Pool`] of buffers to render into. Owned
//! by whoever made them; the library's own objects go when the last buffer has. Fails where GStreamer has no such
//! library, or the driver no memory; an absent library is an ordinary answer with a reason ([`NoCudaMemory`]).
//!
//! Why one context object: GStreamer compares objects, not contexts. An encoder that meets memory of another object
//! copies it through host memory, and says so only in its debug log.
//!
//! The foreign functions stay in `library` (what they are, and which version has them), `context`, `memory` and `pool`.

mod context;
mod library;
mod memory;
mod pool;
#[cfg(test)]
mod tests;
mod words;

pub use context::CudaContext;
pub use library::NoCudaMemory;
pub use memory::FrameError;
pub use pool::{Canvas, CudaStream, Pool, PoolError, Rendered};
pub use words::Listening;

/// The caps feature of buffers in video memory.
pub const FEATURE: &str = "memory:CUDAMemory";
/// The type of the context that CUDA elements ask for.
pub const CONTEXT: &str = "gst.cuda.context";
