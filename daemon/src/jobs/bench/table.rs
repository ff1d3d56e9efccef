//! Reports as text for people.
//!
//! In: the reports of `bench lane` and `bench streams`. Out: text for standard output, a line for each step. Pure.

use std::fmt::Write;

use super::backend::Part;
use super::copies::words;
use super::lane::{LaneReport, Measured, Outcome, Whole};
use super::saturation;
use super::step::Step;
use super::streams::{Held, StreamsReport};
use super::video::Video;

/// With fewer frames, those that are decoded ahead weigh too much.
const FEW: u64 = 4 * super::cost::DEPTH;
/// Processors' share that others may take before it is said.
const OTHERS: f64 = 0.1;

/// `bench lane`.
pub(super) fn lane(report: &LaneReport) -> String {
    let mut text = head(report.video, report.model, report.plugins);
    if report.video.frames < FEW {
        let frames = report.video.frames;
        line(
            &mut text,
            format_args!("{frames} frames are few: expect figures to be off; at least {FEW} are wanted"),
        );
    }
    for backend in &report.backends {
        backend_line(&mut text, backend.name, backend.present, &backend.about);
        if backend.present {
            parts(&mut text, backend);
        }
    }
    text
}

/// What was measured.
fn head(video: &Video, model: &str, plugins: &[String]) -> String {
    let codec = video.codec.as_deref().unwrap_or("?");
    let rate = (video.rate * 1000.0).round() / 1000.0;
    let mut text = format!("{}\n{}, {rate} frames a second, {codec}", video.source, video.size);
    line(&mut text, format_args!("; model {model}{}", with(plugins)));
    text
}

fn with(plugins: &[String]) -> String {
    if plugins.is_empty() { String::new() } else { format!("; plugins {}", plugins.join(", ")) }
}

/// Writing into a string does not fail.
fn line(text: &mut String, arguments: std::fmt::Arguments) {
    let _ = writeln!(text, "{arguments}");
}

/// So many streams, in words.
pub(super) fn count(streams: usize) -> String {
    format!("{streams} stream{}", if streams == 1 { "" } else { "s" })
}

fn backend_line(text: &mut String, name: &str, present: bool, about: &str) {
    let absent = if present { "" } else { "absent: " };
    line(text, format_args!("\n{name}: {absent}{about}"));
}

fn parts(text: &mut String, backend: &Measured) {
    line(
        text,
        format_args!(
            "  {:12}{:>10}{:>12}{:>10}{:>12}{:>8}  floor",
            "", "frames/s", "CPU ms", "floor", "CPU ms", "ratio"
        ),
    );
    for (part, outcome) in &backend.parts {
        let name = part.name();
        match outcome {
            Outcome::Failed { error } => line(text, format_args!("  {name:12}not measured: {error}")),
            Outcome::Row(row) => line(
                text,
                format_args!(
                    "  {name:12}{:>10.1}{:>12.3}{:>10.1}{:>12.3}{:>8.2}  {}",
                    row.part.fps, row.part.cpu_ms, row.floor.fps, row.floor.cpu_ms, row.ratio, row.floor_is
                ),
            ),
        }
    }
    if let Some(whole) = &backend.whole {
        whole_lane(text, whole);
    }
    let rows = backend.parts.iter().filter_map(|(part, outcome)| match outcome {
        Outcome::Row(row) => Some((part.name(), row)),
        Outcome::Failed { .. } => None,
    });
    for (name, row) in rows {
        line(text, format_args!("  {name:12}by {}", row.by));
    }
    // On the CPU there is nothing to copy to.
    if let Some(whole) = backend.whole.as_ref().filter(|whole| !whole.copies.is_empty()) {
        line(
            text,
            format_args!(
                "  copies between host and GPU, a frame of the whole lane: {}",
                words(&whole.copies)
            ),
        );
    }
}

fn whole_lane(text: &mut String, whole: &Whole) {
    let often = |part: &Part| match part {
        Part::Infer if (whole.runs_a_frame - 1.0).abs() > 0.005 => {
            format!("{:.2} × infer", whole.runs_a_frame)
        }
        part => part.name().to_owned(),
    };
    let sum: Vec<String> = whole.floor.parts.keys().map(often).collect();
    line(
        text,
        format_args!(
            "  {:12}{:>10.1}{:>12.3}{:>10}{:>12.3}{:>8.2}  the floors of {}",
            "whole lane",
            whole.lane.fps,
            whole.lane.cpu_ms,
            "",
            whole.floor.cpu_ms,
            whole.ratio,
            sum.join(" + ")
        ),
    );
    line(
        text,
        format_args!(
            "  frames a second of the whole lane over those of its slowest floor, {}: {:.2}",
            whole.slowest_floor.part.name(),
            whole.over_slowest_floor
        ),
    );
}

