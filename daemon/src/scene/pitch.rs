//! The scene "ball": a game, the cameras that look at it, and how it is drawn.
//!
//! In: a spec. Out: a drawn frame and what is true of it. Owned by [`super::Scene`]; nothing fails.

use super::SceneSpec;
use super::actor::Spot;
use super::backdrop::Backdrop;
use super::camera::{Camera, Vec3};
use super::canvas::{Canvas, Color, Paint, Pattern, color, colorimetry};
use super::figure::{self, Look};
use super::game::{Court, Game};
use super::pose::{Stance, skeleton};
use super::rng::{Rng, combine};
use super::truth::{Action, BallTruth, Bounds, PersonTruth};
use crate::flow::Size;

/// Owner of the ball's pixels.
const BALL: u8 = 250;

/// A ball game and its looks.
pub struct Pitch {
    game: Game,
    seed: u64,
    people: usize,
    looks: Vec<Look>,
    ball: Paint,
    patch: Paint,
    cameras: Vec<Camera>,
    backdrop: Option<(usize, Backdrop)>,
}

fn camera(seed: u64, number: usize, size: Size) -> Camera {
    let mut rng = Rng::new(combine(seed, 71 + number as u64));
    let height = rng.range(4.2, 6.5);
    let mut camera =
        Camera::new(size, height, rng.range(0.30, 0.36), rng.range(0.165, 0.19), rng.range(0.93, 0.97));
    if number > 0 {
        // Another camera: to one side, and closer.
        let zoom = rng.range(1.1, 1.3);
        camera.focal *= zoom;
        camera.pan = rng.sign() * rng.range(1.0, 2.2);
        camera.horizon -= rng.range(0.05, 0.15) * size.height as f32;
    }
    camera
}

impl Pitch {
    /// A game at its start.
    #[must_use]
    pub fn new(spec: &SceneSpec) -> Self {
        let seed = combine(spec.seed, 7000);
        let matrix = colorimetry(spec.size).matrix;
        let mut rng = Rng::new(seed);
        let people = spec.people.unwrap_or(6 + rng.below(5) as u32) as usize;
        let cameras: Vec<Camera> = (0..=spec.cuts as usize).map(|i| camera(seed, i, spec.size)).collect();
        let first = cameras[0];
        let court = Court {
            half: first.half_width(first.near * 0.65 + first.far * 0.35) - 0.5,
            near: first.near + 0.2,
            far: first.far,
        };
        let mut kit = |hue: f32| -> (Color, Color) {
            let bright = |h: f32| {
                let c = |n: f32| 0.5 + 0.38 * (std::f32::consts::TAU * (h + n)).cos();
                [c(0.0), c(0.33), c(0.67)]
            };
            let dark = rng.range(0.12, 0.9);
            (color(matrix, bright(hue)), color(matrix, [dark, dark, dark]))
        };
        let hue = (seed % 100) as f32 / 100.0;
        let kits = [kit(hue), kit(hue + 0.45)];
        let looks = (0..people)
            .map(|i| {
                let (shirt, trousers) = kits[i % 2];
                Look::new(combine(seed, i as u64), matrix).in_team(shirt, trousers)
            })
            .collect();
        let skins = [
            ([0.95, 0.95, 0.93], [0.1, 0.1, 0.1]),
            ([0.85, 0.42, 0.13], [0.25, 0.12, 0.05]),
            ([0.93, 0.85, 0.2], [0.15, 0.3, 0.7]),
            ([0.9, 0.9, 0.95], [0.8, 0.15, 0.15]),
        ];
        let (base, patch) = skins[(seed / 100) as usize % skins.len()];
        Self {
            game: Game::new(seed, people, court),
            seed,
            people,
            looks,
            ball: Paint::plain(color(matrix, base)),
            patch: Paint { pattern: Pattern::Plain, ..Paint::plain(color(matrix, patch)) },
            cameras,
            backdrop: None,
        }
    }

