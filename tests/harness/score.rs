//! Scores what the daemon said about a rendered scene against what is true of it.
//!
//! In: `truth.jsonl`; tracks, alerts and views as they came over MQTT, on the scene's own clock (see [`align`]).
//! Out: IDF1, MOTA and identity switches; alerts on time, late, missed, doubled, false; framing. Owned by the
//! scenarios. A truth file that cannot be read is a panic that names it: scoring is for tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;

use watchpost::flow::Rect;
use watchpost::scene::{FrameTruth, SceneTruth};

use crate::assign::assign;

/// Least overlap at which a track is on a person.
pub const LEAST_IOU: f32 = 0.5;
/// People less visible than this are neither required nor counted false, as in MOTChallenge.
pub const LEAST_VISIBLE: f32 = 0.25;
/// An alert must begin so many seconds after its fight at most.
pub const ALERT_WITHIN: f64 = 2.0;
/// Share of a subject's box that must lie inside the view.
const INSIDE: f32 = 0.95;

/// What is true of a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The header.
    pub scene: SceneTruth,
    /// Every frame, in order.
    pub frames: Vec<FrameTruth>,
}

impl Truth {
    /// Reads `truth.jsonl`.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut lines = BufReader::new(file).lines().map(|line| line.unwrap());
        let header = lines.next().unwrap_or_else(|| panic!("{}: empty", path.display()));
        let wrong = |e: serde_json::Error| -> ! { panic!("{}: {e}", path.display()) };
        Self {
            scene: serde_json::from_str(&header).unwrap_or_else(|e| wrong(e)),
            frames: lines.map(|l| serde_json::from_str(&l).unwrap_or_else(|e| wrong(e))).collect(),
        }
    }
}

/// The tracks that were reported for one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Stream time, nanoseconds.
    pub pts: u64,
    /// Track id and box of each person.
    pub tracks: Vec<(u64, Rect)>,
}

/// How well identities were kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackScore {
    /// IDF1 of Ristani et al. 2016 ("Performance measures and a data set for multi-target, multi-camera
    /// tracking"): twice the boxes with the right identity over all true and all reported boxes, under the
    /// one-to-one mapping of identities that makes it greatest.
    pub idf1: f64,
    /// MOTA of Bernardin and Stiefelhagen 2008: 1 - (misses + false + switches) / true boxes.
    pub mota: f64,
    /// Identity switches.
    pub switches: usize,
    /// True boxes without a track.
    pub misses: usize,
    /// Tracks on nobody.
    pub false_boxes: usize,
    /// True boxes that count.
    pub boxes: usize,
    /// Reported boxes that count.
    pub reported: usize,
    /// Frames for which nothing was reported; their boxes count as missed.
    pub silent: usize,
}

/// One frame after the ignored people, and the tracks on them, are taken out.
struct Scored {
    people: Vec<(u64, Rect)>,
    tracks: Vec<(u64, Rect)>,
}

fn overlaps(a: &[(u64, Rect)], b: &[(u64, Rect)]) -> Vec<Vec<f64>> {
    let gain = |x: &Rect, y: &Rect| {
        let iou = x.iou(y);
        if iou >= LEAST_IOU { f64::from(iou) } else { 0.0 }
    };
    a.iter().map(|(_, x)| b.iter().map(|(_, y)| gain(x, y)).collect()).collect()
}

fn prepare(frame: &FrameTruth, tracks: &[(u64, Rect)]) -> Scored {
    let all: Vec<(u64, Rect)> = frame.people.iter().map(|p| (p.id, Rect::from(p.bounds))).collect();
    let ignored = |i: usize| frame.people[i].visible < LEAST_VISIBLE;
    let excused: BTreeSet<usize> =
        assign(&overlaps(&all, tracks)).into_iter().filter(|(i, _)| ignored(*i)).map(|(_, j)| j).collect();
    Scored {
        people: all.iter().enumerate().filter(|(i, _)| !ignored(*i)).map(|(_, p)| *p).collect(),
        tracks: tracks.iter().enumerate().filter(|(j, _)| !excused.contains(j)).map(|(_, t)| *t).collect(),
    }
}

