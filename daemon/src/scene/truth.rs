//! What is true of a rendered scene: boxes, identities, visibility, actions, fights, crossings, cuts.
//!
//! In: what the renderer drew. Out: plain data that serialises to the lines of `truth.jsonl`. Nothing fails.

use serde::{Deserialize, Serialize};

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Stands.
    Stand,
    /// Walks.
    Walk,
    /// Runs.
    Run,
    /// Talks with somebody.
    Talk,
    /// Waves.
    Wave,
    /// Dances, alone or with somebody.
    Dance,
    /// Embraces somebody.
    Hug,
    /// Fights with somebody.
    Fight,
    /// Plays ball.
    Play,
}

/// x, y, width, height in pixels.
pub type Bounds = [f32; 4];

/// One person in one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonTruth {
    /// Identity, unique in the scene.
    pub id: u64,
    /// Box around the whole figure, hidden parts too, clipped to the frame.
    #[serde(rename = "box")]
    pub bounds: Bounds,
    /// Visible share of the figure's pixels, 0 to 1; parts outside the frame count as hidden.
    pub visible: f32,
    /// What they do.
    pub action: Action,
}

/// The ball in one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BallTruth {
    /// Box around the whole ball, clipped to the frame.
    #[serde(rename = "box")]
    pub bounds: Bounds,
    /// Visible share of its pixels, 0 to 1.
    pub visible: f32,
}

/// What is true of one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameTruth {
    /// Index of the frame.
    pub index: u64,
    /// Stream time in nanoseconds.
    pub pts: u64,
    /// Everybody at least partly inside the frame.
    pub people: Vec<PersonTruth>,
    /// The ball, where there is one inside the frame.
    pub ball: Option<BallTruth>,
}

/// One fight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FightTruth {
    /// Begin, seconds of stream time.
    pub begin: f64,
    /// End, seconds of stream time.
    pub end: f64,
    /// Who fights.
    pub ids: Vec<u64>,
    /// Union of their boxes over the whole fight.
    #[serde(rename = "box")]
    pub bounds: Bounds,
}

/// A time during which somebody inside the frame was more than half hidden, 2 s at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// Who was hidden.
    pub id: u64,
    /// Begin, seconds of stream time.
    pub begin: f64,
    /// End, seconds of stream time.
    pub end: f64,
    /// Their least visible share.
    pub least: f32,
}

/// What is true of a whole scene: the first line of `truth.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SceneTruth {
    /// `watchpost.truth/1`.
    pub schema: String,
    /// The scene's URI, complete.
    pub spec: String,
    /// Frame width in pixels.
    pub width: u32,
    /// Frame height in pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: f64,
    /// Fights in order of their begin.
    pub fights: Vec<FightTruth>,
    /// Crossings in order of their begin.
    pub crossings: Vec<Crossing>,
    /// How often somebody was more than half hidden for longer than 2 s.
    pub long_hidden: u32,
    /// Scene cuts, seconds of stream time: the first frame at or after it shows the new place.
    pub cuts: Vec<f64>,
}

/// Schema of [`SceneTruth`].
pub const SCHEMA: &str = "watchpost.truth/1";
