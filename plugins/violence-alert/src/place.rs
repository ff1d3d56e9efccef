//! One place that is watched (the whole frame, or a region that scores name), and its incident if any.
//!
//! In: scores in order of their arrival, time passing, who is involved. Out: begin, update and end of one
//! incident at a time. Owned by [`crate::Alerts`]; serialisable. Nothing here fails.
//!
//! Calm → (k of n scores at `enter`, one of them at `sure`) → Active → (k of n below `exit`, held long
//! enough) → Cooling → (cooldown over) → Calm. A score that rises while cooling goes back to Active: the
//! same fight. Two thresholds are a Schmitt trigger (O. H. Schmitt, "A Thermionic Trigger", 1938); k of n
//! is the binary integrator of radar (Schwartz, "A Coincidence Procedure for Signal Detection", IRE
//! Transactions on Information Theory 2(4), 1956).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use watchpost_plugin::Rect;

use crate::{Config, Involved};

/// How grave; in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Low,
    /// Somebody should look soon.
    Medium,
    /// Somebody should look now.
    High,
    /// Somebody must act now.
    Critical,
}

/// Why an incident ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Scores fell and stayed low.
    Calm,
    /// The source is gone.
    SourceLost,
    /// The stream ended.
    StreamEnd,
    /// Video is missing for longer than `timeout`.
    Gap,
    /// No score came for longer than `timeout`.
    NoScores,
}

/// Begin, update or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The incident begins.
    Begin,
    /// Something about it changed.
    Update,
    /// It is over.
    End(Reason),
}

/// One step of an incident, to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Which.
    pub incident: u64,
    /// Begin, update or end.
    pub step: Step,
    /// How grave; never falls within an incident.
    pub severity: Severity,
    /// Who takes part.
    pub involved: Involved,
    /// The score now: mean of the last `enter_of` scores at begin and update, the peak at the end.
    pub score: f32,
    /// Highest score so far.
    pub peak: f32,
    /// Seconds from the first score that spoke for it to the last.
    pub duration: f32,
    /// The scores before and in it, oldest first, at most [`TRACE`].
    pub trace: Vec<f32>,
}

/// Most scores kept for an event's trace.
pub const TRACE: usize = 24;

/// A score of a clip of video.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Probability of violence.
    pub value: f32,
    /// First frame of the window, seconds.
    pub begin: f64,
    /// Last frame, seconds; often older than the current frame.
    pub end: f64,
    /// Part of the frame that the model saw; `None`: all of it.
    pub region: Option<Rect>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Incident {
    id: u64,
    /// End of the first score that spoke for it, seconds.
    since: f64,
    /// When it was published.
    begun: f64,
    /// End of the last score at or above `exit`.
    last_high: f64,
    cooling_since: Option<f64>,
    severity: Severity,
    involved: Involved,
    peak: f32,
    /// What was last told, and when.
    told_at: f64,
    told_score: f32,
    told: Involved,
    told_severity: Severity,
}

/// One watched place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where; `None`: the whole frame.
    pub region: Option<Rect>,
    scores: VecDeque<Score>,
    /// When the last score arrived, seconds.
    heard: f64,
    incident: Option<Incident>,
}

impl Place {
    /// A place nothing is known of.
    #[must_use]
    pub fn new(region: Option<Rect>, now: f64) -> Self {
        Self { region, scores: VecDeque::new(), heard: now, incident: None }
    }

    /// Id of the incident that is open here.
    #[must_use]
    pub fn open(&self) -> Option<u64> {
        self.incident.as_ref().map(|incident| incident.id)
    }

    /// When the last score came, seconds.
    #[must_use]
    pub fn heard(&self) -> f64 {
        self.heard
    }

    /// Takes a score at `now`. `involved` is asked only while it matters.
    pub fn score(
        &mut self,
        now: f64,
        score: Score,
        config: &Config,
        involved: impl FnOnce() -> Involved,
        new_id: &mut dyn FnMut() -> u64,
    ) -> Option<Alert> {
        self.heard = now;
        if score.region.is_some() {
            self.region = score.region;
        }
        // Late is normal, out of order is not: a window older than the newest is put where it belongs.
        let at = self.scores.partition_point(|other| other.end <= score.end);
        self.scores.insert(at, score);
        while self.scores.len() > TRACE.max(config.enter_of.max(config.exit_of) as usize) {
            self.scores.pop_front();
        }
        if self.incident.is_none() {
            return self.rises(config).then(|| self.begin(now, config, involved(), new_id));
        }
        let falls = self.falls(config);
        let newest = self.scores.back().copied().unwrap_or(score);
        let incident = self.incident.as_mut()?;
        incident.peak = incident.peak.max(score.value);
        if score.value >= config.exit {
            incident.last_high = incident.last_high.max(score.end);
        }
        if score.value >= config.enter {
            let who = involved();
            if !who.tracks.is_empty() || who.region.is_some() {
                incident.involved = who;
            }
        }
        if incident.cooling_since.is_some() {
            if newest.value >= config.enter {
                incident.cooling_since = None;
            }
        } else if falls && now - incident.begun >= f64::from(config.hold) {
            incident.cooling_since = Some(now);
        }
        self.update(now, config)
    }

    /// Time has passed: ends what is over.
    pub fn tick(&mut self, now: f64, config: &Config) -> Option<Alert> {
        let incident = self.incident.as_ref()?;
        if incident.cooling_since.is_some_and(|since| now - since >= f64::from(config.cooldown)) {
            return self.end(Reason::Calm);
        }
        if now - self.heard > f64::from(config.timeout) {
            return self.end(Reason::NoScores);
        }
        None
    }