/// Scores tracks. `seen` frames are taken for the true frame nearest in time, half a frame off at most.
#[must_use]
pub fn tracks(truth: &Truth, seen: &[Seen]) -> TrackScore {
    let found = nearest(truth, seen, 0);
    let mut silent = 0;
    let frames: Vec<Scored> = truth
        .frames
        .iter()
        .enumerate()
        .map(|(i, frame)| {
            silent += usize::from(!found.contains_key(&i));
            prepare(frame, found.get(&i).map_or(&[], |s| &s.tracks))
        })
        .collect();
    let boxes: usize = frames.iter().map(|f| f.people.len()).sum();
    let reported: usize = frames.iter().map(|f| f.tracks.len()).sum();
    let right = identified(&frames);
    let (mut misses, mut false_boxes, mut switches) = (0, 0, 0);
    let mut last: HashMap<u64, u64> = HashMap::new();
    for frame in &frames {
        let gains = overlaps(&frame.people, &frame.tracks);
        // Correspondences that still hold are kept; only the others are assigned anew.
        let held = |i: usize, j: usize| last.get(&frame.people[i].0) == Some(&frame.tracks[j].0);
        let sticky: Vec<Vec<f64>> = gains
            .iter()
            .enumerate()
            .map(|(i, row)| {
                let keep = |(j, g): (usize, &f64)| if *g > 0.0 && held(i, j) { 1000.0 + g } else { *g };
                row.iter().enumerate().map(keep).collect()
            })
            .collect();
        let pairs = assign(&sticky);
        misses += frame.people.len() - pairs.len();
        false_boxes += frame.tracks.len() - pairs.len();
        for (i, j) in pairs {
            let (person, track) = (frame.people[i].0, frame.tracks[j].0);
            switches += usize::from(last.insert(person, track).is_some_and(|before| before != track));
        }
    }
    let share = |a: f64, b: f64| if b > 0.0 { a / b } else { 1.0 };
    TrackScore {
        idf1: share(2.0 * right as f64, (boxes + reported) as f64),
        mota: 1.0 - share((misses + false_boxes + switches) as f64, boxes.max(1) as f64),
        switches,
        misses,
        false_boxes,
        boxes,
        reported,
        silent,
    }
}

/// Boxes with the right identity under the best mapping of true to reported identities.
fn identified(frames: &[Scored]) -> usize {
    let mut counts: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for frame in frames {
        for (person, a) in &frame.people {
            for (track, b) in &frame.tracks {
                if a.iou(b) >= LEAST_IOU {
                    *counts.entry((*person, *track)).or_default() += 1;
                }
            }
        }
    }
    let people: Vec<u64> = counts.keys().map(|k| k.0).collect::<BTreeSet<_>>().into_iter().collect();
    let ids: Vec<u64> = counts.keys().map(|k| k.1).collect::<BTreeSet<_>>().into_iter().collect();
    let together = |p: &u64, t: &u64| counts.get(&(*p, *t)).copied().unwrap_or(0);
    let gains: Vec<Vec<f64>> =
        people.iter().map(|p| ids.iter().map(|t| together(p, t) as f64).collect()).collect();
    assign(&gains).into_iter().map(|(i, j)| together(&people[i], &ids[j])).sum()
}

/// Reported frames by the index of the true frame that each belongs to, `shift` nanoseconds later in the scene.
fn nearest<'a>(truth: &Truth, seen: &'a [Seen], shift: i64) -> HashMap<usize, &'a Seen> {
    let half = (0.5e9 / truth.scene.fps) as u64;
    let mut found = HashMap::new();
    for frame in seen {
        let Some(pts) = frame.pts.checked_add_signed(shift) else { continue };
        let after = truth.frames.partition_point(|f| f.pts < pts);
        let candidates = after.saturating_sub(1)..(after + 1).min(truth.frames.len());
        let best = candidates.min_by_key(|i| truth.frames[*i].pts.abs_diff(pts));
        if let Some(best) = best.filter(|i| truth.frames[*i].pts.abs_diff(pts) <= half) {
            found.insert(best, frame);
        }
    }
    found
}

/// How much later in the scene a live stream began than its own clock says, nanoseconds: the whole number of
/// frames, up to `longest` seconds either way, under which most reported boxes lie on people.
#[must_use]
pub fn align(truth: &Truth, seen: &[Seen], longest: f64) -> i64 {
    let frame = (1e9 / truth.scene.fps) as i64;
    let steps = (longest * truth.scene.fps) as i64;
    let hits = |shift: i64| -> usize {
        let on =
            |person: &[f32; 4], seen: &Seen| seen.tracks.iter().any(|t| t.1.iou(&Rect::from(*person)) >= 0.7);
        nearest(truth, seen, shift)
            .iter()
            .map(|(i, seen)| truth.frames[*i].people.iter().filter(|p| on(&p.bounds, seen)).count())
            .sum()
    };
    (-steps..=steps).map(|k| k * frame).max_by_key(|shift| (hits(*shift), -shift.abs())).unwrap_or(0)
}

/// An incident that was reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alert {
    /// When it was said to begin, seconds of stream time.
    pub begin: f64,
}

