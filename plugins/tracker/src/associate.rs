//! Which detection belongs to which track: the gains of all allowed pairs.
//!
//! In: tracks predicted to now, and detections. Out: pairs with their gain, for [`crate::assign`]. Pure;
//! nothing fails. A gain is 1 less the pair's cost, less what the stage asks for at least.

use watchpost_plugin::least;

use crate::{Detection, Track, Tuning, assign::Pair, nearby::Nearby};

/// The first association: all believed tracks with confident detections, by how likely the detection is where the
/// track's filter expects it, and by agreement in direction. Gated by overlap of grown boxes (C-BIoU).
#[inline]
pub fn confident(track: &Track, found: &Detection, now: f64, tuning: &Tuning) -> Option<f32> {
    // Most pairs are far apart: they cost a subtraction and no call.
    if track.is_beside(&found.bounds, tuning.grow) { likely(track, found, now, tuning) } else { None }
}

#[inline(never)]
fn likely(track: &Track, found: &Detection, now: f64, tuning: &Tuning) -> Option<f32> {
    let predicted = track.bounds();
    let overlap = predicted.grown(tuning.grow).iou(&found.bounds.grown(tuning.grow));
    if overlap < tuning.overlap {
        return None;
    }
    let away = (now - track.last().at) as f32;
    let cost = surprise(track, found, tuning)
        + tuning.direction * (direction_gap(track, found) - 0.5)
        + tuning.confidence * (1.0 - found.score)
        + tuning.misfit * (1.0 - overlap)
        + if away > 0.5 { tuning.lost } else { 0.0 };
    (cost < tuning.worst).then_some(tuning.worst - cost)
}

/// How much a detection surprises a track's filter, in nats: the negative logarithm of its likelihood, less that of
/// a perfect match with a filter that knows all. Centre, foot line, height and width are taken as independent and
/// heavy-tailed (Student's t), since boxes of people who are partly hidden are at times far off on one side. The
/// foot line and the height tell people apart who stand behind each other: both depend on the distance.
pub fn surprise(track: &Track, found: &Detection, tuning: &Tuning) -> f32 {
    let motion = &track.motion;
    let scale = track.bounds().scale();
    let height = track.clear.map_or(motion.h.value, |(h, _)| 0.5 * (h + motion.h.value));
    let doubt = scale * (1.5 - found.score.clamp(0.0, 1.0));
    // Sums of logarithms as logarithms of products: there are many pairs, and a logarithm is dear in WebAssembly.
    // Bounded, so that the product of four stays finite.
    let (mut off_all, mut spread_all) = (1.0_f32, 1.0_f32);
    let mut axis = |off: f32, var: f32, share: f32| {
        let seen = (share * doubt).powi(2);
        let total = var + seen;
        off_all *= 1.0 + least(off * off / (tuning.tail * total), 1e8);
        spread_all *= least(total / seen, 1e8);
    };
    let b = &found.bounds;
    let [across, foot, tall, wide] = tuning.exactness;
    axis(b.cx() - motion.x.value, motion.x.var, across);
    axis(b.y + b.h - motion.y.value - 0.5 * motion.h.value, motion.y.var + 0.25 * motion.h.var, foot);
    axis(b.h - height, motion.h.var, tall);
    axis(b.w - motion.w.value, motion.w.var, wide);
    0.5 * (tuning.tail + 1.0) * ln(off_all) + 0.5 * tuning.spread * ln(spread_all)
}

/// The natural logarithm of a number from 1 to 1e38, to within the rounding of single precision: the series of
/// 2 artanh((m - 1) / (m + 1)) for a mantissa m from √½ to √2. WebAssembly has no instruction for it, and the library's
/// is a call by way of doubles.
#[inline]
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let (exponent, mantissa) = ((bits >> 23) as i32 - 127, f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000));
    let above = mantissa > std::f32::consts::SQRT_2;
    let (exponent, mantissa) = if above { (exponent + 1, 0.5 * mantissa) } else { (exponent, mantissa) };
    let part = (mantissa - 1.0) / (mantissa + 1.0);
    let square = part * part;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0)));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * part * series
}

/// The second association (ByteTrack, Zhang et al., ECCV 2022): tracks still unmatched with the detections
/// of low confidence, by plain overlap.
pub fn doubtful(track: &Track, found: &Detection, tuning: &Tuning) -> Option<f32> {
    let overlap = if track.is_beside(&found.bounds, 0.0) { track.bounds().iou(&found.bounds) } else { 0.0 };
    (overlap > tuning.low_overlap).then_some(overlap)
}

