//! What a replay prints.
//!
//! In: what the plugin gave, or a comparison. Out: lines or JSON lines on standard output, figures on standard error; an
//! error where the plugin failed or what it emitted differs.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Value, json};

use super::ReplayArgs;
use super::compare::Tally;
use super::run::{At, Done, Told};
use crate::flow::Change;
use crate::pipeline::trace::lines::{EventLine, GaveLine};
use crate::plugins::Player;

/// Prints what a plugin emits. States and views are printed when they change.
pub(super) struct Printer {
    json: bool,
    states: BTreeMap<String, Value>,
    views: BTreeMap<String, [f32; 4]>,
    counts: [u64; 3],
    failure: Option<String>,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, states: BTreeMap::new(), views: BTreeMap::new(), counts: [0; 3], failure: None }
    }

    /// Takes the results of a call.
    pub(super) fn take(&mut self, at: At, told: Told<'_>) {
        match told {
            Told::Gave(gave, _) => self.gave(at, gave),
            Told::Answer(answered, _) => {
                let (name, answer) = (&answered.name, &answered.answer);
                let text = match answer {
                    Ok(answer) => format!("command  {name}: {answer}"),
                    Err(reason) => format!("command  {name} is refused: {reason}"),
                };
                self.line(at, "command", &json!({ "name": name, "answer": answer }), &text);
            }
            Told::Began(_) | Told::Absent => {}
        }
    }

    fn gave(&mut self, at: At, gave: &GaveLine) {
        for event in &gave.events {
            self.counts[0] += 1;
            self.line(at, "event", &json!(event), &event_text(event));
        }
        for state in &gave.states {
            if self.states.get(&state.name) != Some(&state.value) {
                self.counts[1] += 1;
                self.states.insert(state.name.clone(), state.value.clone());
                self.line(at, "state", &json!(state), &format!("state    {} = {}", state.name, state.value));
            }
        }
        for view in &gave.views {
            if self.views.get(&view.camera) != Some(&view.bounds) {
                self.counts[2] += 1;
                self.views.insert(view.camera.clone(), view.bounds);
                let [x, y, width, height] = view.bounds;
                let text = format!("view     {}  {width:.1} x {height:.1} at {x:.1}, {y:.1}", view.camera);
                self.line(at, "view", &json!(view), &text);
            }
        }
        for reason in &gave.dropped {
            self.line(at, "dropped", &json!(reason), &format!("DROPPED  {reason}"));
        }
        if let Some(error) = &gave.error {
            self.line(at, "error", &json!(error), &format!("ERROR    {error}"));
        }
        if let Some(failure) = &gave.failure {
            self.line(at, "failure", &json!(failure), &format!("FAILED   {failure}"));
            self.failure.get_or_insert_with(|| failure.clone());
        }
    }

    fn line(&self, at: At, kind: &str, value: &Value, text: &str) {
        if self.json {
            println!("{}", json!({ "pts": at.pts, "frame": at.frame, kind: value }));
        } else {
            println!("{}  {text}", place(at));
        }
    }

    /// The trace is over.
    ///
    /// # Errors
    /// Where the plugin failed.
    pub(super) fn close(&self, done: &Done, player: &Player) -> anyhow::Result<()> {
        let (name, version, _) = player.plugin();
        let [events, states, views] = self.counts;
        let times = done.times.distribution();
        eprintln!(
            "{name} {version}: {} frames, {} calls; {events} events, {states} changes of state, {views} of views; {:.0} µs median, {:.0} µs 99th percentile, {:.1} MiB",
            done.frames,
            done.calls,
            times.p50 * 1e6,
            times.p99 * 1e6,
            done.memory as f64 / f64::from(1 << 20),
        );
        if done.bad_lines > 0 {
            eprintln!("{} lines of the trace are not whole and were left out", done.bad_lines);
        }
        match &self.failure {
            Some(failure) => bail!("the plugin failed {} times, the first time: {failure}", done.failures),
            None => Ok(()),
        }
    }
}

/// Prints a comparison.
///
/// # Errors
/// Where there is a difference, or nothing to compare.
pub(super) fn comparison(tally: &Tally, player: &Player, arguments: &ReplayArgs) -> anyhow::Result<()> {
    let (name, version, hash) = player.plugin();
    if arguments.json {
        let mut value = json!(tally);
        value["plugin"] = json!({ "name": name, "version": version, "hash": hash });
        value["frames"] = tally.done.frames.into();
        value["failures"] = tally.done.failures.into();
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{name} {version} in place of entry {}: {} frames", tally.entry, tally.done.frames);
        println!("  calls   {} compared, {} equal, {} different", tally.calls, tally.equal, tally.different);
        for (what, count) in [
            ("events", tally.events),
            ("views", tally.views),
            ("states", tally.states),
            ("shapes", tally.shapes),
        ] {
            println!("  {what:<7} {} in the trace, {} now", count.recorded, count.replayed);
        }
        if let Some(first) = &tally.first {
            let at = At { line: first.line, frame: first.frame, pts: first.pts };
            println!(
                "  first difference: {}, line {} of the trace, {}",
                place(at).trim(),
                first.line,
                first.what
            );
            println!("    trace   {}", short(&first.recorded));
            println!("    plugin  {}", short(&first.replayed));
        }
        if tally.bad_lines > 0 {
            println!("  {} lines of the trace are not whole and were left out", tally.bad_lines);
        }
    }
    if tally.calls == 0 {
        bail!("entry {} never ran in this trace: there is nothing to compare with", tally.entry);
    }
    if tally.different > 0 {
        bail!("{} of {} calls differ from the trace", tally.different, tally.calls);
    }
    Ok(())
}

/// When, and on which frame.
fn place(at: At) -> String {
    let seconds = at.pts as f64 * 1e-9;
    match at.frame {
        Some(frame) => format!("{seconds:>9.3} s  frame {frame:<6}"),
        None => format!("{seconds:>9.3} s  signal      "),
    }
}

fn event_text(event: &EventLine) -> String {
    let change = match event.change {
        Change::Begin => "begin",
        Change::Update => "update",
        Change::End => "end",
    };
    let tracks: Vec<String> = event.tracks.iter().map(ToString::to_string).collect();
    let severity = format!("{:?}", event.severity).to_lowercase();
    format!(
        "event    {} {change}  incident {}  severity {severity}  score {:.2}  tracks {}",
        event.kind,
        event.incident,
        event.score,
        if tracks.is_empty() { "-".into() } else { tracks.join(",") },
    )
}

fn short(value: &Value) -> String {
    let text = if value.is_null() { "nothing".into() } else { value.to_string() };
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
