//! Who may have been exchanged with whom: two tracks that met are followed under two readings at once.
//!
//! In: the tracks as predicted, which detection each got. Out: the tracks under the likelier reading, with ids
//! exchanged where what came later says so. Owned by [`crate::Tracker`]. Nothing here fails.
//!
//! Where two people pass each other a detector often sees one for a while, and whose detection it was is told only
//! by what comes after: the one who walked walks on, the one who stood still stands. So the decision is deferred, as
//! in multiple hypothesis tracking (Reid, "An Algorithm for Tracking Multiple Targets", IEEE TAC 1979), with the two
//! hypotheses that matter, per pair: as associated, or exchanged. It is Viterbi's algorithm with two states: each
//! reading is reached from the better of both, by the likelihood of the detections under the filters it leads to.

use crate::nearby::Nearby;
use crate::{Detection, Lapse, Noise, Phase, Track, Tuning, associate::surprise};

/// Two tracks that met, and how things look if they were exchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rivals {
    /// Ids of the two.
    pub ids: [u64; 2],
    /// Where the two stand among the tracks, in this step.
    pub slots: [u32; 2],
    /// The same two, had each taken the other's last detections.
    pub exchanged: [Track; 2],
    /// By how many nats the exchanged reading is likelier; below 0 where it is less likely. `None`: there is none yet.
    pub lead: Option<f32>,
    /// When they were last close, seconds.
    pub close: f64,
}

/// At most so many pairs are followed: in a dense crowd everybody touches everybody.
const MOST: usize = 64;

/// Notes who is close to whom, and forgets those who have long parted. `tracks` are predicted to `now`.
pub fn meet(all: &mut Vec<Rivals>, tracks: &[Track], nearby: &Nearby, now: f64, tuning: &Tuning) {
    let slot = |id: u64| tracks.iter().position(|t| t.id == id && t.phase != Phase::Tentative);
    let mut lapse = Lapse::default();
    all.retain_mut(|rivals| {
        let [Some(first), Some(second)] = rivals.ids.map(slot) else { return false };
        rivals.slots = [first as u32, second as u32];
        rivals.exchanged.iter_mut().for_each(|track| track.predict(now, &mut lapse, &tuning.noise));
        now - rivals.close <= f64::from(tuning.parted)
    });
    for (slot, track) in tracks.iter().enumerate().filter(|(_, track)| track.phase != Phase::Tentative) {
        let bounds = track.bounds();
        nearby.each(bounds.span(0.0), |second| {
            let other = &tracks[second];
            let apart = second <= slot
                || other.phase == Phase::Tentative
                || other.kind != track.kind
                || bounds.iou(&other.bounds()) < tuning.close;
            if apart {
                return;
            }
            let slots = [slot as u32, second as u32];
            if let Some(rivals) = all.iter_mut().find(|r| slots.iter().all(|slot| r.slots.contains(slot))) {
                rivals.close = now;
            } else if all.len() < MOST {
                let (ids, exchanged) = ([track.id, other.id], [*track, *other]);
                all.push(Rivals { ids, slots, exchanged, lead: None, close: now });
            }
        });
    }
}

/// Tracks that have a rival, as they were predicted, before they took their detections.
#[derive(Debug, Default)]
pub struct Before {
    tracks: Vec<Track>,
    /// By slot: which of them, and [`NONE`].
    places: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Before {
    /// Copies the tracks of all pairs.
    pub fn keep(&mut self, all: &[Rivals], tracks: &[Track]) {
        self.tracks.clear();
        self.places.clear();
        self.places.resize(tracks.len(), NONE);
        for slot in all.iter().flat_map(|rivals| rivals.slots) {
            let place = &mut self.places[slot as usize];
            if *place == NONE {
                *place = self.tracks.len() as u32;
                self.tracks.push(tracks[slot as usize]);
            }
        }
    }

    fn get(&self, slot: usize) -> Option<&Track> {
        self.tracks.get(*self.places.get(slot)? as usize)
    }
}

/// What a step's association came to.
pub struct Outcome<'a> {
    /// The tracks as predicted.
    pub before: &'a Before,
    /// What each track took, and how far to doubt it; by slot.
    pub taken: &'a [Option<(Detection, f32)>],
    /// Usual seconds between two runs of the detector.
    pub step: f64,
}

/// Weighs both readings of every pair, and makes the likelier one the tracks'.
pub fn judge(all: &mut Vec<Rivals>, tracks: &mut [Track], outcome: &Outcome, tuning: &Tuning) {
    let mut stale: Vec<u64> = Vec::new();
    all.retain_mut(|rivals| {
        let [i, j] = rivals.slots.map(|slot| slot as usize);
        if rivals.ids.iter().any(|id| stale.contains(id)) {
            return false;
        }
        let (Some(a), Some(b)) = (outcome.before.get(i), outcome.before.get(j)) else { return true };
        let (at_a, at_b) = (outcome.taken[i].as_ref(), outcome.taken[j].as_ref());
        if at_a.is_none() && at_b.is_none() {
            return true;
        }
        let cost = |pair: [&Track; 2], first: Taken, second: Taken| {
            cost(pair[0], first, tuning) + cost(pair[1], second, tuning)
        };
        let lead = rivals.lead.unwrap_or(f32::NEG_INFINITY);
        let [c, d] = &mut rivals.exchanged;
        let kept = -cost([a, b], at_a, at_b);
        let back = lead - cost([c, d], at_a, at_b);
        let crossed = -cost([a, b], at_b, at_a) - tuning.exchange;
        let stayed = lead - cost([c, d], at_b, at_a);
        let take = |track: &mut Track, taken: Taken| take(track, taken, outcome.step, &tuning.noise);
        if back > kept {
            (tracks[i], tracks[j]) = (*c, *d);
            take(&mut tracks[i], at_a);
            take(&mut tracks[j], at_b);
        }
        if crossed >= stayed {
            (*c, *d) = (*a, *b);
        }
        take(c, at_b);
        take(d, at_a);
        let lead = crossed.max(stayed) - kept.max(back);
        rivals.lead = Some(lead);
        if lead > tuning.margin {
            // Slots keep their detections; who is in them changes.
            let [first, second] = &mut rivals.exchanged;
            std::mem::swap(&mut tracks[i], second);
            std::mem::swap(&mut tracks[j], first);
            rivals.exchanged.swap(0, 1);
            rivals.lead = Some(-lead);
            stale.extend(rivals.ids);
        }
        true
    });
}

