//! Poses of a body, and the skeleton that follows from one.
//!
//! In: where hands, feet and pelvis are, in the body's own frame. Out: joints in the world, the limbs bent by
//! two-bone inverse kinematics. Poses blend linearly. Nothing fails; what is out of reach is reached towards.

use super::camera::{Vec3, add, dot, length, lerp, scale, sub};

/// Height of the body for which the measures below are, metres.
pub const STANDARD: f32 = 1.75;
const UPPER_ARM: f32 = 0.29;
const FOREARM: f32 = 0.28;
const THIGH: f32 = 0.445;
const SHIN: f32 = 0.435;
const SPINE: f32 = 0.52;
const SHOULDER: f32 = 0.185;
const HIP: f32 = 0.095;

/// A pose, in the body's frame: right, up, forward, in metres of a standard body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Pelvis: sideways, height, forward.
    pub pelvis: Vec3,
    /// Spine leaning forward, radians.
    pub lean: f32,
    /// Spine leaning right, radians.
    pub side: f32,
    /// Shoulders turned to the left, radians.
    pub twist: f32,
    /// Head nodding forward, radians.
    pub nod: f32,
    /// Hands (left, right) seen from their shoulders.
    pub hands: [Vec3; 2],
    /// Ankles (left, right) over the ground point of the body.
    pub feet: [Vec3; 2],
}

impl Default for Pose {
    fn default() -> Self {
        Self {
            pelvis: [0.0, 0.975, 0.0],
            lean: 0.03,
            side: 0.0,
            twist: 0.0,
            nod: 0.0,
            hands: [[-0.06, -0.53, 0.05], [0.06, -0.53, 0.05]],
            feet: [[-0.11, 0.08, 0.0], [0.11, 0.08, 0.0]],
        }
    }
}

impl Pose {
    /// This pose moved by a share `t` towards another.
    #[must_use]
    pub fn blend(&self, to: &Self, t: f32) -> Self {
        let mix = |a: f32, b: f32| a + (b - a) * t;
        let both = |a: &[Vec3; 2], b: &[Vec3; 2]| [lerp(a[0], b[0], t), lerp(a[1], b[1], t)];
        Self {
            pelvis: lerp(self.pelvis, to.pelvis, t),
            lean: mix(self.lean, to.lean),
            side: mix(self.side, to.side),
            twist: mix(self.twist, to.twist),
            nod: mix(self.nod, to.nod),
            hands: both(&self.hands, &to.hands),
            feet: both(&self.feet, &to.feet),
        }
    }
}

/// Joints in the world, metres. Pairs are left, right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skeleton {
    /// Middle of the hips.
    pub pelvis: Vec3,
    /// Base of the neck.
    pub neck: Vec3,
    /// Middle of the head.
    pub head: Vec3,
    /// Where the face points.
    pub gaze: Vec3,
    /// Shoulders.
    pub shoulders: [Vec3; 2],
    /// Elbows.
    pub elbows: [Vec3; 2],
    /// Hands.
    pub hands: [Vec3; 2],
    /// Hips.
    pub hips: [Vec3; 2],
    /// Knees.
    pub knees: [Vec3; 2],
    /// Ankles.
    pub ankles: [Vec3; 2],
    /// Toes.
    pub toes: [Vec3; 2],
}

/// Where a body stands and how it is turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stance {
    /// Ground point: x, z.
    pub at: (f32, f32),
    /// Heading in radians: 0 looks along +x, a quarter turn along +z.
    pub heading: f32,
    /// Body height, metres.
    pub height: f32,
}

impl Stance {
    /// A point of the body's frame in the world.
    #[must_use]
    pub fn world(&self, local: Vec3) -> Vec3 {
        let k = self.height / STANDARD;
        let (sin, cos) = self.heading.sin_cos();
        let (r, u, f) = (local[0] * k, local[1] * k, local[2] * k);
        [self.at.0 + f * cos + r * sin, u, self.at.1 + f * sin - r * cos]
    }

    /// A point of the world in the body's frame.
    #[must_use]
    pub fn local(&self, world: Vec3) -> Vec3 {
        let k = STANDARD / self.height;
        let (sin, cos) = self.heading.sin_cos();
        let (x, z) = (world[0] - self.at.0, world[2] - self.at.1);
        [(x * sin - z * cos) * k, world[1] * k, (x * cos + z * sin) * k]
    }
}

