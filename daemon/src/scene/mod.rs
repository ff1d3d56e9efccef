//! Room `scene`: the source that renders itself, with ground truth.
//!
//! In: a [`SceneSpec`] (from a `scene://` URI). Out: NV12 pictures and [`FrameTruth`]s; live, at the pace of the
//! clock. Owned by whoever asks: an ingest source, the export job, a test. Rendering cannot fail; only a URI can.
//! All motion is defined in continuous time, so size and rate do not change what happens.

mod actor;
mod backdrop;
mod camera;
mod canvas;
mod director;
mod figure;
mod game;
mod live;
mod moves;
mod people;
mod pitch;
mod pose;
mod rng;
mod spec;
mod survey;
mod truth;

pub use live::{LiveScene, LiveStop};
pub use spec::{SceneKind, SceneSpec, SpecError};
pub use truth::{
    Action, BallTruth, Bounds, Crossing, FightTruth, FrameTruth, PersonTruth, SCHEMA, SceneTruth,
};

use backdrop::Backdrop;
use canvas::{Canvas, Noise, colorimetry};
use people::Place;
use pitch::Pitch;
use survey::{Survey, survey};

use crate::flow::Picture;

/// Crossings that a scene of a minute has at least.
const CROSSINGS: f64 = 15.0;
/// Plans tried until one keeps what is promised.
const ATTEMPTS: u32 = 32;

/// A scene: renders any of its frames, each with what is true of it.
pub struct Scene {
    spec: SceneSpec,
    places: Vec<Place>,
    /// The game, where that is the kind of scene.
    pitch: Option<Pitch>,
    cuts: Vec<f64>,
    survey: Survey,
    canvas: Canvas,
    noise: Noise,
    /// The background of the place shown last, and its number.
    backdrop: Option<(usize, Backdrop)>,
    /// Time shown last, seconds.
    shown: f64,
}

impl Scene {
    /// Plans a scene.
    #[must_use]
    pub fn new(spec: &SceneSpec) -> Self {
        let (places, survey) = match spec.kind {
            SceneKind::People => plan(spec),
            SceneKind::Ball => Default::default(),
        };
        let pitch = (spec.kind == SceneKind::Ball).then(|| Pitch::new(spec));
        let parts = f64::from(spec.cuts + 1);
        let cuts = (1..=spec.cuts).map(|i| spec.seconds * f64::from(i) / parts).filter(|t| *t > 0.0);
        let sigma = 0.9 + (rng::combine(spec.seed, 12) % 100) as f32 / 100.0 * 1.1;
        Self {
            spec: spec.clone(),
            places,
            pitch,
            cuts: cuts.collect(),
            survey,
            canvas: Canvas::new(spec.size),
            noise: Noise::new(spec.seed, sigma, spec.size.width as usize),
            backdrop: None,
            shown: 0.0,
        }
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &SceneSpec {
        &self.spec
    }

    /// What is true of the whole scene. An endless one lists nothing: its fights are not planned yet.
    #[must_use]
    pub fn truth(&self) -> SceneTruth {
        SceneTruth {
            schema: SCHEMA.to_owned(),
            spec: self.spec.to_string(),
            width: self.spec.size.width,
            height: self.spec.size.height,
            fps: self.spec.fps(),
            fights: self.survey.fights.clone(),
            crossings: self.survey.crossings.clone(),
            long_hidden: self.survey.long_hidden,
            cuts: self.cuts.clone(),
        }
    }

    /// Renders a frame. Forward steps are cheap at any distance; going far back in an endless scene plans anew.
    pub fn frame(&mut self, index: u64) -> (Picture, FrameTruth) {
        let pts = self.spec.pts(index);
        let t = pts as f64 * 1e-9;
        let number = self.cuts.partition_point(|cut| *cut <= t);
        let (people, ball) = match &mut self.pitch {
            Some(pitch) => pitch.draw(&mut self.canvas, number, t),
            None => (self.people(number, t), None),
        };
        let flicker = 1.0 + 0.010 * (t * 7.9).sin() as f32 + 0.012 * rng::noise(self.spec.seed ^ 71, t * 3.0);
        let picture = self.canvas.picture(flicker, &self.noise, rng::combine(self.spec.seed, index));
        (picture, FrameTruth { index, pts, people, ball })
    }

    /// Draws the people of a place at time t.
    fn people(&mut self, number: usize, t: f64) -> Vec<PersonTruth> {
        if t < self.shown - 5.0 && self.spec.seconds <= 0.0 {
            self.places = plan(&self.spec).0;
        }
        self.shown = t;
        let Some(place) = self.places.get_mut(number) else { return Vec::new() };
        place.prepare(t);
        let matrix = colorimetry(self.spec.size).matrix;
        if self.backdrop.as_ref().is_none_or(|(of, _)| *of != number) {
            self.backdrop = Some((number, Backdrop::new(place.seed, &place.camera, matrix, None)));
        }
        let Some((_, backdrop)) = &self.backdrop else { return Vec::new() };
        self.canvas.start(&backdrop.planes);
        backdrop.distract(&mut self.canvas, t);
        let camera = place.camera;
        let obstacle = |canvas: &mut Canvas, o: &director::Obstacle| backdrop.obstacle(canvas, &camera, o);
        place.draw(&mut self.canvas, &camera, t, &obstacle, true)
    }
}

/// Plans the places of a scene; a finite one is surveyed, and planned anew until it keeps what is promised.
fn plan(spec: &SceneSpec) -> (Vec<Place>, Survey) {
    if spec.seconds <= 0.0 {
        return (vec![Place::new(spec, 0, 0, (0.0, f64::INFINITY), spec.fights)], Survey::default());
    }
    let parts = spec.cuts + 1;
    let length = spec.seconds / f64::from(parts);
    let fights = spec.fights.unwrap_or_else(|| {
        let minutes = (spec.seconds / 60.0).round().max(1.0) as u32;
        (0..minutes).map(|m| (rng::combine(spec.seed, 200 + u64::from(m)) % 3) as u32).sum()
    });
    let wanted = (CROSSINGS * spec.seconds / 60.0).floor() as i64;
    let mut best: Option<(i64, Vec<Place>, Survey)> = None;
    for attempt in 0..ATTEMPTS {
        let places: Vec<Place> = (0..parts)
            .map(|i| {
                let span = (length * f64::from(i), length * f64::from(i + 1));
                // Fights are dealt out over the places.
                let here = fights / parts + u32::from(i < fights % parts);
                let mut place = Place::new(spec, i, attempt, span, Some(here));
                place.director.plan(span.1 + 12.0);
                place
            })
            .collect();
        let found = survey(&places);
        let lacking = 20 * (i64::from(fights) - found.fights.len() as i64).abs()
            + (wanted - found.crossings.len() as i64).max(0)
            + (found.crossings.len() as i64 - 2 * wanted).max(0)
            + 10 * i64::from(found.long_hidden);
        let good = lacking == 0;
        if best.as_ref().is_none_or(|(least, ..)| lacking < *least) {
            best = Some((lacking, places, found));
        }
        if good {
            break;
        }
    }
    best.map_or_else(Default::default, |(_, places, found)| (places, found))
}
