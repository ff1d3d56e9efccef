//! The scene "people": places that a cut may change, each with its camera, its background and its people.
//!
//! In: a spec. Out: who is on stage at any time, and what is true of the whole scene. Owned by [`super::Scene`].
//! Nothing fails: a plan that lacks the fights or crossings that were promised is made anew from a further seed.

use std::collections::VecDeque;

use super::SceneSpec;
use super::actor::distance;
use super::camera::Camera;
use super::canvas::{Canvas, SCENERY, colorimetry};
use super::director::{Director, Obstacle};
use super::figure::{self, Look};
use super::pose::{Skeleton, skeleton};
use super::rng::{Rng, combine};
use super::truth::{Action, Bounds, PersonTruth};
use crate::flow::Size;

/// One place, as long as the camera is there.
#[derive(Debug, Clone)]
pub struct Place {
    /// Seed of its looks.
    pub seed: u64,
    /// From, seconds.
    pub begin: f64,
    /// To, seconds; infinite where endless.
    pub end: f64,
    /// Camera.
    pub camera: Camera,
    /// What stands around.
    pub obstacles: Vec<Obstacle>,
    /// Its people.
    pub director: Director,
    fights_a_minute: Option<u32>,
    minutes: u32,
}

/// Somebody on stage.
pub struct Actor<'a> {
    /// Identity.
    pub id: u64,
    /// Depth, for the order of drawing.
    pub depth: f32,
    /// Joints.
    pub skeleton: Skeleton,
    /// Looks.
    pub look: &'a Look,
    /// What they do.
    pub action: Action,
}

fn camera(seed: u64, size: Size) -> Camera {
    let mut rng = Rng::new(combine(seed, 41));
    let height = rng.range(2.5, 3.3);
    Camera::new(size, height, rng.range(0.36, 0.43), rng.range(0.22, 0.24), rng.range(0.94, 0.98))
}

fn obstacles(seed: u64, camera: &Camera) -> Vec<Obstacle> {
    let mut rng = Rng::new(combine(seed, 43));
    let mut all = Vec::new();
    let place = |rng: &mut Rng, low: f32, high: f32| {
        let z = camera.near + (camera.far - camera.near) * rng.range(low, high);
        (rng.range(-0.75, 0.75) * camera.half_width(z), z)
    };
    if rng.chance(0.6) {
        all.push(Obstacle { at: place(&mut rng, 0.25, 0.7), radius: rng.range(0.13, 0.24), height: 5.0 });
    }
    if rng.chance(0.5) {
        let bench = Obstacle { at: place(&mut rng, 0.4, 0.9), radius: rng.range(0.5, 0.8), height: 0.45 };
        if all.iter().all(|o| distance(o.at, bench.at) > 1.5) {
            all.push(bench);
        }
    }
    all
}

/// When fights begin at the earliest within a minute, for `count` of them.
fn times(rng: &mut Rng, count: u32, begin: f64, length: f64) -> VecDeque<f64> {
    let share = length / f64::from(count.max(1));
    (0..count)
        .map(|i| {
            let from = begin + share * f64::from(i) + 4.0;
            rng.time(from, (from + share - 22.0).max(from + 1.0))
        })
        .collect()
}

impl Place {
    /// Plans a place. `attempt` varies the plan where an earlier one lacked something.
    #[must_use]
    pub fn new(spec: &SceneSpec, number: u32, attempt: u32, span: (f64, f64), fights: Option<u32>) -> Self {
        let seed = combine(spec.seed, 1000 + u64::from(number));
        let mut rng = Rng::new(combine(seed, u64::from(attempt)));
        let camera = camera(seed, spec.size);
        let obstacles = obstacles(seed, &camera);
        // Six to twelve; crowds are rarer than groups, as where such cameras hang.
        let dice = |salt| (combine(seed, salt) % 7) as u32;
        let people = spec.people.unwrap_or(6 + dice(3).min(dice(4)).min(dice(5)));
        let endless = span.1.is_infinite();
        let pending = match fights {
            Some(count) if !endless => times(&mut rng, count, span.0, span.1 - span.0),
            _ => VecDeque::new(),
        };
        let director = Director::new(
            combine(seed, 500 + u64::from(attempt)),
            camera,
            colorimetry(spec.size).matrix,
            obstacles.clone(),
            (span.0, span.1 - 1.0),
            (1 + u64::from(number) * 1000, people as usize),
            pending,
        );
        let (begin, end) = span;
        Self { seed, begin, end, camera, obstacles, director, fights_a_minute: fights, minutes: 0 }
    }

