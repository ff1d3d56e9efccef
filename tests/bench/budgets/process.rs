//! What a process has used: CPU time, also by kind of thread, and memory of its own.
//!
//! In: a process id. Out: numbers from /proc, whose CPU times come in hundredths of a second. Owns nothing; a process
//! or a thread that has gone is an error, or left out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

/// Seconds in one of /proc's ticks: 100 a second on every Linux that the daemon runs on.
const TICK: f64 = 0.01;

/// CPU seconds of a process, those of threads that have ended among them.
pub fn cpu(pid: u32) -> anyhow::Result<f64> {
    ticks(&Path::new("/proc").join(pid.to_string()).join("stat")).map(|(_, seconds)| seconds)
}

/// Name and CPU seconds from a `stat` file.
fn ticks(file: &Path) -> anyhow::Result<(String, f64)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    // The name may hold anything, also spaces and brackets; it ends at the last bracket.
    let (head, tail) = text.rsplit_once(')').context("a stat file without a name")?;
    let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
    let mut fields = tail.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next().context("no utime")??, fields.next().context("no stime")??);
    Ok((name, (user + system) * TICK))
}

/// CPU seconds of each thread, by its id; looked at often, it also keeps those that end.
#[derive(Default, Clone)]
pub struct Threads(BTreeMap<String, (String, f64)>);

impl Threads {
    /// Looks at the threads that there are.
    pub fn look(&mut self, pid: u32) {
        let Ok(tasks) = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")) else {
            return;
        };
        for task in tasks.flatten() {
            if let Ok(found) = ticks(&task.path().join("stat")) {
                self.0.insert(task.file_name().to_string_lossy().into_owned(), found);
            }
        }
    }

    /// CPU seconds since `before` of all threads whose name begins so.
    pub fn since(&self, before: &Self, name: &str) -> f64 {
        let old = |id: &String| before.0.get(id).map_or(0.0, |(_, seconds)| *seconds);
        let named = self.0.iter().filter(|(_, (thread, _))| thread.starts_with(name));
        named.map(|(id, (_, seconds))| seconds - old(id)).sum()
    }
}

/// Memory of a process in MB, what it shares divided among those that share it: all, and what is not of files.
pub fn memory(pid: u32) -> anyhow::Result<(f64, f64)> {
    let file = Path::new("/proc").join(pid.to_string()).join("smaps_rollup");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.map(|kib| kib * 1024.0 / 1e6).with_context(|| format!("no {name} in smaps_rollup"))
    };
    Ok((field("Pss:")?, field("Pss_Anon:")?))
}