/// Where the shoulders of a pose are, in the body's frame: what hand targets are measured from.
#[must_use]
pub fn shoulders(pose: &Pose) -> [Vec3; 2] {
    let spine = spine(pose);
    let neck = add(pose.pelvis, scale(spine, SPINE));
    let (sin, cos) = pose.twist.sin_cos();
    // Turned to the left: the right shoulder comes forward.
    let across = [cos, -pose.side.sin(), sin];
    let low = add(neck, scale(spine, -0.05));
    [add(low, scale(across, -SHOULDER)), add(low, scale(across, SHOULDER))]
}

fn spine(pose: &Pose) -> Vec3 {
    let (ls, lc) = pose.lean.sin_cos();
    let (ss, sc) = pose.side.sin_cos();
    [ss * lc, lc * sc, ls]
}

/// The skeleton of a body in a pose.
#[must_use]
pub fn skeleton(stance: &Stance, pose: &Pose) -> Skeleton {
    let up = spine(pose);
    let neck = add(pose.pelvis, scale(up, SPINE));
    let (ns, nc) = (pose.lean + pose.nod).sin_cos();
    let head = add(neck, [up[0] * 0.19, nc * 0.19, ns * 0.19]);
    let low = shoulders(pose);
    let arm = |i: usize| {
        let side = if i == 0 { -1.0 } else { 1.0 };
        bend(low[i], add(low[i], pose.hands[i]), UPPER_ARM, FOREARM, [side * 0.35, -0.5, -0.8])
    };
    let hip = |i: usize| add(pose.pelvis, [if i == 0 { -HIP } else { HIP }, -0.03, 0.0]);
    let leg =
        |i: usize| bend(hip(i), pose.feet[i], THIGH, SHIN, [if i == 0 { -0.15 } else { 0.15 }, 0.0, 1.0]);
    let (arms, legs) = ([arm(0), arm(1)], [leg(0), leg(1)]);
    let world = |p: Vec3| stance.world(p);
    let toe = |i: usize| {
        let ankle = legs[i].1;
        world([ankle[0] * 1.1, (ankle[1] - 0.05).max(0.02), ankle[2] + 0.16])
    };
    Skeleton {
        pelvis: world(pose.pelvis),
        neck: world(neck),
        head: world(head),
        gaze: sub(world(add(head, [-pose.twist.sin() * 0.5, 0.0, 1.0])), world(head)),
        shoulders: [world(low[0]), world(low[1])],
        elbows: [world(arms[0].0), world(arms[1].0)],
        hands: [world(arms[0].1), world(arms[1].1)],
        hips: [world(hip(0)), world(hip(1))],
        knees: [world(legs[0].0), world(legs[1].0)],
        ankles: [world(legs[0].1), world(legs[1].1)],
        toes: [toe(0), toe(1)],
    }
}

/// Two-bone inverse kinematics: middle joint and end of a limb of lengths `first` and `second` from `root`
/// towards `target`, bent towards `pole`.
#[must_use]
pub fn bend(root: Vec3, target: Vec3, first: f32, second: f32, pole: Vec3) -> (Vec3, Vec3) {
    let to = sub(target, root);
    let distance = length(to).max(1e-4);
    let dir = scale(to, 1.0 / distance);
    let reach = distance.clamp((first - second).abs() + 0.02, (first + second) * 0.995);
    let end = add(root, scale(dir, reach));
    let along = (first * first - second * second + reach * reach) / (2.0 * reach);
    let out = (first * first - along * along).max(0.0).sqrt();
    let flat = sub(pole, scale(dir, dot(pole, dir)));
    let size = length(flat);
    let flat = if size > 1e-3 { scale(flat, 1.0 / size) } else { [0.0, 0.0, 1.0] };
    (add(add(root, scale(dir, along)), scale(flat, out)), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limbs_keep_their_lengths() {
        let stance = Stance { at: (1.0, 5.0), heading: 0.7, height: STANDARD };
        let mut pose = Pose::default();
        for (i, hand) in [[0.3, 0.2, 0.4], [0.0, -0.1, 0.02], [2.0, 2.0, 2.0]].into_iter().enumerate() {
            pose.hands = [hand, hand];
            pose.lean = 0.2 * i as f32;
            let s = skeleton(&stance, &pose);
            for side in 0..2 {
                assert!((length(sub(s.elbows[side], s.shoulders[side])) - UPPER_ARM).abs() < 1e-3);
                assert!((length(sub(s.hands[side], s.elbows[side])) - FOREARM).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn world_and_local_are_inverse() {
        let stance = Stance { at: (-2.0, 9.0), heading: 2.1, height: 1.6 };
        let p = [0.3, 1.2, -0.4];
        assert!(length(sub(stance.local(stance.world(p)), p)) < 1e-5);
    }
}
