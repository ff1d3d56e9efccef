//! The box itself: processor, folders and their disks, clock.
//!
//! In: the configured folders. Out: findings. Writes one file into each folder that the daemon writes to, and removes
//! it again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::Finding;
use crate::config::Settings;
use crate::preprocess::Isa;

/// Less free space than this in a folder that the daemon writes to is little.
const LITTLE: u64 = 1 << 30;
/// No clock is right that is before this was written: 1 November 2026, seconds since 1970.
const WRITTEN: u64 = 1_793_491_200;

pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let isa = Isa::detect().name();
    let mut findings = vec![Finding::good("processor", format!("{cores} cores, preprocessing with {isa}"))];
    let paths = &settings.paths;
    for (what, path) in [("state", &paths.state), ("cache", &paths.cache), ("run", &paths.run)] {
        // The daemon does not start without these.
        findings.push(folder(&format!("paths.{what}"), path, Finding::wrong));
    }
    for (stream, settings) in settings.streams.iter().filter(|(_, stream)| stream.enabled) {
        for (output, settings) in &settings.outputs {
            let Some(file) = &settings.file else { continue };
            let path = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let what = format!("output {stream}/{output}");
            findings.push(folder(&what, path, |what, found, fix, _| Finding::limited(what, found, fix)));
        }
    }
    findings.push(clock());
    findings
}

/// `bad`: what it means that the daemon cannot write there.
fn folder(what: &str, path: &Path, bad: impl Fn(&str, String, String, &[String]) -> Finding) -> Finding {
    let shown = format!("{what}: {}", path.display());
    // A folder that is made at the first start is judged by the one that it will be made in.
    let there = nearest(path);
    let probe = tempfile::Builder::new().prefix(".watchpost-doctor-").tempfile_in(&there);
    if let Err(error) = probe {
        let found = format!("{shown}: cannot be written: {}", error.kind());
        let own = rustix::process::geteuid().as_raw();
        let owner = std::fs::metadata(&there).map_or(own, |meta| meta.uid());
        // Root could write there if anybody could; anybody else says only that it is not theirs.
        return if own == 0 || owner == own {
            let fix =
                format!("make it writable for the service's user: chown watchpost: {}", there.display());
            bad("disk", found, fix, &[])
        } else {
            let fix = "try as the service's user: sudo -u watchpost watchpost doctor";
            Finding::untried("disk", format!("{shown}: belongs to another user")).fix(fix)
        };
    }
    match rustix::fs::statvfs(&there) {
        Ok(space) => room(&shown, path, space.f_bavail.saturating_mul(space.f_frsize)),
        Err(error) => Finding::untried("disk", format!("{shown}: writable, free space unknown: {error}")),
    }
}

/// Whether the free bytes of a folder's disk are enough.
fn room(shown: &str, path: &Path, free: u64) -> Finding {
    let text = format!("{shown}: writable, {:.1} GB free", free as f64 / 1e9);
    let finding = if free < LITTLE {
        let fix = "make room: on a full disk events wait in memory only, and the oldest are lost";
        Finding::limited("disk", text, fix)
    } else {
        Finding::good("disk", text)
    };
    finding.details(serde_json::json!({ "path": path, "free_bytes": free }))
}

/// The folder, or the nearest one above it that is there.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|above| above.is_dir())
        .filter(|it| !it.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from(if path.is_absolute() { "/" } else { "." }), Path::to_owned)
}

/// Alerts carry the time of day: a clock that nobody sets goes wrong.
fn clock() -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    if now.as_secs() < WRITTEN {
        let fix = "set it: timedatectl set-ntp true; alerts and certificates depend on it";
        return Finding::limited("clock", "stands before this program was written", fix);
    }
    let answer = std::process::Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stderr(std::process::Stdio::null())
        .output();
    match answer.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout) {
        Some(text) if text.trim_ascii() == b"yes" => Finding::good("clock", "set by NTP"),
        Some(_) => Finding::limited("clock", "not set by NTP", "timedatectl set-ntp true"),
        None => Finding::untried("clock", "looks right; without systemd it is not known whether NTP sets it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn folders_are_tried_by_writing() {
        let folder = tempfile::tempdir().unwrap();
        let found = super::folder("paths.state", &folder.path().join("not/yet"), Finding::wrong);
        assert!(matches!(found.verdict, Verdict::Good | Verdict::Limited), "{found:?}");
        assert!(found.details.unwrap()["free_bytes"].as_u64().is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        // Nobody writes there, root neither.
        let found = super::folder("paths.state", Path::new("/proc/1"), Finding::wrong);
        assert!(matches!(found.verdict, Verdict::Wrong | Verdict::Untried), "{found:?}");
        assert!(found.found.starts_with("paths.state: /proc/1"), "{found:?}");
    }

    #[test]
    fn little_room_is_said_and_stops_nothing() {
        let state = Path::new("/var/lib/watchpost");
        assert_eq!(room("paths.state", state, LITTLE).verdict, Verdict::Good);
        let little = room("paths.state", state, LITTLE - 1);
        assert_eq!(
            (little.verdict, little.found.as_str()),
            (Verdict::Limited, "paths.state: writable, 1.1 GB free")
        );
        assert!(little.fix.is_some_and(|fix| fix.starts_with("make room")) && little.stops.is_empty());
        assert_eq!(room("paths.state", state, 0).details.unwrap()["free_bytes"], 0);
    }
}