type Taken<'a> = Option<&'a (Detection, f32)>;

/// How badly a detection fits a track, in nats. Nobody found costs the same under both readings.
fn cost(track: &Track, taken: Taken, tuning: &Tuning) -> f32 {
    taken.map_or(0.0, |(found, _)| surprise(track, found, tuning).min(tuning.absurd))
}

fn take(track: &mut Track, taken: Taken, step: f64, noise: &Noise) {
    if let Some((found, doubt)) = taken {
        track.update(found, *doubt, step, noise);
        track.phase = Phase::Live;
    }
}

#[cfg(test)]
mod tests {
    use super::{Before, Outcome, Rivals, judge, meet};
    use crate::nearby::Nearby;
    use crate::{Bounds, Detection, Lapse, Phase, Track, Tuning};

    const STEP: f64 = 0.04;

    /// Slots of the one who walks and the one who stands.
    const WALKS: usize = 0;
    const STANDS: usize = 1;

    fn found(x: f32) -> Detection {
        let bounds = Bounds::new(x, 100.0, 32.0, 100.0);
        Detection { model: 0, class: 0, kind: 0, score: 0.95, bounds }
    }

    fn met(all: &mut Vec<Rivals>, tracks: &[Track], now: f64, tuning: &Tuning) {
        let mut nearby = Nearby::default();
        nearby.fill(tracks.iter().map(|track| track.bounds().span(0.0)));
        meet(all, tracks, &nearby, now, tuning);
    }

    /// Two tracks, one of which passes the other at 80 pixels a second; while they are less than 20 pixels apart only
    /// the one who stands is found. `given` says to which slot that detection is given meanwhile; afterwards `given`'s
    /// slot keeps it and the other one gets the walker. Out: ids by slot in the end.
    fn ids_after(given: usize, tuning: &Tuning) -> [u64; 2] {
        let mut tracks = [found(200.0), found(300.0)].map(|d| Track::new(&d, 0.0, &tuning.noise)).to_vec();
        for (track, id) in tracks.iter_mut().zip([7, 8]) {
            (track.id, track.phase) = (id, Phase::Live);
        }
        let mut all: Vec<Rivals> = Vec::new();
        for frame in 1..60 {
            let now = f64::from(frame) * STEP;
            let away = 80.0 * (now as f32 - 1.25);
            let (walker, stander) = (found(300.0 + away), found(300.0));
            let mut lapse = Lapse::default();
            tracks.iter_mut().for_each(|track| track.predict(now, &mut lapse, &tuning.noise));
            met(&mut all, &tracks, now, tuning);
            let mut before = Before::default();
            before.keep(&all, &tracks);
            let mut taken = vec![None; 2];
            match away {
                a if a <= -20.0 => taken = vec![Some((walker, 1.0)), Some((stander, 1.0))],
                a if a < 20.0 => taken[given] = Some((stander, tuning.doubt)),
                _ => (taken[given], taken[1 - given]) = (Some((stander, 1.0)), Some((walker, 1.0))),
            }
            for (track, taken) in tracks.iter_mut().zip(&taken) {
                if let Some((found, doubt)) = taken {
                    track.update(found, *doubt, STEP, &tuning.noise);
                }
            }
            judge(&mut all, &mut tracks, &Outcome { before: &before, taken: &taken, step: STEP }, tuning);
        }
        [tracks[0].id, tracks[1].id]
    }

    #[test]
    fn who_walks_on_and_who_stands_still_is_told_afterwards() {
        let tuning = Tuning::default();
        assert_eq!(ids_after(STANDS, &tuning), [7, 8], "rightly given");
        // The walker's track took the one who stands: the ids change slots once the walker is seen to walk on.
        assert_eq!(ids_after(WALKS, &tuning), [8, 7], "wrongly given");
    }

    #[test]
    fn nothing_is_exchanged_where_nobody_asks_for_it() {
        let never = Tuning { margin: f32::INFINITY, ..Tuning::default() };
        assert_eq!(ids_after(WALKS, &never), [7, 8]);
    }

    #[test]
    fn those_who_have_parted_are_forgotten() {
        let tuning = Tuning::default();
        let mut tracks = [found(300.0), found(310.0)].map(|d| Track::new(&d, 0.0, &tuning.noise)).to_vec();
        for (track, id) in tracks.iter_mut().zip([7, 8]) {
            (track.id, track.phase) = (id, Phase::Live);
        }
        let mut all = Vec::new();
        met(&mut all, &tracks, 0.0, &tuning);
        assert_eq!(all.len(), 1);
        tracks[1] = Track { id: 8, phase: Phase::Live, ..Track::new(&found(500.0), 0.1, &tuning.noise) };
        met(&mut all, &tracks, 0.1, &tuning);
        assert_eq!(all.len(), 1, "they may come back");
        met(&mut all, &tracks, 0.2 + f64::from(tuning.parted), &tuning);
        assert!(all.is_empty());
    }
}
