//! The tracker proper: from each frame's detections to tracks, one step a frame.
//!
//! In: stream time, which models ran, their detections, and a source of ids. Out: a track id for each
//! detection (0: none), and the predicted boxes of tracks that were not found. Owned by the plugin or
//! a test; serialisable as [`Saved`]. Nothing here fails: detections that make no sense are left alone.
//!
//! Association in stages by confidence after ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by
//! Associating Every Detection Box", ECCV 2022); momentum and re-update after OC-SORT (Cao et al., CVPR
//! 2023); grown boxes after C-BIoU (Yang et al., WACV 2023). Time is stream time throughout: a frame on
//! which the detector did not run moves predictions and says nothing about who is there.

use serde::{Deserialize, Serialize};

use crate::{
    Bounds, Config, Lapse, Phase, Track, Tuning,
    assign::{Assigner, Pair},
    associate::{self, Reach},
    nearby::Nearby,
    rivals::{self, Before, Rivals},
};

/// What a detector found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index of the model.
    pub model: u32,
    /// Index into its labels.
    pub class: u32,
    /// Group within which a track may change its class; unique over models.
    pub kind: u32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Where.
    pub bounds: Bounds,
}

/// The predicted box of a track that was not found, or not looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coasting {
    /// Track id.
    pub id: u64,
    /// Model that finds it.
    pub model: u32,
    /// Class as last seen.
    pub class: u32,
    /// Confidence: that of the last detection, falling with the time since.
    pub score: f32,
    /// Where it should be; may lie partly outside the frame.
    pub bounds: Bounds,
}

/// A tracker's memory, for a snapshot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// All tracks.
    pub tracks: Vec<Track>,
    /// Stream time of the last frame, seconds.
    pub now: f64,
    /// Usual seconds between two runs of each model, by index; 0: not known.
    pub steps: Vec<f64>,
    /// When each model last ran, seconds.
    pub last_runs: Vec<f64>,
    /// Who may have been exchanged with whom. Not kept: who is still close is noted again.
    #[serde(skip)]
    pub rivals: Vec<Rivals>,
}

/// The tracker.
#[derive(Debug, Default)]
pub struct Tracker {
    config: Config,
    tuning: Tuning,
    saved: Saved,
    assigner: Assigner,
    pairs: Vec<Pair>,
    /// Detections of a stage by place.
    nearby: Nearby,
    /// Tracks by place, with those that moved in this step in both places.
    near_tracks: Nearby,
    high: Vec<u32>,
    low: Vec<u32>,
    rows: Vec<u32>,
    columns: Vec<u32>,
    /// Index of the track that took each detection of this step.
    owner: Vec<Option<u32>>,
    /// Whether each track was matched in this step.
    matched: Vec<bool>,
    matches: Vec<(u32, u32)>,
    /// Tracks that have a rival, as they were before they took their detections; by slot.
    before: Before,
    /// What each track took in this step, and how far it is to be doubted; by slot.
    taken: Vec<Option<(Detection, f32)>>,
}

impl Tracker {
    /// A tracker without tracks.
    #[must_use]
    pub fn new(config: Config, tuning: Tuning) -> Self {
        Self { config, tuning, ..Self::default() }
    }

