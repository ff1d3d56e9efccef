//! What a measurement cost: frames, wall time, and CPU time of this process, in which nothing else works meanwhile.
//!
//! In: work to be done again and again, or frames as they come. Out: a [`Cost`], and a [`Figure`] of it for people.
//! Owns nothing. Fails only as the work does, or when the user wants to stop.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::interrupt::Stop;

/// What so many frames took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Frames done.
    pub frames: u64,
    /// Wall time, seconds.
    pub wall: f64,
    /// CPU time of all threads of the process, seconds.
    pub cpu: f64,
}

/// A cost as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// Frames a second.
    pub fps: f64,
    /// CPU milliseconds a frame, over all threads.
    pub cpu_ms: f64,
}

impl Cost {
    /// What each frame took.
    #[must_use]
    pub fn figure(&self) -> Figure {
        // Nothing is free: what is below the clock's resolution counts as that.
        let (frames, wall, cpu) = (self.frames.max(1) as f64, self.wall.max(1e-9), self.cpu.max(1e-9));
        Figure { fps: frames / wall, cpu_ms: cpu / frames * 1e3 }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// When a measurement began, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: process_cpu() }
    }

    /// Wall time since.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.wall.elapsed()
    }

    /// What so many frames took since.
    #[must_use]
    pub fn stop(&self, frames: u64) -> Cost {
        let cpu = process_cpu().saturating_sub(self.cpu);
        Cost { frames, wall: self.wall.elapsed().as_secs_f64(), cpu: cpu.as_secs_f64() }
    }
}

/// CPU time of this process, all its threads.
pub(super) fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The frames of a pass that count: those after the first few, for which all that is asynchronous fills up, and
/// before the last few, for which it runs dry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The clock starts after so many frames.
    pub from: u64,
    /// And stops after so many.
    pub to: u64,
}

/// Frames that may be between a decoder and the end of the lane.
pub const DEPTH: u64 = 32;

impl Window {
    /// The window in a video of so many frames.
    #[must_use]
    pub fn of(frames: u64) -> Self {
        let edge = DEPTH.min(frames / 4);
        Self { from: edge, to: frames - edge }
    }
}

/// Counts the frames of a pass, and holds the clock to its window.
#[derive(Debug)]
pub struct Marks {
    window: Window,
    seen: u64,
    clock: Option<Clock>,
    cost: Option<Cost>,
}

impl Marks {
    /// No frame yet.
    #[must_use]
    pub fn new(window: Window) -> Self {
        let clock = (window.from == 0).then(Clock::start);
        Self { window, seen: 0, clock, cost: None }
    }

    /// A frame came; whether it was the last that counts.
    pub fn frame(&mut self) -> bool {
        self.seen += 1;
        if self.seen == self.window.from {
            self.clock = Some(Clock::start());
        } else if self.seen == self.window.to {
            self.cost = self.clock.map(|clock| clock.stop(self.window.to - self.window.from));
        }
        self.cost.is_some()
    }

    /// Whether the next frame begins the window or ends it.
    #[must_use]
    pub fn is_next(&self) -> bool {
        [self.window.from, self.window.to].contains(&(self.seen + 1))
    }

    /// What the window cost.
    ///
    /// # Errors
    /// Where the video ended before it.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        let (seen, wanted) = (self.seen, self.window.to);
        self.cost
            .ok_or_else(|| anyhow::anyhow!("the video gave {seen} frames this time, {wanted} were expected"))
    }
}

/// Does `work`, which says how many frames it was, for so long, at least once; what comes once is not counted.
///
/// # Errors
/// As `work`, and when the user wants to stop.
pub fn run_for(
    time: Duration,
    stop: &Stop,
    mut work: impl FnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<Cost> {
    work()?;
    let (clock, mut frames) = (Clock::start(), 0);
    while frames == 0 || clock.elapsed() < time {
        frames += work()?;
        stop.check()?;
    }
    Ok(clock.stop(frames))
}

/// Makes passes until they took so long together, at least one.
///
/// # Errors
/// As `pass`, and when the user wants to stop.
pub fn passes(
    time: Duration,
    stop: &Stop,
    mut pass: impl FnMut() -> anyhow::Result<Cost>,
) -> anyhow::Result<Cost> {
    let mut all = Cost::default();
    while all.frames == 0 || all.wall < time.as_secs_f64() {
        all += pass()?;
        stop.check()?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_leaves_out_both_ends_of_a_video_of_any_length() {
        assert_eq!(Window::of(364), Window { from: 32, to: 332 });
        assert_eq!(Window::of(8), Window { from: 2, to: 6 });
    }

    #[test]
    fn marks_count_the_window_and_say_where_it_was_not_reached() {
        let mut marks = Marks::new(Window { from: 2, to: 5 });
        let seen = [(); 4].map(|()| (marks.is_next(), marks.frame()));
        assert_eq!(seen, [(false, false), (true, false), (false, false), (false, false)]);
        assert!(marks.is_next());
        let error = marks.cost().unwrap_err().to_string();
        assert!(error.contains("4 frames") && error.contains('5'), "{error}");
        assert!(marks.frame());
        let cost = marks.cost().unwrap();
        assert_eq!(cost.frames, 3);
        assert!(cost.wall > 0.0 && cost.figure().fps > 0.0);
    }

    #[test]
    fn work_is_done_at_least_once_and_what_comes_once_is_not_counted() {
        let mut calls = 0;
        let stop = Stop::default();
        let cost = run_for(Duration::ZERO, &stop, || {
            calls += 1;
            Ok(4)
        });
        assert_eq!((cost.unwrap().frames, calls), (4, 2));
        stop.ask();
        assert!(run_for(Duration::ZERO, &stop, || Ok(1)).is_err());
    }

    #[test]
    fn figures_are_of_a_frame() {
        let cost = Cost { frames: 50, wall: 2.0, cpu: 1.0 };
        assert_eq!(cost.figure(), Figure { fps: 25.0, cpu_ms: 20.0 });
    }
}
