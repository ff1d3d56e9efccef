//! `watchpost plugin check`, `watchpost plugin replay` and `watchpost plugin new`.
//!
//! In: arguments, already parsed. Out: what is known of a component and what it makes of a trace, as text or JSON; a new
//! crate. None needs a running daemon or touches its folders.

pub mod check;
pub mod new;
pub mod replay;

use std::path::Path;

use crate::config::settings::{Limits, Paths};
use crate::plugins::{Compiler, HostOptions};
use crate::telemetry::Registry;

pub use check::{CheckArgs, check};
pub use new::{NewArgs, new};
pub use replay::ReplayArgs;

/// A host that keeps all it writes in `folder`, away from the daemon's.
fn aside(folder: &Path, limits: &Limits) -> anyhow::Result<HostOptions> {
    Ok(HostOptions {
        paths: Paths { state: folder.join("state"), cache: folder.join("cache"), ..Paths::default() },
        limits: limits.clone(),
        compiler: Compiler::own()?,
        metrics: Registry::new(),
        on_notice: None,
    })
}
