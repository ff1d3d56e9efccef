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

use crate::bounds::most;
use crate::{Bounds, Detection, Noise, Phase, Track, Tuning, associate::surprise};

/// Two tracks that met, and how things look if they were exchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rivals {
    /// Ids of the two.
    pub ids: [u64; 2],
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
pub fn meet(all: &mut Vec<Rivals>, tracks: &[Track], now: f64, tuning: &Tuning) {
    let known = |id: u64| tracks.iter().any(|t| t.id == id && t.phase != Phase::Tentative);
    all.retain(|r| r.ids.into_iter().all(known) && now - r.close <= f64::from(tuning.parted));
    for rivals in all.iter_mut() {
        rivals.exchanged.iter_mut().for_each(|track| track.predict(now, &tuning.noise));
    }
    let believed: Vec<(&Track, Bounds)> =
        tracks.iter().filter(|t| t.phase != Phase::Tentative).map(|t| (t, t.bounds())).collect();
    for (i, (a, at_a)) in believed.iter().enumerate() {
        for (b, at_b) in &believed[i + 1..] {
            // Most are far from each other: the cheapest question first.
            if (at_a.cx() - at_b.cx()).abs() > most(at_a.w, at_b.w) || a.kind != b.kind {
                continue;
            }
            if at_a.iou(at_b) < tuning.close {
                continue;
            }
            if let Some(rivals) = all.iter_mut().find(|r| r.ids.contains(&a.id) && r.ids.contains(&b.id)) {
                rivals.close = now;
            } else if all.len() < MOST {
                let exchanged = [(*a).clone(), (*b).clone()];
                all.push(Rivals { ids: [a.id, b.id], exchanged, lead: None, close: now });
            }
        }
    }
}

/// What a step's association came to.
pub struct Outcome<'a> {
    /// The tracks as predicted, before they took their detections; by slot.
    pub before: &'a [Option<Track>],
    /// What each track took, and how far to doubt it; by slot.
    pub taken: &'a [Option<(Detection, f32)>],
    /// Usual seconds between two runs of the detector.
    pub step: f64,
}

/// Weighs both readings of every pair, and makes the likelier one the tracks'.
pub fn judge(all: &mut Vec<Rivals>, tracks: &mut [Track], outcome: &Outcome, tuning: &Tuning) {
    let mut stale: Vec<u64> = Vec::new();
    all.retain_mut(|rivals| {
        let slot = |id: u64| tracks.iter().position(|t| t.id == id);
        let (Some(i), Some(j)) = (slot(rivals.ids[0]), slot(rivals.ids[1])) else { return false };
        if rivals.ids.iter().any(|id| stale.contains(id)) {
            return false;
        }
        let (Some(a), Some(b)) = (&outcome.before[i], &outcome.before[j]) else { return true };
        let (at_a, at_b) = (outcome.taken[i].as_ref(), outcome.taken[j].as_ref());
        if at_a.is_none() && at_b.is_none() {
            return true;
        }
        let cost = |pair: [&Track; 2], first: Taken, second: Taken| {
            cost(pair[0], first, tuning) + cost(pair[1], second, tuning)
        };
        let lead = rivals.lead.unwrap_or(f32::NEG_INFINITY);
        let [c, d] = &rivals.exchanged;
        let kept = -cost([a, b], at_a, at_b);
        let back = lead - cost([c, d], at_a, at_b);
        let crossed = -cost([a, b], at_b, at_a) - tuning.exchange;
        let stayed = lead - cost([c, d], at_b, at_a);
        let from = |old: [&Track; 2], first: Taken, second: Taken| {
            let take = |track: &Track, taken: Taken| take(track, taken, outcome.step, &tuning.noise);
            [take(old[0], first), take(old[1], second)]
        };
        let exchanged = from(if crossed >= stayed { [a, b] } else { [c, d] }, at_b, at_a);
        if back > kept {
            [tracks[i], tracks[j]] = from([c, d], at_a, at_b);
        }
        rivals.exchanged = exchanged;
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

fn take(track: &Track, taken: Taken, step: f64, noise: &Noise) -> Track {
    let mut track = track.clone();
    if let Some((found, doubt)) = taken {
        track.update(found, *doubt, step, noise);
        track.phase = Phase::Live;
    }
    track
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Rivals, judge, meet};
    use crate::{Bounds, Detection, Phase, Track, Tuning};

    const STEP: f64 = 0.04;

    /// Slots of the one who walks and the one who stands.
    const WALKS: usize = 0;
    const STANDS: usize = 1;

    fn found(x: f32) -> Detection {
        let bounds = Bounds::new(x, 100.0, 32.0, 100.0);
        Detection { model: 0, class: 0, kind: 0, score: 0.95, bounds }
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
            tracks.iter_mut().for_each(|track| track.predict(now, &tuning.noise));
            meet(&mut all, &tracks, now, tuning);
            let before: Vec<Option<Track>> = tracks.iter().cloned().map(Some).collect();
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
        meet(&mut all, &tracks, 0.0, &tuning);
        assert_eq!(all.len(), 1);
        tracks[1] = Track { id: 8, phase: Phase::Live, ..Track::new(&found(500.0), 0.1, &tuning.noise) };
        meet(&mut all, &tracks, 0.1, &tuning);
        assert_eq!(all.len(), 1, "they may come back");
        meet(&mut all, &tracks, 0.2 + f64::from(tuning.parted), &tuning);
        assert!(all.is_empty());
    }
}
