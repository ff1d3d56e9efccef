//! What the parts have in common: medians, and the one line that a figure gets.
//!
//! In: samples, a figure and its budget. Out: numbers, and lines on standard output. Owns nothing.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Prints a figure beside its budget; `why` is asked for the reason where the budget is missed.
pub fn line(what: &str, figure: f64, budget: f64, unit: &str, why: impl FnOnce() -> String) {
    let met = figure <= budget;
    let word = if met { "met" } else { "MISSED" };
    println!("{what:58} {figure:8.2} {unit:8} budget {budget} {unit}: {word}");
    if !met {
        println!("    why: {}", why());
    }
}

/// The value below which the share `q` (0 to 1) of all values lie; 0 without any.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The median; 0 without any.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// CPU time of this thread: what a busy machine does beside it does not count.
pub fn thread_cpu() -> Duration {
    now(ClockId::ThreadCPUTime)
}

/// CPU time of this process, all its threads.
pub fn process_cpu() -> Duration {
    now(ClockId::ProcessCPUTime)
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
