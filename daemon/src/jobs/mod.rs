//! Jobs: what the command line does beside running the daemon.
//!
//! In: arguments, already parsed. Out: files, text, an exit status by the error. Each job owns what it opens.

pub mod bench;
pub mod demo;
pub mod doctor;
pub mod gpu;
pub mod model;
pub mod package;
pub mod plugin;
pub mod runtime;
pub mod scene;
