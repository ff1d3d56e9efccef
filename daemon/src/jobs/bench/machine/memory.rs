//! Memory: what this process has, what is left for it, and how much there is.
//!
//! In: /proc, the control groups of either version. Out: a [`Memory`]. Owns nothing; what the system does not tell is 0.

use std::path::Path;

use super::read;

/// Memory in MB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    pub(super) own: f64,
    pub(super) left: f64,
    total: f64,
}

impl Memory {
    /// Now. What a control group allows counts where it is less than what the machine has.
    pub fn now() -> Self {
        let info = read("/proc/meminfo");
        let (mut left, mut total) = (field(&info, "MemAvailable:"), field(&info, "MemTotal:"));
        if let Some((used, most)) = group()
            && most < total
        {
            left = left.min((most - used).max(0.0));
            total = most;
        }
        Self { own: field(&read("/proc/self/status"), "VmRSS:"), left, total }
    }

    /// Share that is in use.
    pub fn share(&self) -> f64 {
        if self.total > 0.0 { 1.0 - self.left / self.total } else { 0.0 }
    }
}

/// MB in use and MB allowed in this process's control group, of either version; where its own folder is not to be seen,
/// as in a container, those of the root.
fn group() -> Option<(f64, f64)> {
    let groups = read("/proc/self/cgroup");
    let path = |wanted: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let found = controllers.split(',').any(|controller| controller == wanted);
            found.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let kinds = [
        (
            "memory",
            "/sys/fs/cgroup/memory",
            "memory.usage_in_bytes",
            "memory.limit_in_bytes",
            "total_inactive_file",
        ),
        ("", "/sys/fs/cgroup", "memory.current", "memory.max", "inactive_file"),
    ];
    kinds.into_iter().find_map(|(controller, root, used, most, cache)| {
        let own = Path::new(root).join(path(controller)?);
        [own.as_path(), Path::new(root)].into_iter().find_map(|folder| {
            let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
            let mb = |name: &str| Some(text(name)?.trim().parse::<f64>().ok()? / 1e6);
            // Pages of files that nobody looks at any more are as good as free.
            let stat = text("memory.stat").unwrap_or_default();
            let cached = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<f64>().ok());
            Some((mb(used)? - cached.unwrap_or(0.0) / 1e6, mb(most)?))
        })
    })
}

/// MB of a field that is given in kB.
fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
