//! The ball game: two teams and a ball, simulated in small fixed steps and interpolated between them.
//!
//! In: a seed, the number of players, the court. Out: where players and ball are at any time. Owned by the scene.
//! Nothing fails. The step is fixed, so that the frames' rate does not change the game; time only goes forward,
//! whoever wants to go back starts anew.

use super::actor::{Spot, distance};
use super::camera::{Vec3, add, length, lerp, scale, smoothstep, sub};
use super::moves;
use super::pose::{Pose, Stance};
use super::rng::{Rng, combine, noise};

/// Seconds a step.
const STEP: f64 = 0.01;
const GRAVITY: f32 = 9.81;
/// Share of vertical speed that a bounce keeps.
const BOUNCE: f32 = 0.72;
/// Slowing of a rolling ball, m/s².
const ROLLING: f32 = 0.9;
/// Fastest run, m/s.
const SPRINT: f32 = 5.6;
/// Hardest acceleration, m/s².
const PUSH_OFF: f32 = 6.0;
/// Rhythm of a hand dribble, seconds a bounce.
const DRIBBLE: f64 = 0.58;

/// How the ball is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With the feet: rolling, long passes in the air.
    Feet,
    /// With the hands: dribbled with bounces, thrown.
    Hands,
}

/// The ground that is played on: x from -length/2 to length/2, z from near to far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Court {
    /// Half its length, metres.
    pub half: f32,
    /// Nearest z.
    pub near: f32,
    /// Farthest z.
    pub far: f32,
}

impl Court {
    /// Middle depth.
    #[must_use]
    pub fn middle(&self) -> f32 {
        (self.near + self.far) * 0.5
    }
}

/// A player.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Player {
    /// 0 or 1.
    pub team: usize,
    home: Spot,
    at: Spot,
    velocity: Spot,
    heading: f32,
    walked: f32,
    /// When they last kicked or threw, seconds.
    kicked: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    players: Vec<Player>,
    ball: Vec3,
    velocity: Vec3,
    /// Turned so far, radians.
    spin: f32,
    owner: Option<usize>,
    /// Whom a pass is for.
    receiver: Option<usize>,
    /// When the owner got it, and when they will give it away, seconds.
    since: f64,
    until: f64,
}

/// The game.
#[derive(Debug, Clone)]
pub struct Game {
    seed: u64,
    /// How it is played.
    pub style: Style,
    /// Where.
    pub court: Court,
    /// Radius of the ball, metres.
    pub radius: f32,
    rng: Rng,
    steps: u64,
    before: State,
    now: State,
}

/// A player at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Where and how turned; the height is that of a standard body.
    pub at: Spot,
    /// Heading, radians.
    pub heading: f32,
    /// Pose.
    pub pose: Pose,
}

impl Game {
    /// A game at its start.
    #[must_use]
    pub fn new(seed: u64, players: usize, court: Court) -> Self {
        let mut rng = Rng::new(combine(seed, 61));
        let style = if rng.chance(0.5) { Style::Feet } else { Style::Hands };
        let middle = court.middle();
        let players: Vec<Player> = (0..players)
            .map(|i| {
                let team = i % 2;
                let side = if team == 0 { -1.0 } else { 1.0 };
                let rank = (i / 2) as f32 / (players.div_ceil(2).max(2) - 1) as f32;
                let home = (
                    side * court.half * (0.75 - 0.95 * rank),
                    middle + (court.far - court.near) * 0.36 * ((i / 2) as f32 * 2.4 + team as f32).sin(),
                );
                Player {
                    team,
                    home,
                    at: home,
                    velocity: (0.0, 0.0),
                    heading: 0.0,
                    walked: rng.range(0.0, 2.0),
                    kicked: -9.0,
                }
            })
            .collect();
        let owner = Some(rng.below(players.len()));
        let ball = owner.map_or([0.0, 0.2, middle], |i| [players[i].at.0, 0.2, players[i].at.1]);
        let start = State {
            players,
            ball,
            velocity: [0.0; 3],
            spin: 0.0,
            owner,
            receiver: None,
            since: 0.0,
            until: 1.2,
        };
        let radius = rng.range(0.105, 0.14);
        Self { seed, style, court, radius, rng, steps: 0, before: start.clone(), now: start }
    }

    /// Simulates up to time t. False where t lies before what is simulated.
    pub fn advance(&mut self, t: f64) -> bool {
        while (self.steps as f64) * STEP < t {
            self.before = self.now.clone();
            self.step();
            self.steps += 1;
        }
        t >= (self.steps as f64 - 1.0) * STEP
    }

    fn share(&self, t: f64) -> f32 {
        ((t - (self.steps as f64 - 1.0) * STEP) / STEP).clamp(0.0, 1.0) as f32
    }

