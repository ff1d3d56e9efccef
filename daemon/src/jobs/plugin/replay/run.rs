//! The replay itself: what the trace says happened, done again to one plugin.
//!
//! In: the lines of a trace, and which entry is replayed. Out: each call's results beside the recorded ones, in order. Where
//! it is compared, the instance begins, ends and is called exactly when the recorded one was, with the ids that that one was
//! given; else one instance sees every frame.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::Value;

use super::Part;
use super::read::Lines;
use crate::flow::{Objects, Score};
use crate::pipeline::trace::lines::{CommandLine, FrameLine, GaveLine, Header, Line, StartedLine, StepLine};
use crate::plugins::{Player, Seating, remap};
use crate::telemetry::Histogram;

/// Failures after which a replay is given up.
const FAILURES: u64 = 20;

/// A replay.
pub(super) struct Replay<'a> {
    pub header: &'a Header,
    pub part: &'a Part,
    /// The configuration in place of the recorded one.
    pub config: Option<String>,
    pub compare: bool,
}

/// Where in the trace something was told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct At {
    /// Line, counted from 1.
    pub line: u64,
    /// Frame, where it is one.
    pub frame: Option<u64>,
    /// Stream time, nanoseconds.
    pub pts: u64,
}

/// What came of one call.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// An instance begins, of which these states were known already.
    Began(&'a BTreeMap<String, Value>),
    /// What the plugin gave, and what the recorded one did, where it ran.
    Gave(&'a GaveLine, Option<&'a GaveLine>),
    /// What it answered to a command, and what the recorded one did.
    Answer(&'a CommandLine, &'a CommandLine),
    /// The recorded one ran, and this one does not any more.
    Absent,
}

/// How a replay went.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    /// Frames in the trace.
    pub frames: u64,
    /// Calls of the plugin.
    pub calls: u64,
    /// Times that the host ended it.
    pub failures: u64,
    /// Lines that were left out.
    pub bad_lines: u64,
    /// Time of the calls of `process`.
    pub times: Histogram,
    /// Most linear memory, bytes.
    pub memory: usize,
}

