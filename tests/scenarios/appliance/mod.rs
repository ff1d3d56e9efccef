//! The package in a booted Debian: what a user of the box does in a week, with `apt`, `systemctl`, `journalctl` and
//! `mosquitto_sub`.
//!
//! Called by `make test-appliance`, which makes the package and the root first. Needs root, and a quarter of an hour.

mod audit;
mod observer;
mod package;
mod week;

use std::path::PathBuf;
use std::time::Duration;

/// How long anything in the box is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The package that `make deb` made.
fn package() -> PathBuf {
    let folder = e2e::data::root().join("target/deb");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}: make deb first", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    found.sort();
    found.pop().expect("target/deb holds a package: make deb")
}
