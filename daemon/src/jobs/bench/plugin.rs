//! `watchpost bench plugin`: what a call of a plugin costs, with no objects and for each further one.
//!
//! In: a component; one that gives back each object changed, such as the example `echo` of the tests, shows the
//! host's share alone. Out: nanoseconds of the row's whole call, with its checks, beside a copy of the same
//! columns as the floor. Works in a temporary folder; nothing is asserted.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use super::host::{Bench, SIZE};
use crate::flow::{FrameMeta, Objects, Rect, Run};
use crate::plugins::{Compiler, StreamPlugins};

/// Objects of a full frame.
const FULL: usize = 1000;
/// Budgets, nanoseconds: a call with no objects, and each further object.
const CALL: f64 = 1000.0;
const OBJECT: f64 = 10.0;
/// Calls between two looks at the clock.
const GROUP: u64 = 8;
/// Objects of a busy frame.
const BUSY: usize = 50;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct PluginArgs {
    /// The component
    pub file: PathBuf,
    /// Its configuration, as JSON
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub entry: String,
    /// Calls of each kind; the median of 20 batches counts
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub repeat: u64,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What was measured, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PluginFigures {
    /// A call with no objects.
    pub empty: f64,
    /// Each further object.
    pub each: f64,
    /// A call with 50 objects.
    pub busy: f64,
    /// Copying one object's columns twice: what no boundary could save.
    pub floor_each: f64,
}

/// Measures.
///
/// # Errors
/// Where the host refuses the component or its configuration, or the plugin fails.
pub fn measure(args: &PluginArgs) -> anyhow::Result<PluginFigures> {
    let config = serde_json::from_str(&args.entry).context("--entry is no JSON object")?;
    let mut bench = Bench::new(&args.file, config, Compiler::own()?)?;
    let mut clock = Clock { row: &mut bench.row, index: 0, batch: (args.repeat / 20).max(1) };
    let (few, many) = (clock.nanoseconds(0), clock.nanoseconds(FULL));
    let busy = clock.nanoseconds(BUSY);
    bench.end()?;
    let columns = objects(FULL);
    let floor = median((0..20).map(|_| {
        let begun = Instant::now();
        for _ in 0..100 {
            black_box(black_box(&columns).clone());
            black_box(black_box(&columns).clone());
        }
        begun.elapsed().as_secs_f64() * 1e9 / 100.0
    }));
    let per = |time: f64| time / FULL as f64;
    Ok(PluginFigures { empty: few, each: per(many - few), busy, floor_each: per(floor) })
}

/// Measures and prints.
///
/// # Errors
/// As [`measure`].
pub fn run(args: &PluginArgs) -> anyhow::Result<()> {
    let found = measure(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
        return Ok(());
    }
    let judged = |found: f64, budget: f64| if found <= budget { "met" } else { "MISSED" };
    let (call, each) = (judged(found.empty, CALL), judged(found.each, OBJECT));
    println!("plugin call, no objects     {:8.0} ns    budget {CALL}: {call}", found.empty);
    println!(
        "each object, in and out     {:8.2} ns    budget {OBJECT}: {each}; copying alone {:.2}",
        found.each, found.floor_each
    );
    println!("plugin call, {BUSY} objects     {:8.0} ns", found.busy);
    if found.empty > CALL || found.each > OBJECT {
        println!(
            "    why: eleven lists cross the boundary on every call, sixteen where objects come back, each lowered or lifted, bounded and allocated by itself; \
             what an object costs is its 36 bytes copied four times and turned from columns into a struct and back"
        );
    }
    Ok(())
}

struct Clock<'a> {
    row: &'a mut StreamPlugins,
    index: u64,
    batch: u64,
}

impl Clock<'_> {
    /// Median time of a call with so many objects.
    fn nanoseconds(&mut self, count: usize) -> f64 {
        let all = objects(count);
        let runs = [Run { model: 0, begin: 0, end: 0 }];
        let mut spare: Vec<Objects> = Vec::new();
        median((0..21).map(|_| {
            let (mut spent, mut done) = (0.0, 0);
            while done < self.batch {
                // The objects belong to the frame: making them is not the call's work. A few at a time, so that they
                // are in the processor's cache as those are that a model has just found.
                spare.extend((0..GROUP).map(|_| all.clone()));
                let begun = Instant::now();
                for objects in spare.drain(..) {
                    let meta = FrameMeta {
                        stream: "bench".into(),
                        index: self.index,
                        pts: self.index * 40_000,
                        captured: 0,
                        width: SIZE.width,
                        height: SIZE.height,
                        cut: false,
                        motion: 0.0,
                        gap: 0,
                    };
                    self.index += 1;
                    black_box(self.row.process(&meta, &runs, objects, &[]));
                }
                spent += begun.elapsed().as_secs_f64();
                done += GROUP;
            }
            spent * 1e9 / done as f64
        }))
    }
}

fn objects(count: usize) -> Objects {
    let mut objects = Objects::default();
    for n in 0..count {
        objects.push(0, 0, 0.9, Rect::new(n as f32, 100.0, 40.0, 120.0));
    }
    objects
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