/// How well fights were reported.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AlertScore {
    /// Fights with one alert in time.
    pub on_time: usize,
    /// Fights whose first alert came too late.
    pub late: usize,
    /// Fights without an alert.
    pub missed: usize,
    /// Further alerts for a fight that has one.
    pub doubled: usize,
    /// Alerts where there is no fight.
    pub false_alerts: usize,
    /// Seconds from begin of fight to its first alert, of those that have one.
    pub delays: Vec<f64>,
}

impl AlertScore {
    /// One alert for each fight, in time, and none elsewhere.
    #[must_use]
    pub fn perfect(&self) -> bool {
        self.late + self.missed + self.doubled + self.false_alerts == 0
    }
}

/// Matches alerts to fights: an alert belongs to the fight during which it begins.
#[must_use]
pub fn alerts(truth: &Truth, alerts: &[Alert]) -> AlertScore {
    let mut score = AlertScore::default();
    let mut rest: Vec<f64> = alerts.iter().map(|a| a.begin).collect();
    rest.sort_by(f64::total_cmp);
    for fight in &truth.scene.fights {
        let (mine, others): (Vec<f64>, Vec<f64>) =
            rest.iter().partition(|b| (fight.begin..=fight.end).contains(*b));
        rest = others;
        match mine.first() {
            None => score.missed += 1,
            Some(first) => {
                let delay = first - fight.begin;
                score.delays.push(delay);
                score.doubled += mine.len() - 1;
                if delay <= ALERT_WITHIN { score.on_time += 1 } else { score.late += 1 }
            }
        }
    }
    score.false_alerts = rest.len();
    score
}

/// Whom a virtual camera follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Everybody who is visible.
    Group,
    /// One person.
    Person(u64),
    /// The ball.
    Ball,
}

/// The box of a subject in a frame; `None` where it cannot be seen.
#[must_use]
pub fn subject(frame: &FrameTruth, subject: Subject) -> Option<Rect> {
    match subject {
        Subject::Ball => {
            frame.ball.as_ref().filter(|b| b.visible >= LEAST_VISIBLE).map(|b| Rect::from(b.bounds))
        }
        Subject::Person(id) => frame
            .people
            .iter()
            .find(|p| p.id == id && p.visible >= LEAST_VISIBLE)
            .map(|p| Rect::from(p.bounds)),
        Subject::Group => {
            let visible = frame.people.iter().filter(|p| p.visible >= LEAST_VISIBLE);
            visible.map(|p| Rect::from(p.bounds)).reduce(|a, b| a.union(&b))
        }
    }
}