impl Replay<'_> {
    /// Replays all lines; `tell` gets each call's results.
    pub(super) fn run(
        &self,
        player: &mut Player,
        mut lines: Lines,
        mut tell: impl FnMut(At, Told<'_>),
    ) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let stream: Arc<str> = self.header.stream.as_str().into();
        while let Some((line, content)) = lines.next()? {
            let mut say = |at, told: Told<'_>| lines.beside(|| tell(at, told));
            match content {
                Line::Step(StepLine::Started(started)) if started.entry == self.part.entry => {
                    if self.compare || !player.runs() {
                        self.start(player, Some(&started))
                            .with_context(|| format!("line {line} of the trace"))?;
                        say(At { line, frame: None, pts: started.now }, Told::Began(&started.said));
                    }
                }
                Line::Step(StepLine::Gone { entry, .. }) if entry == self.part.entry && self.compare => {
                    player.end()
                }
                Line::Step(StepLine::Signal { now, what, entries }) => {
                    let recorded = self.own(&entries);
                    if !self.due(player, recorded)? {
                        continue;
                    }
                    let at = At { line, frame: None, pts: now };
                    let ids = recorded.map_or(&[][..], |gave| &gave.ids);
                    let gave = player.signal(ids, now, what).map(|gave| GaveLine::from(&gave));
                    self.took(player, &mut done, at, gave, recorded, &mut say)?;
                }
                Line::Step(StepLine::Command(command)) if command.entry == self.part.entry => {
                    if let Some(answered) = player.command(&(&command).into()) {
                        let at = At { line, frame: None, pts: command.now };
                        say(at, Told::Answer(&CommandLine::from(&answered), &command));
                    }
                }
                Line::Step(_) => {}
                Line::Frame(frame) => {
                    done.frames += 1;
                    let recorded = self.own(&frame.entries);
                    if !self.due(player, recorded)? {
                        continue;
                    }
                    let at = At { line, frame: Some(frame.frame), pts: frame.pts };
                    let ids = recorded.map_or(&[][..], |gave| &gave.ids);
                    let (objects, scores) = self.input(&frame);
                    let begun = Instant::now();
                    let gave = player.frame(ids, &frame.meta(&stream), &frame.runs(), &objects, &scores);
                    done.times.record_duration(begun.elapsed());
                    let gave = gave.map(|gave| GaveLine::from(&gave));
                    self.took(player, &mut done, at, gave, recorded, &mut say)?;
                }
            }
        }
        done.bad_lines = lines.bad;
        Ok(done)
    }

    /// What the trace says of the replayed entry.
    fn own<'b>(&self, entries: &'b [GaveLine]) -> Option<&'b GaveLine> {
        entries.iter().find(|gave| gave.entry == self.part.entry)
    }

    /// Whether the plugin is called now; starts it where nothing of the trace did.
    fn due(&self, player: &mut Player, recorded: Option<&GaveLine>) -> anyhow::Result<bool> {
        if self.compare {
            return Ok(recorded.is_some());
        }
        if !player.runs() {
            self.start(player, None)?;
        }
        Ok(true)
    }

    /// Objects and scores as they came before the entry: as the ones before it in the row left them.
    fn input(&self, frame: &FrameLine) -> (Objects, Vec<Score>) {
        let (mut objects, mut scores) = (frame.found(), frame.scores());
        for gave in &frame.entries {
            let place = self.header.entries.iter().position(|line| line.entry == gave.entry);
            if place.is_none_or(|place| place >= self.part.place) {
                continue;
            }
            if let Some(columns) = &gave.objects {
                let after = Objects::from(columns);
                scores = remap(&scores, &objects, &after);
                objects = after;
            }
        }
        (objects, scores)
    }

    fn start(&self, player: &mut Player, recorded: Option<&StartedLine>) -> anyhow::Result<()> {
        let context = self.header.context();
        let written;
        let (context_text, now_state) = match recorded {
            Some(started) => {
                let state = started.state.as_ref().map(|blob| {
                    let bytes = blob.bytes().context("the plugin's state in the trace is damaged")?;
                    anyhow::Ok((started.now, blob.version, bytes))
                });
                (started.context.as_str(), state.transpose()?)
            }
            None => {
                written = Player::context(&context, &self.part.entry, context.size);
                (written.as_str(), None)
            }
        };
        let from_head = || {
            let config = self.part.config.clone().unwrap_or_default();
            serde_json::Value::Object(config).to_string()
        };
        let config = self.config.clone().or_else(|| recorded.map(|started| started.config.clone()));
        let config = config.unwrap_or_else(from_head);
        let not_taken = player.start(&Seating {
            stream: &self.header.stream,
            entry: &self.part.entry,
            context: context_text,
            config: &config,
            labels: context.models.iter().map(|model| model.labels.len()).collect(),
            state: now_state,
        })?;
        if let Some(reason) = not_taken {
            eprintln!(
                "the plugin does not take the state that the trace begins with, and starts fresh: {reason}"
            );
        }
        Ok(())
    }

    fn took(
        &self,
        player: &mut Player,
        done: &mut Done,
        at: At,
        gave: Option<GaveLine>,
        recorded: Option<&GaveLine>,
        say: &mut impl FnMut(At, Told<'_>),
    ) -> anyhow::Result<()> {
        let Some(gave) = gave else {
            say(at, Told::Absent);
            return Ok(());
        };
        done.calls += 1;
        done.memory = done.memory.max(player.memory());
        say(at, Told::Gave(&gave, recorded));
        if let Some(failure) = &gave.failure {
            done.failures += 1;
            if done.failures >= FAILURES {
                bail!("the plugin failed {FAILURES} times, the last time at line {}: {failure}", at.line);
            }
        }
        Ok(())
    }
}
