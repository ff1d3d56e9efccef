//! `watchpost bench`: measures the parts of the daemon beside floors in the same run; how many streams a box can hold.
//!
//! `plugin.rs` and `preprocess.rs` measure one thing each. `lane.rs` measures the lane's parts and the whole of it,
//! `streams.rs` searches for the most streams, `throughput.rs` lets streams run as fast as they can; they share their `subject.rs` (what is measured), `backend.rs` (where),
//! `whole.rs` (the daemon's pipeline in this process) and `interrupt.rs` (Ctrl-C).

mod backend;
mod copies;
mod cost;
mod cpu;
mod cuda;
mod encoder;
pub mod host;
mod interrupt;
mod judge;
pub mod lane;
mod machine;
pub mod plugin;
pub mod preprocess;
mod saturation;
mod search;
mod step;
pub mod streams;
mod subject;
mod table;
pub mod throughput;
mod video;
mod whole;

/// Only errors are logged: a progress bar shares standard error with them.
fn quiet() {
    // In a test's process logging may be there already.
    let _ = crate::service::logging::init("error");
}