/// Share of the frames with a visible subject in which it lies inside the view: 95 % of its box at least.
/// `views` are (pts in nanoseconds, view); a frame without one has the last one before it.
#[must_use]
pub fn framing(truth: &Truth, views: &[(u64, Rect)], followed: Subject) -> f64 {
    let (mut all, mut inside) = (0_usize, 0_usize);
    for frame in &truth.frames {
        let Some(target) = subject(frame, followed) else { continue };
        all += 1;
        let at = views.partition_point(|v| v.0 <= frame.pts);
        let view = at.checked_sub(1).map(|i| views[i].1);
        let seen = view.map_or(0.0, |v| v.intersect(&target).area());
        inside += usize::from(seen >= INSIDE * target.area());
    }
    if all > 0 { inside as f64 / all as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost::scene::{Action, BallTruth, FightTruth, PersonTruth, SCHEMA};

    const STEP: u64 = 40_000_000;

    fn truth(frames: Vec<Vec<(u64, [f32; 4], f32)>>) -> Truth {
        let person = |(id, bounds, visible)| PersonTruth { id, bounds, visible, action: Action::Walk };
        let frame = |(i, people): (usize, Vec<_>)| FrameTruth {
            index: i as u64,
            pts: i as u64 * STEP,
            people: people.into_iter().map(person).collect(),
            ball: None,
        };
        Truth {
            scene: SceneTruth {
                schema: SCHEMA.into(),
                spec: String::new(),
                width: 100,
                height: 100,
                fps: 25.0,
                fights: Vec::new(),
                crossings: Vec::new(),
                long_hidden: 0,
                cuts: Vec::new(),
            },
            frames: frames.into_iter().enumerate().map(frame).collect(),
        }
    }

    fn seen(i: u64, tracks: &[(u64, [f32; 4])]) -> Seen {
        Seen { pts: i * STEP, tracks: tracks.iter().map(|(id, b)| (*id, Rect::from(*b))).collect() }
    }

    const A: [f32; 4] = [0.0, 0.0, 10.0, 20.0];
    const B: [f32; 4] = [50.0, 0.0, 10.0, 20.0];

    #[test]
    fn right_tracks_score_one() {
        let t = truth(vec![vec![(1, A, 1.0), (2, B, 1.0)]; 4]);
        let s: Vec<Seen> = (0..4).map(|i| seen(i, &[(7, A), (9, B)])).collect();
        let score = tracks(&t, &s);
        assert_eq!((score.idf1, score.mota, score.switches, score.boxes), (1.0, 1.0, 0, 8));
    }

    #[test]
    fn swapped_identities_halve_idf1_and_count_as_two_switches() {
        let t = truth(vec![vec![(1, A, 1.0), (2, B, 1.0)]; 4]);
        let s: Vec<Seen> = (0..4)
            .map(|i| if i < 2 { seen(i, &[(7, A), (9, B)]) } else { seen(i, &[(9, A), (7, B)]) })
            .collect();
        let score = tracks(&t, &s);
        assert_eq!((score.idf1, score.switches, score.misses, score.false_boxes), (0.5, 2, 0, 0));
        assert_eq!(score.mota, 0.75);
    }

    #[test]
    fn a_broken_track_keeps_its_longer_part() {
        // 3 frames under one id, 1 under another: 2 * 3 / (4 + 4).
        let t = truth(vec![vec![(1, A, 1.0)]; 4]);
        let s: Vec<Seen> = (0..4).map(|i| seen(i, &[(if i < 3 { 7 } else { 8 }, A)])).collect();
        assert_eq!(tracks(&t, &s).idf1, 0.75);
    }

    #[test]
    fn hidden_people_are_neither_required_nor_false() {
        let t = truth(vec![vec![(1, A, 0.1)], vec![(1, A, 0.1)], vec![(1, A, 1.0)]]);
        let with = [seen(0, &[(7, A)]), seen(1, &[]), seen(2, &[(7, A)])];
        let score = tracks(&t, &with);
        assert_eq!((score.idf1, score.mota, score.boxes, score.false_boxes), (1.0, 1.0, 1, 0));
    }

    #[test]
    fn ghosts_misses_and_silence_count() {
        let t = truth(vec![vec![(1, A, 1.0)]; 3]);
        let score = tracks(&t, &[seen(0, &[(7, B)]), seen(1, &[(7, A)])]);
        assert_eq!((score.misses, score.false_boxes, score.silent), (2, 1, 1));
        assert_eq!(score.idf1, 2.0 / 5.0);
        assert_eq!(score.mota, 0.0);
    }

    #[test]
    fn a_late_stream_is_aligned() {
        let moving = |i: usize| [3.0 * i as f32, 0.0, 10.0, 20.0];
        let t = truth((0..40).map(|i| vec![(1, moving(i), 1.0)]).collect());
        let s: Vec<Seen> = (0..30).map(|i| seen(i, &[(7, moving(i as usize + 5))])).collect();
        assert_eq!(align(&t, &s, 1.0), 5 * STEP as i64);
    }

    #[test]
    fn alerts_are_matched_to_fights() {
        let mut t = truth(Vec::new());
        let fight = |begin, end| FightTruth { begin, end, ids: vec![1, 2], bounds: A };
        t.scene.fights = vec![fight(10.0, 20.0), fight(30.0, 38.0), fight(50.0, 55.0)];
        let at = |times: &[f64]| times.iter().map(|begin| Alert { begin: *begin }).collect::<Vec<_>>();
        let good = alerts(&t, &at(&[11.2, 30.9, 51.0]));
        assert!(good.perfect());
        assert_eq!(good.on_time, 3);
        let bad = alerts(&t, &at(&[9.0, 13.0, 14.0, 31.0, 39.0]));
        assert_eq!((bad.on_time, bad.late, bad.missed, bad.doubled, bad.false_alerts), (1, 1, 1, 1, 2));
        assert!(!bad.perfect());
    }

    #[test]
    fn framing_counts_frames_with_the_subject_in_view() {
        let mut t = truth(vec![vec![(1, A, 1.0), (2, B, 1.0)]; 4]);
        let all = (0, Rect::new(0.0, 0.0, 100.0, 56.0));
        let left = (2 * STEP, Rect::new(0.0, 0.0, 40.0, 22.0));
        assert_eq!(framing(&t, &[all, left], Subject::Group), 0.5);
        assert_eq!(framing(&t, &[all, left], Subject::Person(1)), 1.0);
        assert_eq!(framing(&t, &[left], Subject::Person(1)), 0.5);
        t.frames[3].ball = Some(BallTruth { bounds: B, visible: 1.0 });
        assert_eq!(framing(&t, &[all, left], Subject::Ball), 0.0);
    }
}