/// `bench streams`.
pub(super) fn streams(report: &StreamsReport) -> String {
    let mut text = head(report.video, report.model, report.plugins);
    for backend in &report.backends {
        backend_line(&mut text, backend.name, backend.present, &backend.about);
        if let Some(streams) = backend.streams {
            held(&mut text, streams, backend, report.most);
        }
    }
    text
}

fn held(text: &mut String, streams: usize, backend: &Held, most: usize) {
    line(text, format_args!("  {} of this kind: held at the video's own pace", count(streams)));
    let named = |part: &saturation::Part| format!("{} ({:.0} %)", part.what, part.share * 100.0);
    match (&backend.first_bad, &backend.saturated) {
        (Some(bad), Some(saturated)) => {
            let why = bad.why.as_deref().unwrap_or_default();
            line(text, format_args!("  {}: not held: {why}", count(bad.streams)));
            let first = named(&saturated.first);
            let also: Vec<String> = saturated.also.iter().map(named).collect();
            match (saturated.first.full, also.is_empty()) {
                (true, true) => line(text, format_args!("  full first: {first}")),
                (true, false) => {
                    line(text, format_args!("  full first: {first}; also {}", also.join(", ")));
                }
                (false, _) => {
                    line(text, format_args!("  nothing that was looked at is full; the fullest: {first}"));
                }
            }
        }
        _ => line(text, format_args!("  more were not tried (--most {most})")),
    }
    let others = |step: &Step| step.load.others_cores / step.load.cores.max(1.0);
    let most = backend.steps.iter().map(others).fold(0.0, f64::max);
    if most > OTHERS {
        let percent = most * 100.0;
        line(
            text,
            format_args!(
                "  other programs took up to {percent:.0} % of the processors meanwhile: this box holds more"
            ),
        );
    }
    for found in backend.last_good.iter().chain(&backend.first_bad) {
        figures(text, found);
    }
}

fn figures(text: &mut String, step: &Step) {
    let (counts, load) = (&step.counts, &step.load);
    let wanted = counts.rate * counts.seconds * step.streams as f64;
    let done: u64 = counts.frames.iter().sum();
    line(text, format_args!("\n  with {}:", count(step.streams)));
    line(
        text,
        format_args!(
            "    frames      {done} of {wanted:.0} in {:.1} s; not inferred {}, dropped {}, not encoded {}",
            counts.seconds, counts.skipped, counts.dropped, counts.not_encoded
        ),
    );
    let (first, last) = counts.latency_ms;
    line(
        text,
        format_args!(
            "    latency     {first:.1} ms in the first half, {last:.1} ms in the last; of that, up to a frame's time waiting for its turn"
        ),
    );
    let threads: Vec<String> =
        load.threads.iter().map(|(kind, threads)| format!("{kind} {:.2}", threads.cores)).collect();
    line(
        text,
        format_args!(
            "    processors  {:.2} of {} ({}); others {:.2}; the model ran {:.0} % of the time",
            load.busy_cores,
            load.cores,
            threads.join(", "),
            load.others_cores,
            load.model * 100.0
        ),
    );
    let copies = if step.copies.is_empty() {
        String::new()
    } else {
        format!("; copies between host and GPU {}", words(&step.copies))
    };
    line(text, format_args!("    a frame     {:.2} CPU ms{copies}", step.cpu_ms));
    line(
        text,
        format_args!("    memory      {:.0} MB; {:.0} MB are left", load.memory_mb, load.memory_left_mb),
    );
    let percent =
        |share: Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.0} %", share * 100.0));
    for gpu in &load.gpus {
        let [sm, decoder, encoder, memory] = [gpu.sm, gpu.decoder, gpu.encoder, gpu.memory].map(percent);
        line(
            text,
            format_args!(
                "    GPU {}       cores {sm}, decoder {decoder}, encoder {encoder}, memory {memory}",
                gpu.index
            ),
        );
    }
}

/// One step, in a line.
pub(super) fn step(step: &Step) -> String {
    let verdict = step.why.as_deref().map_or("held".to_owned(), |why| format!("not held: {why}"));
    format!("{}: {verdict}", count(step.streams))
}
