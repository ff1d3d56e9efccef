//! How the box and this process are doing: processor, memory, disk.
//!
//! In: `/proc`, the file system of the state folder. Out: gauges in the registry. Owned by the daemon's duties, which look
//! every few seconds. What the system does not tell is no number, never the last one that was.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::telemetry::{Gauge, Registry};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Looks at the box and the process.
#[derive(Debug)]
pub struct Vitals {
    state: PathBuf,
    gauges: Gauges,
    last: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Gauges {
    cpu: Gauge,
    memory_used: Gauge,
    memory_size: Gauge,
    disk_free: Gauge,
    disk_size: Gauge,
    own_cpu: Gauge,
    own_memory: Gauge,
    own_files: Gauge,
    own_threads: Gauge,
}

/// Figures of which the difference of two counts.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// Ticks of all cores, busy and all.
    box_ticks: Option<(u64, u64)>,
    /// CPU time of this process, seconds.
    own: Option<f64>,
}

impl Vitals {
    /// `state`: a folder on the disk that matters.
    #[must_use]
    pub fn new(registry: &Registry, state: PathBuf) -> Self {
        registry.gauge("build_info", &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        registry.gauge("daemon_start_time_seconds", &[]).set(now.as_secs_f64());
        let gauges = Gauges {
            cpu: registry.gauge("box_cpu_ratio", &[]),
            memory_used: registry.gauge("box_memory_used_bytes", &[]),
            memory_size: registry.gauge("box_memory_size_bytes", &[]),
            disk_free: registry.gauge("box_disk_free_bytes", &[]),
            disk_size: registry.gauge("box_disk_size_bytes", &[]),
            own_cpu: registry.gauge("daemon_cpu_ratio", &[]),
            own_memory: registry.gauge("daemon_memory_bytes", &[]),
            own_files: registry.gauge("daemon_open_files", &[]),
            own_threads: registry.gauge("daemon_threads", &[]),
        };
        Self { state, gauges, last: Mutex::new(None) }
    }

    /// Whether it is time to look again.
    #[must_use]
    pub fn due(&self) -> bool {
        // A look that still goes on, as at a disk that hangs, holds the lock.
        self.last.try_lock().is_ok_and(|last| last.is_none_or(|last| last.at.elapsed() >= EVERY))
    }

    /// Looks; may wait for a disk.
    pub fn look(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let now = Look { at: Instant::now(), box_ticks: ticks(&read("/proc/stat")), own: own_seconds() };
        let unknown = f64::NAN;
        let cpu = last.and_then(|last| busy(last.box_ticks?, now.box_ticks?));
        self.gauges.cpu.set(cpu.unwrap_or(unknown));
        let own = last.and_then(|last| {
            let passed = now.at.duration_since(last.at).as_secs_f64();
            (passed > 0.0).then_some((now.own? - last.own?) / passed)
        });
        self.gauges.own_cpu.set(own.unwrap_or(unknown));
        let memory = read("/proc/meminfo");
        let size = kilobytes(&memory, "MemTotal:");
        let available = kilobytes(&memory, "MemAvailable:");
        self.gauges.memory_size.set(size.unwrap_or(unknown));
        self.gauges.memory_used.set(size.zip(available).map_or(unknown, |(size, free)| size - free));
        let own = read("/proc/self/status");
        self.gauges.own_memory.set(kilobytes(&own, "VmRSS:").unwrap_or(unknown));
        self.gauges.own_threads.set(field(&own, "Threads:").unwrap_or(unknown));
        let files = std::fs::read_dir("/proc/self/fd").map(|files| files.count() as f64);
        self.gauges.own_files.set(files.unwrap_or(unknown));
        let disk = rustix::fs::statvfs(&self.state);
        let disk = disk.map(|disk| (disk.f_bavail as f64, disk.f_blocks as f64, disk.f_frsize as f64));
        let (free, size, block) = disk.unwrap_or((unknown, unknown, unknown));
        self.gauges.disk_free.set(free * block);
        self.gauges.disk_size.set(size * block);
        *last = Some(now);
    }
}

/// Ticks of all cores so far, busy and all, of `/proc/stat`.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|tick| tick.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let all: u64 = ticks.iter().take(8).sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((all.saturating_sub(idle), all))
}

/// The share of ticks that were busy between two looks.
fn busy(before: (u64, u64), now: (u64, u64)) -> Option<f64> {
    let all = now.1.checked_sub(before.1).filter(|all| *all > 0)?;
    Some((now.0.saturating_sub(before.0) as f64 / all as f64).min(1.0))
}

fn own_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// The number behind a word.
fn field(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(word))?.split_whitespace().next()?.parse().ok()
}

/// The same, in kB, as bytes.
fn kilobytes(text: &str, word: &str) -> Option<f64> {
    Some(field(text, word)? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Value;

    #[test]
    fn busy_is_what_is_neither_idle_nor_waits_for_a_disk() {
        let before = ticks("cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 1 1 1").unwrap();
        let now = ticks("cpu  130 0 60 840 70 0 0 0 9 0\n").unwrap();
        assert_eq!((before, now), ((150, 1000), (190, 1100)));
        assert_eq!(busy(before, now), Some(0.4));
        assert_eq!(busy(now, now), None);
        assert_eq!(ticks("intr 1 2 3"), None);
    }

    #[test]
    fn two_looks_tell_all() {
        let registry = Registry::new();
        let vitals = Vitals::new(&registry, std::env::temp_dir());
        assert!(vitals.due());
        vitals.look();
        assert!(!vitals.due(), "not at once again");
        // Something to do in between.
        assert_ne!((0..3_000_000u64).fold(1, |all, n| all ^ n.wrapping_mul(2_654_435_761)), 0);
        vitals.look();
        let value = |name| match registry.value(name, &[]) {
            Some(Value::Gauge(value)) => value,
            other => panic!("{name}: {other:?}"),
        };
        assert!(
            value("box_memory_used_bytes") > 1e6
                && value("box_memory_size_bytes") > value("box_memory_used_bytes")
        );
        assert!(value("box_disk_size_bytes") >= value("box_disk_free_bytes"));
        assert!(value("daemon_memory_bytes") > 1e6);
        assert!(value("daemon_threads") >= 1.0 && value("daemon_open_files") >= 3.0);
        assert!(value("daemon_cpu_ratio") > 0.0);
        assert_eq!(
            registry.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
            Some(Value::Gauge(1.0))
        );
    }
}