    /// The ball's middle, and how far it has turned.
    #[must_use]
    pub fn ball(&self, t: f64) -> (Vec3, f32) {
        let u = self.share(t);
        (lerp(self.before.ball, self.now.ball, u), self.before.spin + (self.now.spin - self.before.spin) * u)
    }

    /// A player at the time advanced to.
    #[must_use]
    pub fn player(&self, i: usize, t: f64) -> Moment {
        let u = self.share(t);
        let (a, b) = (&self.before.players[i], &self.now.players[i]);
        let at = (a.at.0 + (b.at.0 - a.at.0) * u, a.at.1 + (b.at.1 - a.at.1) * u);
        let speed = b.velocity.0.hypot(b.velocity.1);
        let run = smoothstep(1.6, 3.0, speed);
        let walked = a.walked + (b.walked - a.walked) * u;
        let seed = combine(self.seed, i as u64 + 300);
        let idle = moves::stand(seed & !7 | 1, t);
        let mut pose = idle.blend(&moves::gait(seed, walked, speed, run), smoothstep(0.1, 0.7, speed));
        let since = (t - b.kicked) as f32;
        let stance = Stance { at, heading: b.heading, height: super::pose::STANDARD };
        if self.style == Style::Feet {
            // The leg follows through after the ball has left.
            let swing = (1.0 - smoothstep(0.05, 0.4, since)) * smoothstep(-0.02, 0.05, since);
            pose.feet[1] = lerp(pose.feet[1], [0.06, 0.42, 0.5], swing);
            pose.lean -= 0.2 * swing;
            pose.hands[0] = lerp(pose.hands[0], [-0.4, -0.2, 0.1], swing);
        } else {
            let thrown = (1.0 - smoothstep(0.08, 0.5, since)) * smoothstep(-0.02, 0.06, since);
            for hand in &mut pose.hands {
                *hand = lerp(*hand, [0.0, 0.12, 0.5], thrown);
            }
            if self.now.owner == Some(i) {
                let ball = stance.local(self.ball(t).0);
                let shoulder = super::pose::shoulders(&pose)[1];
                let high = [ball[0], (ball[1] + 0.1).max(0.75), ball[2]];
                pose.hands[1] = lerp(pose.hands[1], sub(high, shoulder), 0.9);
                pose.lean += 0.12;
            }
        }
        Moment { at, heading: b.heading, pose }
    }

    fn step(&mut self) {
        let t = self.steps as f64 * STEP;
        self.play(t);
        let targets: Vec<(Spot, f32)> = (0..self.now.players.len()).map(|i| self.target(i, t)).collect();
        for (i, (target, fast)) in targets.into_iter().enumerate() {
            self.run_to(i, target, fast);
        }
        self.roll(t);
    }

    /// Where a player wants to be, and how fast to get there.
    fn target(&self, i: usize, t: f64) -> (Spot, f32) {
        let s = &self.now;
        let player = &s.players[i];
        let ball = (s.ball[0], s.ball[2]);
        if s.owner == Some(i) {
            // Towards the other goal, weaving.
            let goal =
                (if player.team == 0 { self.court.half } else { -self.court.half }, self.court.middle());
            let weave = 2.2 * noise(self.seed ^ (i as u64 + 40), t * 0.45);
            let pace = 2.3 + 1.3 * noise(self.seed ^ 44, t * 0.3);
            return ((goal.0, goal.1 + weave), pace);
        }
        // A free ball is met a little ahead of where it is.
        let ahead = (ball.0 + s.velocity[0] * 0.35, ball.1 + s.velocity[2] * 0.35);
        let nearest = |team: usize| {
            (0..s.players.len()).filter(|k| s.players[*k].team == team && s.owner != Some(*k)).min_by(
                |a, b| distance(s.players[*a].at, ahead).total_cmp(&distance(s.players[*b].at, ahead)),
            )
        };
        if s.receiver == Some(i) || s.owner.is_none() && nearest(player.team) == Some(i) {
            return (ahead, SPRINT * 0.9);
        }
        if let Some(owner) = s.owner
            && s.players[owner].team != player.team
            && nearest(player.team) == Some(i)
        {
            // The nearest opponent presses, between the ball and the goal.
            let side = if player.team == 0 { -0.9 } else { 0.9 };
            return ((ball.0 + side, ball.1 + 0.4 * noise(self.seed ^ 47, t * 0.8)), SPRINT * 0.75);
        }
        let drift = |k: u64| noise(self.seed ^ combine(k, i as u64), t * 0.22);
        let spot = (
            player.home.0 + 0.55 * ball.0 + 1.6 * drift(1),
            player.home.1 + 0.35 * (ball.1 - self.court.middle()) + 1.5 * drift(2),
        );
        (spot, 2.6 + 1.6 * drift(3))
    }