/// The third: lost tracks with confident detections nobody claimed, by distance in units of what the
/// filter believes possible (a Mahalanobis distance), from where the track should be by now and from where it
/// was last seen: people walk on behind things, or stop there.
pub fn regained(track: &Track, found: &Detection, now: f64, tuning: &Tuning) -> Option<f32> {
    let last = track.last();
    let away = ((now - last.at) as f32).max(0.0);
    let predicted = track.bounds();
    let scale = predicted.scale().max(1.0);
    let (cx, cy) = (found.bounds.cx(), found.bounds.cy());
    let spread = tuning.wander * scale * away.min(tuning.wander_max) + 0.1 * scale;
    // Where nobody walks on for as long, the filter's own uncertainty says nothing any more.
    let limit = (scale * tuning.wander_max).powi(2);
    let across = (track.motion.x.var.min(limit) + spread * spread).sqrt();
    let down = (track.motion.y.var.min(0.25 * limit) + spread * spread * 0.25).sqrt();
    let distance =
        |x: f32, y: f32| (((cx - x) / across).powi(2) + ((cy - y) / down).powi(2)).sqrt() / tuning.gate;
    let moving = distance(predicted.cx(), predicted.cy());
    let stopped = distance(last.bounds.cx(), last.bounds.cy()) + 0.25;
    let size = size_gap(track, found);
    let cost = moving.min(stopped) + tuning.size * size;
    (size < 0.6 && cost < 1.0).then_some(1.0 - cost)
}

/// Absolute log of the ratio of sizes.
pub fn size_gap(track: &Track, found: &Detection) -> f32 {
    let height = track.clear.map_or(track.motion.h.value, |(h, _)| 0.5 * (h + track.motion.h.value));
    (found.bounds.h.max(1.0) / height.max(1.0)).ln().abs()
}

/// Angle between where the track was going and where the detection lies from its last sighting, 0 (same
/// way) to 1 (opposite), less for slow tracks and short ways, which have no direction to speak of.
pub fn direction_gap(track: &Track, found: &Detection) -> f32 {
    let Some((vx, vy)) = track.heading else { return 0.5 };
    let last = track.last().bounds;
    let (dx, dy) = (found.bounds.cx() - last.cx(), found.bounds.cy() - last.cy());
    // Not `hypot`: in WebAssembly it is a call, and pixels do not overflow.
    let (speed, way) = ((vx * vx + vy * vy).sqrt(), (dx * dx + dy * dy).sqrt());
    let scale = last.scale();
    let trust = least(speed / (0.3 * scale), 1.0) * least(way / (0.1 * scale), 1.0);
    if trust <= 0.0 {
        return 0.5;
    }
    let cosine = ((vx * dx + vy * dy) / (speed * way)).clamp(-1.0, 1.0);
    0.5 + trust * ((1.0 - cosine) * 0.5 - 0.5)
}

/// How far from a track a detection may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    /// Both boxes, grown by this share of their size, overlap across.
    Beside(f32),
    /// Anywhere.
    Anywhere,
}

/// Fills `pairs` with the allowed pairs of the `tracks` and `found` listed, by `gain`, which is asked for those within
/// reach only.
pub fn pairs(
    pairs: &mut Vec<Pair>,
    nearby: &mut Nearby,
    reach: Reach,
    tracks: (&[Track], &[u32]),
    found: (&[Detection], &[u32]),
    mut gain: impl FnMut(&Track, &Detection) -> Option<f32>,
) {
    pairs.clear();
    if let Reach::Beside(share) = reach {
        nearby.fill(found.1.iter().map(|index| found.0[*index as usize].bounds.span(share)));
    }
    for (row, track) in tracks.1.iter().map(|index| &tracks.0[*index as usize]).enumerate() {
        let mut pair = |column: usize| {
            let found = &found.0[found.1[column] as usize];
            if track.kind == found.kind
                && let Some(gain) = gain(track, found)
            {
                pairs.push(Pair { row: row as u32, column: column as u32, gain });
            }
        };
        match reach {
            Reach::Beside(share) => nearby.each(track.bounds().span(share), pair),
            Reach::Anywhere => (0..found.1.len()).for_each(&mut pair),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ln;

    #[test]
    fn the_logarithm_is_one() {
        let mut x = 1.0_f32;
        while x < 1e38 {
            assert!((ln(x) - x.ln()).abs() <= 3e-7 * x.ln().max(1.0), "{x}: {} for {}", ln(x), x.ln());
            x *= 1.000_7;
        }
    }
}
