//! The GPU: the kernels, and what they are given.
//!
//! In: nothing yet but sources. Out: PTX, and the structs that kernels read. Only `cuda.rs` files of rooms, the app and
//! the jobs import this. Nothing here fails.

pub mod block;
pub mod kernels;
pub mod params;

#[cfg(test)]
pub mod host;
