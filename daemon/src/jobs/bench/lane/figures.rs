//! The figures of `bench lane`: parts over their floors, the whole lane over what its floors add up to.
//!
//! In: the costs of each round. Out: of each part the round with the middle ratio, whole, so that its figures belong
//! together. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jobs::bench::backend::Part;
use crate::jobs::bench::copies::Copies;
use crate::jobs::bench::cost::{Cost, Figure};

/// What a part's floor cost, and what the part did; or why it could not be measured.
pub(super) type Costs = Result<(Cost, Cost), String>;

/// One round: each part's cost with its floor's; the whole lane's with the model's runs, and copies a frame.
pub(super) struct Round {
    pub(super) parts: Vec<(Part, Costs)>,
    pub(super) whole: (Cost, u64, Copies),
}

/// A part beside its floor.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The part.
    #[serde(flatten)]
    pub part: Figure,
    /// What does it.
    pub by: String,
    /// How often it copied between host and GPU for a frame, by the lane's own counters; nothing on the CPU.
    #[serde(skip_serializing_if = "Copies::is_empty")]
    pub copies: Copies,
    /// Its floor.
    pub floor: Figure,
    /// CPU time of a frame over that of the floor.
    pub ratio: f64,
    /// What the floor is.
    pub floor_is: String,
}

/// A part that was measured, or could not be.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Its figures.
    Row(Row),
    /// Why there are none.
    Failed {
        /// What was said.
        error: String,
    },
}

/// What the floors of a lane's parts add up to for a frame.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sum {
    /// CPU milliseconds.
    pub cpu_ms: f64,
    /// The same of each part: its floor in the same round, as often as the part is due for a frame.
    pub parts: BTreeMap<Part, f64>,
}

/// The floor that allows the fewest frames a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Slowest {
    /// Of this part.
    pub part: Part,
    /// Frames of the lane a second, were it for this part alone.
    pub fps: f64,
}

/// The whole lane beside what its parts' floors add up to.
#[derive(Debug, Clone, Serialize)]
pub struct Whole {
    /// The daemon's pipeline with one stream.
    #[serde(flatten)]
    pub lane: Figure,
    /// How often it copied between host and GPU for a frame, by the lane's own counters; nothing on the CPU.
    #[serde(skip_serializing_if = "Copies::is_empty")]
    pub copies: Copies,
    /// How often the model ran for a frame.
    pub runs_a_frame: f64,
    /// The floors of decoding, of inference, and of encoding where the lane encodes.
    pub floor: Sum,
    /// CPU time of a frame over their sum.
    pub ratio: f64,
    /// The slowest of them.
    pub slowest_floor: Slowest,
    /// Frames a second of the lane over those of that floor.
    pub over_slowest_floor: f64,
}

/// The round with the middle ratio. `words`: what does the part, what its floor is, and its copies.
pub(super) fn row(
    part: Part,
    rounds: &[Round],
    (by, floor_is, copies): (String, String, Copies),
) -> Result<Row, String> {
    let mut figures = Vec::new();
    for round in rounds {
        let Some((_, costs)) = round.parts.iter().find(|(other, _)| *other == part) else { continue };
        let (floor, cost) = costs.clone()?;
        let (part, floor) = (cost.figure(), floor.figure());
        figures.push((part.cpu_ms / floor.cpu_ms, part, floor));
    }
    figures.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = figures.get(figures.len() / 2).copied();
    let (ratio, part, floor) = middle.ok_or_else(|| "not measured".to_owned())?;
    Ok(Row { part, by, copies, floor, ratio, floor_is })
}

/// The whole lane of a round, over that round's floors.
pub(super) fn whole(round: &Round, encode: bool) -> Option<Whole> {
    let (cost, runs, copies) = (round.whole.0, round.whole.1, round.whole.2.clone());
    let runs_a_frame = runs as f64 / cost.frames.max(1) as f64;
    let mut floor = Sum::default();
    let mut slowest: Option<Slowest> = None;
    for (part, costs) in &round.parts {
        // How often the part's floor is due for a frame of the lane.
        let often = match part {
            Part::Decode => 1.0,
            Part::Infer => runs_a_frame,
            Part::Encode if encode => 1.0,
            Part::Encode | Part::Preprocess => continue,
        };
        let alone = costs.as_ref().ok()?.0.figure();
        floor.parts.insert(*part, alone.cpu_ms * often);
        let fps = alone.fps / often.max(1e-9);
        if slowest.is_none_or(|slowest| fps < slowest.fps) {
            slowest = Some(Slowest { part: *part, fps });
        }
    }
    floor.cpu_ms = floor.parts.values().sum();
    let (lane, slowest_floor) = (cost.figure(), slowest?);
    let ratio = lane.cpu_ms / floor.cpu_ms;
    let over_slowest_floor = lane.fps / slowest_floor.fps;
    Some(Whole { lane, copies, runs_a_frame, floor, ratio, slowest_floor, over_slowest_floor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu_ms: f64, fps: f64) -> Cost {
        Cost { frames: 100, wall: 100.0 / fps, cpu: cpu_ms / 10.0 }
    }

    fn round() -> Round {
        let parts = vec![
            (Part::Decode, Ok((cost(2.0, 500.0), cost(2.2, 450.0)))),
            (Part::Preprocess, Ok((cost(0.1, 9000.0), cost(0.2, 4000.0)))),
            (Part::Infer, Ok((cost(10.0, 100.0), cost(10.5, 95.0)))),
            (Part::Encode, Err("no x264enc".to_owned())),
        ];
        Round { parts, whole: (cost(8.4, 150.0), 50, [("upload".to_owned(), 1.0)].into()) }
    }

    #[test]
    fn the_whole_lane_is_over_what_its_floors_add_up_to_for_a_frame() {
        let whole = whole(&round(), false).unwrap();
        assert_eq!((whole.runs_a_frame, whole.copies["upload"]), (0.5, 1.0));
        assert!((whole.floor.cpu_ms - 7.0).abs() < 1e-9, "{whole:?}");
        assert!((whole.ratio - 1.2).abs() < 1e-9, "{whole:?}");
        // Half the frames are inferred: inference alone would do 200 frames a second.
        assert_eq!(whole.slowest_floor.part, Part::Infer);
        assert!((whole.over_slowest_floor - 0.75).abs() < 1e-9, "{whole:?}");
    }

    #[test]
    fn a_lane_that_encodes_has_no_ratio_without_the_encoder_s_floor() {
        assert!(super::whole(&round(), true).is_none());
    }
}
