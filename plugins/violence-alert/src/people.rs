//! Who is involved: tracked people near each other who move the most against each other.
//!
//! In: the people of each frame with their tracks. Out: for a span of time, the tracks that take part and
//! the region around them. Keeps a short history a track; serialisable. Nothing here fails.
//!
//! People who fight are close, and their boxes jump and change shape; people who walk together are close
//! and their boxes move alike. So a pair is ranked by closeness times the agitation of both, where
//! agitation is what is left of the movement of a box's edges after a straight line is taken away.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use watchpost_plugin::Rect;

/// A tracked person in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Person {
    /// Track id, not 0.
    pub track: u64,
    /// Where.
    pub bounds: Rect,
}

/// Who takes part, and where.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Involved {
    /// Their tracks, sorted.
    pub tracks: Vec<u64>,
    /// A box around them with a little room; `None` where nobody was seen.
    pub region: Option<Rect>,
}

/// Seconds of history a person is remembered for.
const MEMORY: f64 = 4.0;
/// Most people remembered.
const MOST: usize = 256;
/// Gap in heights beyond which two people have nothing to do with each other.
const NEAR: f32 = 0.6;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct History {
    track: u64,
    seen: VecDeque<(f64, Rect)>,
}

/// The people of the last seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct People {
    histories: Vec<History>,
}

impl People {
    /// Takes in the people of a frame at `now` seconds, and forgets those not seen for a while.
    pub fn see(&mut self, now: f64, people: &[Person]) {
        for person in people.iter().filter(|person| person.track != 0) {
            let index = self.histories.iter().position(|history| history.track == person.track);
            let index = index.or_else(|| {
                (self.histories.len() < MOST).then(|| {
                    self.histories.push(History { track: person.track, seen: VecDeque::new() });
                    self.histories.len() - 1
                })
            });
            if let Some(index) = index {
                self.histories[index].seen.push_back((now, person.bounds));
            }
        }
        for history in &mut self.histories {
            while history.seen.front().is_some_and(|(at, _)| now - at > MEMORY || *at > now) {
                history.seen.pop_front();
            }
        }
        self.histories.retain(|history| !history.seen.is_empty());
    }

    /// Forgets everybody.
    pub fn clear(&mut self) {
        self.histories.clear();
    }

    /// Who takes part in what happened from `begin` to `end` seconds, within `region` where one is given.
    #[must_use]
    pub fn involved(&self, begin: f64, end: f64, region: Option<&Rect>) -> Involved {
        let seen: Vec<Seen> =
            self.histories.iter().filter_map(|history| Seen::of(history, begin, end, region)).collect();
        let mut best: Option<(f32, usize, usize)> = None;
        for (i, a) in seen.iter().enumerate() {
            for (j, b) in seen.iter().enumerate().skip(i + 1) {
                let gap = a.gap(b);
                if gap > NEAR {
                    continue;
                }
                let rank = (1.0 - 0.7 * gap / NEAR) * (a.agitation + b.agitation + 0.02);
                if best.is_none_or(|(top, ..)| rank > top) {
                    best = Some((rank, i, j));
                }
            }
        }
        let Some((_, first, second)) = best else { return Involved::default() };
        let least = 0.4 * seen[first].agitation.min(seen[second].agitation);
        let mut members = vec![first, second];
        let mut next = 0;
        while next < members.len() {
            for (index, other) in seen.iter().enumerate() {
                let joins = other.agitation >= least.max(0.02) && seen[members[next]].gap(other) < 0.5 * NEAR;
                if joins && !members.contains(&index) {
                    members.push(index);
                }
            }
            next += 1;
        }
        let around = members.iter().map(|i| seen[*i].last).reduce(|a, b| a.union(&b));
        let mut tracks: Vec<u64> = members.iter().map(|i| seen[*i].track).collect();
        tracks.sort_unstable();
        let region = around
            .map(|b| Rect::new(b.x - 0.1 * b.width, b.y - 0.1 * b.height, 1.2 * b.width, 1.2 * b.height));
        Involved { tracks, region }
    }
}

/// A person within a span of time.
struct Seen {
    track: u64,
    /// Where at the end of the span.
    last: Rect,
    /// Mean box over the second half of the span, for closeness that one bad frame doesn't undo.
    mean: Rect,
    /// Unrest, heights per frame-to-frame step of 0.1 s.
    agitation: f32,
}

impl Seen {
    fn of(history: &History, begin: f64, end: f64, region: Option<&Rect>) -> Option<Self> {
        let within: Vec<(f64, Rect)> =
            history.seen.iter().filter(|(at, _)| *at >= begin && *at <= end).copied().collect();
        // A late score may span a time that this person's history no longer or not yet covers.
        let within =
            if within.is_empty() { history.seen.iter().rev().take(1).copied().collect() } else { within };
        let last = within.last()?.1;
        if region.is_some_and(|region| region.intersect(&last).area() < 0.3 * last.area()) {
            return None;
        }
        let half = &within[within.len() / 2..];
        let share = 1.0 / half.len() as f32;
        let mut mean = Rect::default();
        for (_, b) in half {
            mean.x += b.x * share;
            mean.y += b.y * share;
            mean.width += b.width * share;
            mean.height += b.height * share;
        }
        Some(Self { track: history.track, last, mean, agitation: agitation(&within) })
    }