    /// Plans on so that time t can be shown; forgets what is long past where the scene is endless.
    pub fn prepare(&mut self, t: f64) {
        if self.end.is_infinite() {
            while f64::from(self.minutes) * 60.0 < t + 70.0 {
                let mut rng = Rng::new(combine(self.seed, 9000 + u64::from(self.minutes)));
                let count = self.fights_a_minute.unwrap_or_else(|| rng.below(3) as u32);
                for at in times(&mut rng, count, f64::from(self.minutes) * 60.0, 60.0) {
                    self.director.fight_at(at);
                }
                self.minutes += 1;
            }
            self.director.forget(t - 20.0);
        }
        self.director.plan((t + 12.0).min(self.end + 12.0));
    }

    /// Everybody about at time t, the farthest first.
    #[must_use]
    pub fn actors(&self, t: f64) -> Vec<Actor<'_>> {
        let mut actors: Vec<Actor<'_>> = self
            .director
            .people
            .iter()
            .filter_map(|person| {
                let (stance, pose, action) = person.at(t, &self.director.fights)?;
                // A steady tie-break keeps the order of two who stand side by side.
                let depth = stance.at.1 + 0.12 * (person.seed % 16) as f32 / 16.0;
                let skeleton = skeleton(&stance, &pose);
                Some(Actor { id: person.id, depth, skeleton, look: &person.look, action })
            })
            .collect();
        actors.sort_by(|a, b| b.depth.total_cmp(&a.depth));
        actors
    }

    /// Draws everybody by a camera, and tells what is true of them.
    pub fn draw(
        &self,
        canvas: &mut Canvas,
        camera: &Camera,
        t: f64,
        obstacle: &dyn Fn(&mut Canvas, &Obstacle),
        shadows: bool,
    ) -> Vec<PersonTruth> {
        let actors = self.actors(t);
        if shadows {
            for actor in &actors {
                figure::draw_shadow(canvas, camera, &actor.skeleton);
            }
        }
        let mut scenery: Vec<&Obstacle> = self.obstacles.iter().collect();
        scenery.sort_by(|a, b| b.at.1.total_cmp(&a.at.1));
        let mut scenery = scenery.into_iter().peekable();
        for (i, actor) in actors.iter().enumerate() {
            while let Some(o) = scenery.next_if(|o| o.at.1 > actor.depth) {
                obstacle(canvas, o);
            }
            figure::draw(canvas, camera, &actor.skeleton, actor.look, owner(i));
        }
        for o in scenery {
            obstacle(canvas, o);
        }
        let visible = canvas.visible();
        let mut people: Vec<PersonTruth> = actors
            .iter()
            .enumerate()
            .filter_map(|(i, actor)| {
                let tally = canvas.tally(owner(i));
                let bounds = Bounds::from(tally.bounds(canvas.size())?);
                let visible = visible[usize::from(owner(i))] as f32 / tally.full as f32;
                Some(PersonTruth { id: actor.id, bounds, visible, action: actor.action })
            })
            .collect();
        people.sort_by_key(|p| p.id);
        people
    }
}

/// Owner on the canvas of the i-th actor.
fn owner(i: usize) -> u8 {
    (i + 1).min(usize::from(SCENERY) - 2) as u8
}
