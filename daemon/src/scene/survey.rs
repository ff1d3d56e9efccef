//! Looks at a whole finite scene in small, to know its fights' boxes and its crossings beforehand.
//!
//! In: planned places. Out: fights, crossings, how many were hidden too long. Nothing fails.

use std::collections::BTreeMap;

use super::camera::Camera;
use super::canvas::{Canvas, Paint, SCENERY};
use super::people::Place;
use super::truth::{Bounds, Crossing, FightTruth};
use crate::flow::{Rect, Size};

/// Seconds between two looks.
const STEP: f64 = 0.1;
/// Seconds that somebody must be seen for a crossing to be over.
const GLIMPSE: f64 = 0.4;
/// A crossing hides somebody more than half, at most so long.
pub const LONGEST: f64 = 2.0;

/// What a survey found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Fights.
    pub fights: Vec<FightTruth>,
    /// Crossings.
    pub crossings: Vec<Crossing>,
    /// How often somebody was hidden for longer.
    pub long_hidden: u32,
}

/// Looks at the places from their begin to their end (all finite).
#[must_use]
pub fn survey(places: &[Place]) -> Survey {
    let mut found = Survey::default();
    for place in places {
        one(place, &mut found);
    }
    found.crossings.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    found.fights.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    found
}

fn one(place: &Place, found: &mut Survey) {
    let full = place.camera.size;
    let shrink = (128.0 / full.height as f32).min(1.0);
    let size = Size::new((full.width as f32 * shrink) as u32, (full.height as f32 * shrink) as u32);
    let camera = Camera {
        size,
        focal: place.camera.focal * shrink,
        horizon: place.camera.horizon * shrink,
        ..place.camera
    };
    let mut canvas = Canvas::new(size);
    let mut fights: BTreeMap<u64, (Option<Rect>, &super::actor::Fight)> =
        place.director.fights.iter().map(|(k, f)| (*k, (None, f))).collect();
    let mut hidden: BTreeMap<u64, (f64, f64, f32)> = BTreeMap::new();
    let wood = Paint::plain([90.0, 128.0, 128.0]);
    let steps = ((place.end - place.begin) / STEP) as u64;
    for step in 0..steps {
        let t = place.begin + step as f64 * STEP;
        canvas.forget();
        let obstacle = |canvas: &mut Canvas, o: &super::director::Obstacle| {
            let (x, foot, s) = camera.project([o.at.0, 0.0, o.at.1]);
            let rect = Rect::new(x - o.radius * s, foot - o.height * s, 2.0 * o.radius * s, o.height * s);
            canvas.post(rect, &wood, false, SCENERY);
        };
        let people = place.draw(&mut canvas, &camera, t, &obstacle, false);
        for person in &people {
            let b = person.bounds;
            let rect = Rect::from(b);
            for (region, fight) in fights.values_mut() {
                if (fight.begin..fight.end).contains(&t) && fight.ids.contains(&person.id) {
                    *region = Some(region.map_or(rect, |r| r.union(&rect)));
                }
            }
            // At the picture's edge the rest of the figure is outside, not hidden behind somebody.
            let inside = b[0] > 0.0 && b[0] + b[2] < size.width as f32;
            if person.visible < 0.5 && inside {
                let entry = hidden.entry(person.id).or_insert((t, t, 1.0));
                entry.1 = t + STEP;
                entry.2 = entry.2.min(person.visible);
            }
        }
        hidden.retain(|id, (begin, end, least)| {
            // A short glimpse between two legs or two people does not end it.
            if *end + GLIMPSE > t {
                return true;
            }
            close(found, *id, *begin, *end, *least);
            false
        });
    }
    for (id, (begin, end, least)) in hidden {
        close(found, id, begin, end, least);
    }
    for (region, fight) in fights.into_values() {
        let r = region.unwrap_or_default();
        let r = Rect::new(r.x / shrink, r.y / shrink, r.width / shrink, r.height / shrink);
        found.fights.push(FightTruth {
            begin: fight.begin,
            end: fight.end,
            ids: fight.ids.clone(),
            bounds: Bounds::from(r.intersect(&Rect::of_size(full))),
        });
    }
}

fn close(found: &mut Survey, id: u64, begin: f64, end: f64, least: f32) {
    if end - begin <= LONGEST {
        found.crossings.push(Crossing { id, begin, end, least });
    } else {
        found.long_hidden += 1;
    }
}
