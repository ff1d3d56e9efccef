//! What this machine and this process are doing: processors, memory, threads by what they do, GPUs.
//!
//! In: /proc, the control groups, NVML. Out: a [`Load`] over the time between two looks. Owns nothing. What the system
//! does not tell is left out, or 0.

mod gpus;
mod memory;

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::cost::process_cpu;

pub use gpus::GpuLoad;
pub(super) use gpus::Gpus;
pub(super) use memory::Memory;

/// Seconds in one of /proc's ticks: 100 a second on every Linux that the daemon runs on.
const TICK: f64 = 0.01;

/// What the threads of one kind did.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Threads {
    /// Processors that they kept busy together.
    pub cores: f64,
    /// Share of one processor that the busiest of them took.
    pub busiest: f64,
}

/// What the machine and this process did for a while.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Load {
    /// Processors that this process may use.
    pub cores: f64,
    /// Processors that it kept busy.
    pub busy_cores: f64,
    /// Processors that others kept busy.
    pub others_cores: f64,
    /// Memory of this process, MB.
    pub memory_mb: f64,
    /// Memory that is left for it, MB.
    pub memory_left_mb: f64,
    /// Share of the memory that there is, for it or in its control group, which is in use.
    pub memory: f64,
    /// Share of the time in which the model ran; set by who knows it.
    pub model: f64,
    /// Threads by what they do: `decode`, `read`, `worker`, `model`, `encode`, `other`.
    pub threads: BTreeMap<&'static str, Threads>,
    /// GPUs, where they are part of the lane.
    pub gpus: Vec<GpuLoad>,
}

/// One look.
pub(super) struct Look {
    at: Instant,
    own: f64,
    busy: f64,
    threads: BTreeMap<String, (&'static str, f64)>,
}

impl Look {
    /// Now.
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            own: process_cpu().as_secs_f64(),
            busy: busy(&read("/proc/stat")),
            threads: threads(),
        }
    }

    /// What happened since.
    pub(super) fn load(&self) -> Load {
        let now = Self::now();
        let seconds = now.at.duration_since(self.at).as_secs_f64().max(1e-3);
        let mut kinds: BTreeMap<&'static str, Threads> = BTreeMap::new();
        for (id, (kind, spent)) in &now.threads {
            let before = self.threads.get(id).map_or(0.0, |(_, seconds)| *seconds);
            let share = (spent - before).max(0.0) / seconds;
            let all = kinds.entry(kind).or_default();
            all.cores += share;
            all.busiest = all.busiest.max(share);
        }
        let (own, busy) = ((now.own - self.own) / seconds, (now.busy - self.busy) / seconds);
        let memory = Memory::now();
        Load {
            cores: std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
            busy_cores: own,
            others_cores: (busy - own).max(0.0),
            memory_mb: memory.own,
            memory_left_mb: memory.left,
            memory: memory.share(),
            model: 0.0,
            threads: kinds,
            gpus: Vec::new(),
        }
    }
}

/// A file's text, empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Seconds in which the machine's processors were busy, of the first line of /proc/stat.
fn busy(stat: &str) -> f64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_ascii_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: what a hypervisor took is not to be had either.
    [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum::<f64>() * TICK
}

/// Kind and CPU seconds of each thread of this process, by its id.
fn threads() -> BTreeMap<String, (&'static str, f64)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let look = |task: std::fs::DirEntry| {
        let text = |name: &str| std::fs::read_to_string(task.path().join(name)).ok();
        let name = text("comm")?;
        // In nanoseconds where the kernel keeps them, else in ticks.
        let seconds = match text("schedstat").and_then(|text| text.split(' ').next()?.parse::<f64>().ok()) {
            Some(nanoseconds) => nanoseconds / 1e9,
            None => ticks(&text("stat")?)?,
        };
        Some((task.file_name().to_string_lossy().into_owned(), (kind(name.trim_end()), seconds)))
    };
    tasks.flatten().filter_map(look).collect()
}

/// CPU seconds from the text of a thread's `stat`.
fn ticks(stat: &str) -> Option<f64> {
    // The name may hold anything, also spaces and brackets; it ends at the last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) * TICK)
}

/// What a thread does, by its name. GStreamer's are named by the pad they push from, and a library's threads as that
/// which started them.
fn kind(name: &str) -> &'static str {
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    match name {
        _ if starts(&["model "]) => "model",
        _ if starts(&["stream "]) => "worker",
        _ if starts(&["read "]) => "read",
        _ if starts(&["out-", "appsrc", "mp4mux", "x264"]) => "encode",
        _ if starts(&["in-", "av:"]) || name.contains(":sink") || name.contains(":src") => "decode",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_apart_by_their_names() {
        for (name, expected) in [
            ("model people", "model"),
            ("stream s2-001", "worker"),
            ("read s2-001", "read"),
            ("qtdemux0:sink", "decode"),
            ("matroskademux3:", "other"),
            ("appsrc0:src", "encode"),
            ("mp4mux0:src", "encode"),
            ("plugin-clock", "other"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn a_busy_thread_is_seen_and_the_sums_agree() {
        let look = Look::now();
        let begun = Instant::now();
        let worker = std::thread::Builder::new().name("model busy".into());
        let worker = worker.spawn(move || {
            let mut sum = 0_u64;
            while begun.elapsed().as_millis() < 300 {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
            look.load()
        });
        let load = worker.unwrap().join().unwrap();
        let model = load.threads["model"];
        assert!(model.busiest > 0.0 && model.cores >= model.busiest, "{load:?}");
        assert!(load.cores >= 1.0 && load.busy_cores > 0.0, "{load:?}");
        assert!(load.memory > 0.0 && load.memory < 1.0 && load.memory_mb > 1.0, "{load:?}");
    }

    #[test]
    fn ticks_are_read_whatever_a_thread_is_called() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(ticks(stat), Some(2.0));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn the_machine_s_busy_time_leaves_out_what_it_waited() {
        assert_eq!(busy("cpu  100 20 30 5000 700 1 2 3 0 0\ncpu0 1 1 1 1\n"), 1.56);
        assert_eq!(busy(""), 0.0);
    }
}