    fn run_to(&mut self, i: usize, target: Spot, fast: f32) {
        let dt = STEP as f32;
        let court = self.court;
        let mut wanted = {
            let at = self.now.players[i].at;
            let x = target.0.clamp(-court.half, court.half) - at.0;
            let z = target.1.clamp(court.near, court.far) - at.1;
            let far = x.hypot(z);
            let speed = (far * 2.2).min(fast.max(0.8));
            if far > 0.15 { (x / far * speed, z / far * speed) } else { (0.0, 0.0) }
        };
        for (k, other) in self.now.players.iter().enumerate() {
            let at = self.now.players[i].at;
            let gap = distance(at, other.at);
            if k != i && gap < 0.9 && gap > 1e-3 {
                let push = (0.9 - gap) * 4.0 / gap;
                wanted.0 += (at.0 - other.at.0) * push;
                wanted.1 += (at.1 - other.at.1) * push;
            }
        }
        let ball = self.now.ball;
        let player = &mut self.now.players[i];
        let change = (wanted.0 - player.velocity.0, wanted.1 - player.velocity.1);
        let size = change.0.hypot(change.1).max(1e-6);
        let limit = (PUSH_OFF * dt / size).min(1.0);
        player.velocity.0 += change.0 * limit;
        player.velocity.1 += change.1 * limit;
        player.at.0 += player.velocity.0 * dt;
        player.at.1 += player.velocity.1 * dt;
        let speed = player.velocity.0.hypot(player.velocity.1);
        player.walked += speed * dt;
        // Who runs looks where they run, who stands looks at the ball.
        let look = if speed > 0.7 {
            player.velocity.1.atan2(player.velocity.0)
        } else {
            (ball[2] - player.at.1).atan2(ball[0] - player.at.0)
        };
        let pi = std::f32::consts::PI;
        let turn = (look - player.heading + pi).rem_euclid(2.0 * pi) - pi;
        player.heading += turn * (1.0 - (-7.0 * dt).exp());
    }

    /// Who has the ball gives it away when it is time.
    fn play(&mut self, t: f64) {
        let Some(owner) = self.now.owner else { return };
        if t < self.now.until {
            return;
        }
        let (from, team) = (self.now.players[owner].at, self.now.players[owner].team);
        let goal: Vec3 =
            [if team == 0 { self.court.half } else { -self.court.half }, 0.9, self.court.middle()];
        let mates: Vec<usize> = (0..self.now.players.len())
            .filter(|k| *k != owner && self.now.players[*k].team == team)
            .collect();
        let shot = (goal[0] - from.0).abs() < 4.5 && self.rng.chance(0.6) || mates.is_empty();
        let (target, speed, lob) = if shot {
            let aim = [goal[0], self.rng.range(0.2, 1.6), goal[2] + self.rng.range(-1.1, 1.1)];
            (aim, self.rng.range(9.0, 14.0), false)
        } else {
            let mate = mates[self.rng.below(mates.len())];
            let to = self.now.players[mate];
            self.now.receiver = Some(mate);
            let speed = self.rng.range(6.5, 9.5);
            let late = distance(from, to.at) / speed;
            let aim = (to.at.0 + to.velocity.0 * late, to.at.1 + to.velocity.1 * late);
            let high = if self.style == Style::Hands { 1.1 } else { self.radius };
            ([aim.0, high, aim.1], speed, self.rng.chance(if self.style == Style::Hands { 0.6 } else { 0.3 }))
        };
        let to = sub(target, self.now.ball);
        let flat = to[0].hypot(to[2]).max(0.3);
        // Nobody throws at a mate beside them as hard as up a wall: what is near takes its time, too.
        let time = (flat / if lob { speed * 0.75 } else { speed }).clamp(0.4, 1.4);
        let rises = if lob || shot || self.style == Style::Hands {
            (to[1] + 0.5 * GRAVITY * time * time) / time
        } else {
            0.0
        };
        // A rolling ball must start faster to arrive.
        let faster = if rises == 0.0 { 1.0 + ROLLING * time / (2.0 * speed) } else { 1.0 };
        self.now.velocity = [to[0] / time * faster, rises, to[2] / time * faster];
        self.now.players[owner].kicked = t;
        self.now.owner = None;
        self.now.since = t;
    }