    /// Draws the game at time t by camera `number`.
    pub fn draw(
        &mut self,
        canvas: &mut Canvas,
        number: usize,
        t: f64,
    ) -> (Vec<PersonTruth>, Option<BallTruth>) {
        let camera = self.cameras[number.min(self.cameras.len() - 1)];
        let matrix = colorimetry(canvas.size()).matrix;
        if self.backdrop.as_ref().is_none_or(|(of, _)| *of != number) {
            let court = Some(self.game.court);
            self.backdrop = Some((number, Backdrop::new(self.seed ^ number as u64, &camera, matrix, court)));
        }
        if !self.game.advance(t) {
            self.game = Game::new(self.seed, self.people, self.game.court);
            self.game.advance(t);
        }
        if let Some((_, backdrop)) = &self.backdrop {
            canvas.start(&backdrop.planes);
            backdrop.distract(canvas, t);
        }
        self.goals(canvas, &camera);
        let mut players: Vec<(usize, Spot, super::pose::Skeleton)> = (0..self.people)
            .map(|i| {
                let moment = self.game.player(i, t);
                let stance = Stance { at: moment.at, heading: moment.heading, height: self.looks[i].height };
                (i, moment.at, skeleton(&stance, &moment.pose))
            })
            .collect();
        let (ball, spin) = self.game.ball(t);
        for (_, _, skeleton) in &players {
            figure::draw_shadow(canvas, &camera, skeleton);
        }
        self.ball_shadow(canvas, &camera, ball);
        players.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        let mut pending = true;
        for (i, at, skeleton) in &players {
            if pending && ball[2] > at.1 {
                self.draw_ball(canvas, &camera, ball, spin);
                pending = false;
            }
            figure::draw(canvas, &camera, skeleton, &self.looks[*i], (*i + 1) as u8);
        }
        if pending {
            self.draw_ball(canvas, &camera, ball, spin);
        }
        let visible = canvas.visible();
        let share = |owner: u8| {
            let tally = canvas.tally(owner);
            let bounds = Bounds::from(tally.bounds(canvas.size())?);
            Some((bounds, visible[usize::from(owner)] as f32 / tally.full as f32))
        };
        let people = (0..self.people)
            .filter_map(|i| {
                let (bounds, visible) = share((i + 1) as u8)?;
                Some(PersonTruth { id: i as u64 + 1, bounds, visible, action: Action::Play })
            })
            .collect();
        (people, share(BALL).map(|(bounds, visible)| BallTruth { bounds, visible }))
    }

    fn draw_ball(&self, canvas: &mut Canvas, camera: &Camera, ball: Vec3, spin: f32) {
        let (x, y, s) = camera.project(ball);
        let r = (self.game.radius * s).max(1.2);
        canvas.ellipse((x, y), r, r, &self.ball, BALL);
        for k in 0..3 {
            let angle = spin + k as f32 * 2.1;
            let (sin, cos) = angle.sin_cos();
            // Patches go round, and are seen while they are in front.
            let front = (angle * 0.5 + k as f32).cos().abs();
            let d = r * 0.55;
            canvas.ellipse((x + d * cos, y + d * sin), r * 0.3 * front + 0.2, r * 0.3, &self.patch, BALL);
        }
    }

    fn ball_shadow(&self, canvas: &mut Canvas, camera: &Camera, ball: Vec3) {
        let (x, y, s) = camera.project([ball[0], 0.0, ball[2]]);
        let wide = self.game.radius * s * (1.1 + 0.3 * ball[1]);
        canvas.shadow(
            (x + 0.2 * ball[1] * s * 0.5, y),
            wide.max(2.0),
            (wide * 0.4).max(1.0),
            0.55 / (1.0 + ball[1]),
        );
    }

    fn goals(&self, canvas: &mut Canvas, camera: &Camera) {
        let white = Paint::plain([215.0, 128.0, 128.0]);
        let court = self.game.court;
        for side in [-1.0, 1.0] {
            let x = side * court.half;
            let corner = |z: f32, y: f32| camera.project([x, y, court.middle() + z]);
            let corners = [corner(-1.3, 0.0), corner(-1.3, 1.7), corner(1.3, 1.7), corner(1.3, 0.0)];
            for pair in corners.windows(2) {
                let r = (0.04 * pair[0].2).max(0.7);
                canvas.capsule(
                    (pair[0].0, pair[0].1),
                    (pair[1].0, pair[1].1),
                    r,
                    r,
                    &white,
                    super::canvas::NOBODY,
                );
            }
        }
    }
}
