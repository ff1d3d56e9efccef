//! What to draw over a picture: plain data, in source pixels.
//!
//! In: objects, shapes and alerts, as the pipeline knows them. Out: an [`Overlay`] that a renderer draws.
//! Nothing fails.

use crate::flow::{Rect, Severity, Shape};

use super::color;

/// Everything that is drawn over one picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    /// Objects with their labels; later ones are drawn over earlier ones.
    pub boxes: Vec<BoxMark>,
    /// Shapes that plugins drew.
    pub shapes: Vec<Shape>,
    /// Alerts, across the top, the first uppermost.
    pub banners: Vec<Banner>,
    /// A line at the bottom left: the stream's name and the time, say.
    pub caption: Option<String>,
}

impl Overlay {
    /// Whether there is nothing to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty() && self.shapes.is_empty() && self.banners.is_empty() && self.caption.is_none()
    }
}

/// A box around an object.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxMark {
    /// Bounds in source pixels.
    pub bounds: Rect,
    /// Text above it (inside, where it touches the picture's upper edge); empty: none.
    pub label: String,
    /// 0xRRGGBB.
    pub color: u32,
}

impl BoxMark {
    /// The box of an object: `person #12 0.87` in the track's own colour, `person 0.87` in a class's colour
    /// where `track` is 0.
    #[must_use]
    pub fn object(bounds: Rect, name: &str, class: u32, score: f32, track: u64) -> Self {
        if track == 0 {
            return Self { bounds, label: format!("{name} {score:.2}"), color: Self::class_color(class) };
        }
        Self { bounds, label: format!("{name} #{track} {score:.2}"), color: color::of_track(track) }
    }

    /// The colour of a track: the same for one id always, distinct for neighbouring ids.
    #[must_use]
    pub fn track_color(track: u64) -> u32 {
        color::of_track(track)
    }

    /// The colour of objects of a class that belong to no track: pale, so that tracks stand out.
    #[must_use]
    pub fn class_color(class: u32) -> u32 {
        [0x00C8_E6F0, 0x00F0_DCC0, 0x00D2_F0C8, 0x00E6_CDF0, 0x00F0_C8C8, 0x00F0_F0C0][class as usize % 6]
    }
}

/// An alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Banner {
    /// Text, `VIOLENCE — high` say.
    pub text: String,
    /// How grave; sets the colour.
    pub severity: Severity,
}

impl Banner {
    /// The alert for an incident of a kind: `VIOLENCE — high`.
    #[must_use]
    pub fn incident(kind: &str, severity: Severity) -> Self {
        let grade = format!("{severity:?}").to_lowercase();
        Self { text: format!("{} — {grade}", kind.to_uppercase()), severity }
    }

    /// 0xRRGGBB of its background.
    pub(super) fn color(&self) -> u32 {
        match self.severity {
            Severity::Info | Severity::Low => 0x0024_5FA8,
            Severity::Medium => 0x00C7_6A00,
            Severity::High => 0x00C4_1818,
            Severity::Critical => 0x0090_00A0,
        }
    }
}