    fn roll(&mut self, t: f64) {
        let dt = STEP as f32;
        let (r, style, court) = (self.radius, self.style, self.court);
        let s = &mut self.now;
        let old = s.ball;
        if let Some(owner) = s.owner {
            let p = &s.players[owner];
            let (sin, cos) = p.heading.sin_cos();
            let beat = ((t - s.since) / DRIBBLE).fract() as f32;
            let (forward, right, high) = match style {
                // Touched ahead at every other step.
                Style::Feet => (0.42 + 0.22 * (p.walked * 4.5).sin(), 0.08, r),
                // From the hand to the ground and back: two halves of a parabola.
                Style::Hands => {
                    let fall = (2.0 * beat - 1.0).abs();
                    (0.30, 0.30, r + (0.92 - r) * (1.0 - (1.0 - fall) * (1.0 - fall)))
                }
            };
            let want = [p.at.0 + forward * cos + right * sin, high, p.at.1 + forward * sin - right * cos];
            // Caught smoothly.
            let grip = smoothstep(0.0, 0.25, (t - s.since) as f32).max(0.08);
            s.ball = lerp(s.ball, want, grip);
            s.velocity = scale(sub(s.ball, old), 1.0 / dt);
        } else {
            s.velocity[1] -= GRAVITY * dt;
            s.ball = add(s.ball, scale(s.velocity, dt));
            if s.ball[1] < r {
                s.ball[1] = r;
                if s.velocity[1] < -0.5 {
                    s.velocity[1] *= -BOUNCE;
                    s.velocity[0] *= 0.93;
                    s.velocity[2] *= 0.93;
                } else {
                    s.velocity[1] = 0.0;
                    let speed = s.velocity[0].hypot(s.velocity[2]);
                    let keep = if speed > 0.0 { (speed - ROLLING * dt).max(0.0) / speed } else { 0.0 };
                    s.velocity[0] *= keep;
                    s.velocity[2] *= keep;
                }
            }
            // The net and the boards around the court.
            for (axis, low, high) in
                [(0, -court.half - 0.3, court.half + 0.3), (2, court.near, court.far + 0.3)]
            {
                if s.ball[axis] < low || s.ball[axis] > high {
                    s.ball[axis] = s.ball[axis].clamp(low, high);
                    s.velocity[axis] *= -0.45;
                }
            }
            self.catch(t);
        }
        let s = &mut self.now;
        let rolled = length(sub(s.ball, old));
        s.spin += rolled / r * (s.ball[0] - old[0]).signum();
    }

    /// Who can reach a free ball takes it.
    fn catch(&mut self, t: f64) {
        let ball = self.now.ball;
        let reach = if self.style == Style::Hands { 2.0 } else { 0.9 };
        let taker = (0..self.now.players.len()).find(|i| {
            let p = &self.now.players[*i];
            let near = distance(p.at, (ball[0], ball[2])) < 0.65 && ball[1] < reach;
            // In the way of a pass for somebody else, most balls go by.
            let meant = self.now.receiver.is_none_or(|r| r == *i) || t - self.now.since > 1.2;
            near && t - p.kicked > 0.5
                && (meant || self.now.players[*i].team != self.team_of_receiver() && self.steals(*i, t))
        });
        if let Some(i) = taker {
            self.now.owner = Some(i);
            self.now.receiver = None;
            self.now.since = t;
            self.now.until = t + self.rng.time(0.7, 3.2);
        }
    }

    fn team_of_receiver(&self) -> usize {
        self.now.receiver.map_or(2, |r| self.now.players[r].team)
    }

    fn steals(&self, i: usize, t: f64) -> bool {
        combine(self.seed ^ i as u64, (t * 3.0) as u64).is_multiple_of(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ball_obeys_gravity_and_stays_on_the_court() {
        let court = Court { half: 6.5, near: 12.0, far: 20.0 };
        for seed in 0..4 {
            let mut game = Game::new(seed, 10, court);
            let (mut owned, mut free, mut fell) = (0, 0, 0);
            for step in 1..6000 {
                let t = f64::from(step) * STEP;
                assert!(game.advance(t));
                let (ball, _) = game.ball(t);
                assert!(ball[0].abs() < court.half + 1.5, "{ball:?}");
                assert!(ball[1] > 0.0 && ball[1] < 8.0, "{ball:?}");
                assert!(ball[2] > court.near - 1.5 && ball[2] < court.far + 1.5, "{ball:?}");
                if game.now.owner.is_some() {
                    owned += 1;
                } else {
                    free += 1;
                    let (v, w) = (game.before.velocity[1], game.now.velocity[1]);
                    if game.before.owner.is_none() && w < v {
                        assert!((v - w - GRAVITY * STEP as f32).abs() < 1e-3 || v <= 0.0);
                        fell += 1;
                    }
                }
            }
            assert!(owned > 1000 && free > 500 && fell > 100, "{owned} {free} {fell}");
        }
    }
}