    /// Ends the incident, if one is open, and forgets the scores that led to it.
    pub fn end(&mut self, reason: Reason) -> Option<Alert> {
        let mut alert = None;
        if let Some(incident) = self.incident.take() {
            let told = self.alert(&incident, Step::End(reason), incident.peak);
            alert = Some(told);
        }
        self.scores.clear();
        alert
    }

    fn recent(&self, count: u32) -> impl Iterator<Item = f32> + '_ {
        self.scores.iter().rev().take(count as usize).map(|score| score.value)
    }

    fn rises(&self, config: &Config) -> bool {
        let Some(newest) = self.scores.back() else { return false };
        if newest.value < config.enter {
            return false;
        }
        let above = self.recent(config.enter_of).filter(|value| *value >= config.enter).count();
        let sure = self.recent(config.enter_of).any(|value| value >= config.sure);
        if above >= config.enter_count as usize && sure {
            return true;
        }
        // One score half way from sure to 1 and one before it that did not speak against: no need to wait.
        let before = self.scores.iter().rev().nth(1).is_some_and(|score| score.value >= config.exit);
        if before && newest.value >= 0.5 * (1.0 + config.sure) && config.enter_count <= 2 {
            return true;
        }
        let from = newest.end - f64::from(config.sustain);
        let mut long = self.scores.iter().rev().take_while(|score| score.end >= from);
        let old_enough = self.scores.front().is_some_and(|oldest| oldest.end <= from);
        old_enough && above >= config.enter_count as usize && long.all(|score| score.value >= config.enter)
    }

    fn falls(&self, config: &Config) -> bool {
        let newest_low = self.scores.back().is_some_and(|score| score.value < config.exit);
        let below = self.recent(config.exit_of).filter(|value| *value < config.exit).count();
        newest_low && below >= config.exit_count as usize
    }

    fn mean(&self, config: &Config) -> f32 {
        let (sum, count) = self.recent(config.enter_of).fold((0.0, 0), |(s, n), value| (s + value, n + 1));
        if count == 0 { 0.0 } else { sum / count as f32 }
    }

    fn begin(
        &mut self,
        now: f64,
        config: &Config,
        involved: Involved,
        new_id: &mut dyn FnMut() -> u64,
    ) -> Alert {
        let newest = self.scores.back().map_or(now, |score| score.end);
        let recent = self.scores.iter().rev().take(config.enter_of as usize);
        let since = recent.filter(|s| s.value >= config.exit).map(|s| s.end).fold(newest, f64::min);
        let peak = self.recent(config.enter_of).fold(0.0, f32::max);
        let score = self.mean(config);
        let severity = severity(peak, (newest - since) as f32, involved.tracks.len());
        let incident = Incident {
            id: new_id(),
            since,
            begun: now,
            last_high: newest,
            cooling_since: None,
            severity,
            told: involved.clone(),
            involved,
            peak,
            told_at: now,
            told_score: score,
            told_severity: severity,
        };
        let alert = self.alert(&incident, Step::Begin, score);
        self.incident = Some(incident);
        alert
    }

    /// An update where something changed that matters, not too often.
    fn update(&mut self, now: f64, config: &Config) -> Option<Alert> {
        let score = self.mean(config);
        let mut incident = self.incident.take()?;
        let lasted = (incident.last_high - incident.since) as f32;
        let grave = severity(incident.peak, lasted, incident.involved.tracks.len());
        incident.severity = incident.severity.max(grave);
        let changed = incident.severity != incident.told_severity
            || incident.involved.tracks != incident.told.tracks
            || (score - incident.told_score).abs() >= 0.15
            || moved(incident.told.region.as_ref(), incident.involved.region.as_ref());
        let mut alert = None;
        if changed && now - incident.told_at >= f64::from(config.update_every) {
            incident.told_at = now;
            incident.told_score = score;
            incident.told = incident.involved.clone();
            incident.told_severity = incident.severity;
            alert = Some(self.alert(&incident, Step::Update, score));
        }
        self.incident = Some(incident);
        alert
    }

    fn alert(&self, incident: &Incident, step: Step, score: f32) -> Alert {
        Alert {
            incident: incident.id,
            step,
            severity: incident.severity,
            involved: incident.involved.clone(),
            score,
            peak: incident.peak,
            duration: (incident.last_high - incident.since).max(0.0) as f32,
            trace: self.recent(TRACE as u32).collect::<Vec<_>>().into_iter().rev().collect(),
        }
    }
}

/// How grave: how certain, how long, how many.
#[must_use]
pub fn severity(peak: f32, seconds: f32, people: usize) -> Severity {
    let certain = usize::from(peak >= 0.8) + usize::from(peak >= 0.95);
    let long = usize::from(seconds >= 5.0) + usize::from(seconds >= 15.0);
    let many = usize::from(people >= 3) + usize::from(people >= 5);
    match certain + long + many {
        0 => Severity::Low,
        1 => Severity::Medium,
        2 | 3 => Severity::High,
        _ => Severity::Critical,
    }
}

/// Whether a region is somewhere else, by a third of its size or more.
fn moved(told: Option<&Rect>, now: Option<&Rect>) -> bool {
    match (told, now) {
        // Two empty boxes have nothing in common, and are nowhere.
        (Some(told), Some(now)) => told.area().max(now.area()) > 0.0 && told.iou(now) < 0.5,
        (None, None) => false,
        _ => true,
    }
}
