//! The tracker in WebAssembly, through the plugin host as in a stream, over its native build.
//!
//! In: the built component and 50 people who walk about. Out: two lines: microseconds a frame, and the ratio. The
//! native side is the same plugin, `TrackerPlugin`, called by the SDK's `Runner`, on the same objects. Both take
//! turns on one thread, and CPU time counts. Works in a temporary folder.

use anyhow::ensure;
use e2e::daemon::{binary, dist};
use tracker::TrackerPlugin;
use watchpost::flow::{FrameMeta, Objects, Rect, Run};
use watchpost::jobs::bench::host::{Bench, SIZE};
use watchpost::plugins::{Compiler, StreamPlugins};
use watchpost_plugin::testing::Runner;

use crate::figures::{line, median, thread_cpu};

const PEOPLE: usize = 50;
/// Frames in one turn, and turns of each side; the first few only warm up.
const TURN: u64 = 50;
const TURNS: usize = 60;
const WARM: usize = 6;
/// A frame at 25 frames a second, nanoseconds.
const FRAME: u64 = 40_000_000;

/// Measures and prints.
pub fn measure() -> anyhow::Result<()> {
    let file = dist().join("plugins/tracker.wasm");
    ensure!(file.is_file(), "no {}: run `make build`", file.display());
    let mut bench = Bench::new(&file, serde_json::Map::default(), Compiler::of(binary()))?;
    let mut runner = Runner::<TrackerPlugin>::new(&native_context(), &serde_json::json!({}))
        .map_err(anyhow::Error::msg)?;

    let mut crowd = Crowd::new();
    let (mut wasm, mut native, mut tracked) = (Vec::new(), Vec::new(), 0);
    for turn in 0..TURNS {
        let frames: Vec<Vec<Rect>> = (0..TURN).map(|_| crowd.step()).collect();
        let first = turn as u64 * TURN;
        let in_wasm = wasm_turn(&mut bench.row, first, &frames, &mut tracked);
        let at_home = native_turn(&mut runner, first, &frames)?;
        if turn >= WARM {
            wasm.push(in_wasm);
            native.push(at_home);
        }
    }
    bench.end()?;
    ensure!(tracked > 0, "nothing was tracked");

    let ratios: Vec<f64> = wasm.iter().zip(&native).map(|(wasm, native)| wasm / native).collect();
    let (wasm, native, ratio) = (median(&wasm), median(&native), median(&ratios));
    let split = || {
        format!(
            "{wasm:.1} µs a frame through the host, of which the native build needs {native:.1}; the rest is slower code and the boundary"
        )
    };
    line("tracker in WASM, 50 objects", wasm, 60.0, "µs/frame", split);
    line("tracker in WASM over its native build (SDK Runner)", ratio, 1.5, "x", split);
    Ok(())
}

/// Microseconds of CPU a frame.
fn wasm_turn(row: &mut StreamPlugins, first: u64, frames: &[Vec<Rect>], tracked: &mut usize) -> f64 {
    // Objects belong to the frame: making them is not the call's work.
    let ready: Vec<Objects> = frames
        .iter()
        .map(|people| {
            let mut objects = Objects::default();
            people.iter().for_each(|bounds| objects.push(0, 0, 0.9, *bounds));
            objects
        })
        .collect();
    let mut given = Vec::with_capacity(ready.len());
    let begun = thread_cpu();
    for (index, objects) in (first..).zip(ready) {
        let pts = index * FRAME;
        let meta = FrameMeta {
            stream: "bench".into(),
            index,
            pts,
            captured: pts / 1000,
            width: SIZE.width,
            height: SIZE.height,
            cut: false,
            motion: 0.1,
            gap: 0,
        };
        given.push(row.process(&meta, &[Run { model: 0, begin: pts, end: pts }], objects, &[]));
    }
    let spent = thread_cpu().saturating_sub(begun);
    *tracked += given.iter().flat_map(|out| &out.objects.tracks).filter(|track| **track != 0).count();
    spent.as_secs_f64() * 1e6 / frames.len() as f64
}

/// Microseconds of CPU a frame.
fn native_turn(runner: &mut Runner<TrackerPlugin>, first: u64, frames: &[Vec<Rect>]) -> anyhow::Result<f64> {
    use watchpost_plugin::{Frame, Object, Rect, Run};

    let ready: Vec<Vec<Object>> = frames
        .iter()
        .map(|people| {
            let object = |b: &watchpost::flow::Rect| Object {
                score: 0.9,
                bounds: Rect::new(b.x, b.y, b.width, b.height),
                ..Object::default()
            };
            people.iter().map(object).collect()
        })
        .collect();
    let mut given = Vec::with_capacity(ready.len());
    let begun = thread_cpu();
    for (index, objects) in (first..).zip(ready) {
        let pts = index * FRAME;
        let (width, height) = (SIZE.width, SIZE.height);
        let frame = Frame { index, pts, captured: pts / 1000, width, height, cut: false, motion: 0.1 };
        let run = Run { model: 0, begin: pts, end: pts };
        given.push(runner.process(&frame, &[run], objects, &[]).map_err(anyhow::Error::msg)?);
    }
    let spent = thread_cpu().saturating_sub(begun);
    drop(given);
    Ok(spent.as_secs_f64() * 1e6 / frames.len() as f64)
}

fn native_context() -> watchpost_plugin::Context {
    let labels = vec!["person".to_owned()];
    let model =
        watchpost_plugin::Model { name: "people".into(), labels, ..watchpost_plugin::Model::default() };
    watchpost_plugin::Context { models: vec![model], ..watchpost_plugin::Context::default() }
}

/// People who walk straight on and turn round at the picture's edges, so that they meet now and then.
struct Crowd(Vec<(Rect, f32, f32)>);

impl Crowd {
    fn new() -> Self {
        let walker = |n: usize| {
            // Steps of irrational length spread places and directions evenly.
            let part = |step: f32| (n as f32 * step).fract();
            let bounds = Rect::new(part(0.618_034) * 1200.0, part(0.754_878) * 600.0, 40.0, 100.0);
            (bounds, part(0.569_84) * 6.0 - 3.0, part(0.438_579) * 2.0 - 1.0)
        };
        Self((0..PEOPLE).map(walker).collect())
    }

    fn step(&mut self) -> Vec<Rect> {
        for (bounds, across, down) in &mut self.0 {
            if bounds.x + *across < 0.0 || bounds.x + bounds.width + *across > SIZE.width as f32 {
                *across = -*across;
            }
            if bounds.y + *down < 0.0 || bounds.y + bounds.height + *down > SIZE.height as f32 {
                *down = -*down;
            }
            bounds.x += *across;
            bounds.y += *down;
        }
        self.0.iter().map(|(bounds, ..)| *bounds).collect()
    }
}