    /// All tracks, tentative and lost ones too.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.saved.tracks
    }

    /// Forgets all tracks: after a scene cut nothing goes on.
    pub fn clear(&mut self) {
        self.saved.tracks.clear();
        self.saved.rivals.clear();
    }

    /// Frames changed their size by these factors.
    pub fn rescale(&mut self, across: f32, down: f32) {
        self.saved.tracks.iter_mut().for_each(|track| track.rescale(across, down));
        self.saved.rivals.clear();
    }

    /// Moves all times by so many seconds: stream time began anew.
    pub fn shift(&mut self, seconds: f64) {
        self.saved.now += seconds;
        self.saved.last_runs.fill(-1.0);
        self.saved.rivals.clear();
        for track in &mut self.saved.tracks {
            track.time += seconds;
            track.seen.iter_mut().for_each(|sighting| sighting.at += seconds);
        }
    }

    /// Believed tracks that are there, as far as anybody can tell: found, or out of sight only for a moment.
    pub fn present(&self) -> impl Iterator<Item = &Track> {
        self.saved.tracks.iter().filter(|track| {
            let away = self.saved.now - track.last().at;
            track.phase != Phase::Tentative && away <= self.patience(track)
        })
    }

    /// For how many seconds the predicted box of a track goes on being reported.
    fn patience(&self, track: &Track) -> f64 {
        let coast = f64::from(self.config.coast);
        match track.phase {
            Phase::Tentative => 0.0,
            Phase::Lost => coast,
            // Not looked for since: it is there until the detector says otherwise.
            Phase::Live => (2.5 * self.step_of(track.model)).max(coast),
        }
    }

    /// The memory, for a snapshot.
    #[must_use]
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Goes on from a snapshot.
    pub fn restore(&mut self, saved: Saved) {
        self.saved = saved;
    }

    /// One frame at `now` seconds of stream time. `ran`: models whose detector ran on it (those of any
    /// detection are taken to have run). `ids` gets one track id a detection, 0 for none; `coasting` the
    /// predictions. Both are cleared first.
    pub fn step(
        &mut self,
        now: f64,
        ran: &[u32],
        found: &[Detection],
        new_id: &mut dyn FnMut() -> u64,
        ids: &mut Vec<u64>,
        coasting: &mut Vec<Coasting>,
    ) {
        ids.clear();
        ids.resize(found.len(), 0);
        coasting.clear();
        let now = now.max(self.saved.now);
        self.saved.now = now;
        let mut lapse = Lapse::default();
        for track in &mut self.saved.tracks {
            track.predict(now, &mut lapse, &self.tuning.noise);
        }
        let has_run = |model: u32| ran.contains(&model) || found.iter().any(|d| d.model == model);
        if !ran.is_empty() || !found.is_empty() {
            self.note_runs(now, ran, found);
            self.matched.clear();
            self.matched.resize(self.saved.tracks.len(), false);
            self.owner.clear();
            self.owner.resize(found.len(), None);
            self.sort_detections(found);
            self.near_tracks.fill(self.saved.tracks.iter().map(|track| track.bounds().span(0.0)));
            self.remember_rivals(now);
            self.associate(now, found);
            self.judge_rivals(found);
            self.confirm(now, new_id);
            self.bury(now, has_run);
            for (id, owner) in ids.iter_mut().zip(&self.owner) {
                *id = owner.map_or(0, |index| self.saved.tracks[index as usize].id);
            }
        }
        self.coast(now, coasting);
        self.saved.tracks.retain(|track| track.hits > 0);
    }

    /// Learns how often each model runs.
    fn note_runs(&mut self, now: f64, ran: &[u32], found: &[Detection]) {
        for model in ran.iter().copied().chain(found.iter().map(|d| d.model)) {
            let model = model as usize;
            if model >= 256 {
                continue;
            }
            if self.saved.steps.len() <= model {
                self.saved.steps.resize(model + 1, 0.0);
                self.saved.last_runs.resize(model + 1, -1.0);
            }
            let last = std::mem::replace(&mut self.saved.last_runs[model], now);
            let step = now - last;
            if last >= 0.0 && step > 0.0 && step < 5.0 {
                let usual = &mut self.saved.steps[model];
                *usual = if *usual == 0.0 { step } else { *usual + 0.1 * (step - *usual) };
            }
        }
    }

    fn step_of(&self, model: u32) -> f64 {
        self.saved.steps.get(model as usize).copied().filter(|s| *s > 0.0).unwrap_or(0.04)
    }

    fn sort_detections(&mut self, found: &[Detection]) {
        self.high.clear();
        self.low.clear();
        for (index, d) in found.iter().enumerate().filter(|(_, d)| d.bounds.is_valid()) {
            if d.score >= self.config.high {
                self.high.push(index as u32);
            } else if d.score >= self.config.low {
                self.low.push(index as u32);
            }
        }
    }

    fn associate(&mut self, now: f64, found: &[Detection]) {
        // Believed tracks with confident detections.
        self.select(|track| track.phase != Phase::Tentative);
        let high = std::mem::take(&mut self.high);
        let low = std::mem::take(&mut self.low);
        let beside = Reach::Beside(self.tuning.grow);
        self.stage(now, found, &high, beside, associate::confident);
        // Live tracks left over with doubtful detections.
        self.select(|track| track.phase == Phase::Live);
        self.stage(now, found, &low, Reach::Beside(0.0), |t, d, _, tuning| associate::doubtful(t, d, tuning));
        // Believed tracks left over with confident detections left over, in widened gates.
        self.select(|track| track.phase != Phase::Tentative);
        self.stage(now, found, &high, Reach::Anywhere, associate::regained);
        // Newcomers with what is left.
        self.select(|track| track.phase == Phase::Tentative);
        self.stage(now, found, &high, beside, associate::confident);
        self.birth(now, found, &high);
        self.high = high;
        self.low = low;
    }

    fn remember_rivals(&mut self, now: f64) {
        rivals::meet(&mut self.saved.rivals, &self.saved.tracks, &self.near_tracks, now, &self.tuning);
        self.before.keep(&self.saved.rivals, &self.saved.tracks);
        self.taken.clear();
        self.taken.resize(self.saved.tracks.len(), None);
    }

    fn judge_rivals(&mut self, found: &[Detection]) {
        let step = found.first().map_or(0.04, |d| self.step_of(d.model));
        let outcome = rivals::Outcome { before: &self.before, taken: &self.taken, step };
        rivals::judge(&mut self.saved.rivals, &mut self.saved.tracks, &outcome, &self.tuning);
    }

    fn select(&mut self, wanted: impl Fn(&Track) -> bool) {
        self.rows.clear();
        for (index, track) in self.saved.tracks.iter().enumerate() {
            if !self.matched[index] && wanted(track) {
                self.rows.push(index as u32);
            }
        }
    }

    fn stage(
        &mut self,
        now: f64,
        found: &[Detection],
        candidates: &[u32],
        reach: Reach,
        gain: impl Fn(&Track, &Detection, f64, &Tuning) -> Option<f32>,
    ) {
        self.columns.clear();
        self.columns.extend(candidates.iter().copied().filter(|index| self.owner[*index as usize].is_none()));
        if self.rows.is_empty() || self.columns.is_empty() {
            return;
        }
        let tuning = &self.tuning;
        associate::pairs(
            &mut self.pairs,
            &mut self.nearby,
            reach,
            (&self.saved.tracks, &self.rows),
            (found, &self.columns),
            |track, found| gain(track, found, now, tuning),
        );
        let (pairs, matches, rows, columns) = (&self.pairs, &mut self.matches, &self.rows, &self.columns);
        matches.clear();
        self.assigner.solve(pairs, rows.len(), columns.len(), |index| {
            let pair = pairs[index];
            matches.push((rows[pair.row as usize], columns[pair.column as usize]));
        });
        for index in 0..self.matches.len() {
            let (row, column) = self.matches[index];
            self.matched[row as usize] = true;
            self.owner[column as usize] = Some(row);
        }
        for index in 0..self.matches.len() {
            let (row, column) = self.matches[index];
            let found = &found[column as usize];
            let doubt = self.doubt(row as usize, found);
            let step = self.step_of(found.model);
            if let Some(taken) = self.taken.get_mut(row as usize) {
                *taken = Some((*found, doubt));
            }
            let track = &mut self.saved.tracks[row as usize];
            track.update(found, doubt, step, &self.tuning.noise);
            if track.phase == Phase::Lost {
                track.phase = Phase::Live;
            }
            self.near_tracks.add(row as usize, track.bounds().span(0.0));
        }
    }

    /// How far to doubt a detection: another believed track that was not found should be just there, so
    /// what was seen may be cut off by it, or be part of it.
    fn doubt(&self, row: usize, found: &Detection) -> f32 {
        let contested = self.near_tracks.any(found.bounds.span(0.0), |index| {
            let other = &self.saved.tracks[index];
            index != row
                && other.phase != Phase::Tentative
                && other.kind == found.kind
                && other.is_beside(&found.bounds, 0.0)
                && other.bounds().overlap(&found.bounds) > 0.4 * found.bounds.area()
        });
        if contested { self.tuning.doubt } else { 1.0 }
    }

    fn birth(&mut self, now: f64, found: &[Detection], candidates: &[u32]) {
        for index in candidates {
            let d = &found[*index as usize];
            if self.owner[*index as usize].is_some() || d.score < self.config.birth {
                continue;
            }
            // Between two who stand close, detectors see a third: beside somebody known, a newcomer must be sure.
            let beside = self.saved.tracks.iter().any(|track| {
                track.phase != Phase::Tentative
                    && track.kind == d.kind
                    && track.is_beside(&d.bounds, 0.0)
                    && track.bounds().iou(&d.bounds) > self.tuning.near
            });
            if beside && d.score < self.tuning.birth_near {
                continue;
            }
            let duplicate = found.iter().zip(&self.owner).any(|(other, owner)| {
                owner.is_some() && other.kind == d.kind && other.bounds.iou(&d.bounds) > self.tuning.duplicate
            });
            if duplicate {
                continue;
            }
            self.owner[*index as usize] = Some(self.saved.tracks.len() as u32);
            self.saved.tracks.push(Track::new(d, now, &self.tuning.noise));
            self.matched.push(true);
        }
    }

    /// Tentative tracks with enough detections become certain and get an id: that of a lost track which they
    /// may well be (somebody who came out of hiding piece by piece), or a new one.
    fn confirm(&mut self, now: f64, new_id: &mut dyn FnMut() -> u64) {
        for index in 0..self.saved.tracks.len() {
            let track = &self.saved.tracks[index];
            if track.phase != Phase::Tentative || track.hits < self.config.confirm || !self.matched[index] {
                continue;
            }
            let found = Detection {
                model: track.model,
                class: track.class,
                kind: track.kind,
                score: track.score,
                bounds: track.bounds(),
            };
            let before = self
                .saved
                .tracks
                .iter()
                .enumerate()
                .filter(|(other, lost)| {
                    lost.phase == Phase::Lost && !self.matched[*other] && lost.kind == found.kind
                })
                .filter_map(|(other, lost)| {
                    associate::regained(lost, &found, now, &self.tuning).map(|gain| (other, gain))
                })
                .max_by(|a, b| a.1.total_cmp(&b.1));
            let id = if let Some((other, _)) = before {
                // Buried at the end of the step: a track without hits is dropped.
                self.saved.tracks[other].hits = 0;
                self.saved.tracks[other].id
            } else {
                new_id()
            };
            let track = &mut self.saved.tracks[index];
            track.id = id;
            track.phase = Phase::Live;
        }
    }

    /// What was looked for and not found: newcomers go at once, others are lost, and given up in time: later where
    /// somebody stands in front of them.
    fn bury(&mut self, now: f64, has_run: impl Fn(u32) -> bool) {
        for index in 0..self.saved.tracks.len() {
            let track = &self.saved.tracks[index];
            if self.matched[index] || !has_run(track.model) {
                continue;
            }
            let away = now - track.last().at;
            let lost = f64::from(self.config.max_lost);
            let gone = track.phase == Phase::Tentative
                || away > lost && !(away <= f64::from(self.config.max_hidden) && self.is_hidden(index));
            let track = &mut self.saved.tracks[index];
            if gone {
                track.hits = 0;
            } else {
                track.phase = Phase::Lost;
            }
        }
    }

    /// Whether a track that is not found is where a track that is found may hide it, or may be taken for both.
    fn is_hidden(&self, index: usize) -> bool {
        let track = &self.saved.tracks[index];
        let last = track.last().bounds;
        self.saved.tracks.iter().zip(&self.matched).any(|(other, matched)| {
            *matched
                && other.phase == Phase::Live
                && other.kind == track.kind
                && other.bounds().overlap(&last) > self.tuning.hides * last.area()
        })
    }

    /// Reports the predictions of tracks that were believed and seen not long ago.
    fn coast(&self, now: f64, coasting: &mut Vec<Coasting>) {
        for track in &self.saved.tracks {
            let away = now - track.last().at;
            let limit = self.patience(track);
            if away > 0.0 && away <= limit && track.hits > 0 {
                let score = track.score * (1.0 - 0.5 * (away / limit) as f32);
                coasting.push(Coasting {
                    id: track.id,
                    model: track.model,
                    class: track.class,
                    score,
                    bounds: track.bounds(),
                });
            }
        }
    }
}
