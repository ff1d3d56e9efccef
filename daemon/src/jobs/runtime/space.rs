//! Room on the disk.
//!
//! In: a folder, the bytes that are to come. Out: nothing where there is room, else an error with both figures. Where
//! the system does not say what is free, nothing is refused.

use std::path::Path;

use anyhow::ensure;

use super::progress::bytes;

/// Left over for whoever else writes there: the daemon's outbox, say.
const RESERVE: u64 = 64 << 20;

/// Sees to it that there is room for so many bytes more.
///
/// # Errors
/// Where there is not.
pub fn ensure_free(folder: &Path, needed: u64) -> anyhow::Result<()> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        needed.saturating_add(RESERVE) <= free,
        "{}: {} are needed, and {} left over; {} are free. Make room, or let `paths.state` lie on another disk",
        folder.display(),
        bytes(needed),
        bytes(RESERVE),
        bytes(free)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_disk_holds_is_refused_with_figures() {
        let folder = tempfile::tempdir().unwrap();
        ensure_free(folder.path(), 1 << 10).unwrap();
        let error = ensure_free(folder.path(), 1 << 60).unwrap_err().to_string();
        assert!(error.contains("1.00 EiB are needed") && error.contains("free"), "{error}");
    }
}