    fn gap(&self, other: &Self) -> f32 {
        gap(&self.mean, &other.mean).min(gap(&self.last, &other.last))
    }
}

/// Empty space between two people, in multiples of their mean height, so that it means the same near the camera
/// and far away; 0 where their boxes touch.
fn gap(a: &Rect, b: &Rect) -> f32 {
    a.gap(b) / (0.5 * (a.height + b.height)).max(1.0)
}

/// Root mean square distance of a box's edges from straight lines fitted to each, in heights.
fn agitation(seen: &[(f64, Rect)]) -> f32 {
    if seen.len() < 4 {
        return 0.0;
    }
    let height = seen.iter().map(|(_, b)| b.height).sum::<f32>() / seen.len() as f32;
    let edges: [fn(&Rect) -> f32; 4] = [|b| b.x, Rect::right, |b| b.y, Rect::bottom];
    let mut sum = 0.0;
    for edge in edges {
        sum += residual(seen, edge);
    }
    (sum / 4.0).sqrt() / height.max(1.0)
}

/// Mean squared distance from the best straight line through time.
fn residual(seen: &[(f64, Rect)], value: fn(&Rect) -> f32) -> f32 {
    let n = seen.len() as f64;
    let (mut st, mut sv) = (0.0, 0.0);
    for (at, b) in seen {
        st += at - seen[0].0;
        sv += f64::from(value(b));
    }
    let (mt, mv) = (st / n, sv / n);
    let (mut tt, mut tv, mut vv) = (0.0, 0.0, 0.0);
    for (at, b) in seen {
        let (t, v) = (at - seen[0].0 - mt, f64::from(value(b)) - mv);
        tt += t * t;
        tv += t * v;
        vv += v * v;
    }
    let explained = if tt > 0.0 { tv * tv / tt } else { 0.0 };
    ((vv - explained) / n).max(0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost_plugin::testing::Rng;

    /// Two who fight, two who walk side by side close by, one far away who jitters alone.
    fn crowd(seed: u64, seconds: f64) -> People {
        let mut rng = Rng::new(seed);
        let mut people = People::default();
        for frame in 0..(seconds * 25.0) as usize {
            let now = frame as f64 / 25.0;
            let t = now as f32;
            let mut wild = |x: f32| {
                Rect::new(
                    x + 12.0 * rng.normal() * 0.5,
                    100.0 + 2.0 * rng.normal(),
                    40.0 + 8.0 * rng.normal() * 0.5,
                    100.0,
                )
            };
            let fighters = [wild(300.0), wild(335.0)];
            let alone = wild(560.0);
            let mut calm = |x: f32| Rect::new(x + 40.0 * t + rng.normal(), 110.0 + rng.normal(), 40.0, 100.0);
            let walkers = [calm(50.0), calm(85.0)];
            let person = |track, bounds| Person { track, bounds };
            people.see(
                now,
                &[
                    person(11, walkers[0]),
                    person(3, fighters[0]),
                    person(12, walkers[1]),
                    person(4, fighters[1]),
                    person(20, alone),
                ],
            );
        }
        people
    }

    #[test]
    fn those_who_fight_and_not_those_who_walk_together() {
        for seed in 0..20 {
            let involved = crowd(seed, 3.0).involved(1.0, 3.0, None);
            assert_eq!(involved.tracks, [3, 4], "seed {seed}");
            let region = involved.region.unwrap();
            assert!(region.x > 200.0 && region.right() < 500.0, "{region:?}");
        }
    }

    #[test]
    fn only_within_the_region_of_the_score() {
        let region = Rect::new(0.0, 0.0, 290.0, 400.0);
        let involved = crowd(5, 3.0).involved(1.0, 3.0, Some(&region));
        assert_eq!(involved.tracks, [11, 12]);
    }

    #[test]
    fn nobody_is_involved_alone_and_history_is_bounded() {
        let mut people = People::default();
        for frame in 0..3000 {
            let one = Person { track: 1 + frame / 100, bounds: Rect::new(10.0, 10.0, 20.0, 50.0) };
            people.see(frame as f64 * 0.04, &[one]);
        }
        assert!(people.histories.len() <= 2 && people.histories[0].seen.len() <= 101);
        assert_eq!(people.involved(100.0, 120.0, None).tracks.len(), 2, "the last two overlap in time");
        people.clear();
        assert_eq!(people.involved(100.0, 120.0, None), Involved::default());
    }
}
