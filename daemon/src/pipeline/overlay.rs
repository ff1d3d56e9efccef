//! What is drawn over an output: boxes of objects, shapes of plugins, banners of open incidents, virtual cameras.
//!
//! In: what the plugins gave back, frame by frame. Out: an [`Overlay`] for the renderer. Pure; nothing fails.

use std::collections::BTreeMap;

use crate::flow::{Change, Rect, Severity, Shape, ShapeKind};
use crate::plugins::RowOutput;
use crate::publish::messages::Labels;
use crate::render::{Banner, BoxMark, Overlay};

/// How long a banner stays after its incident has ended, nanoseconds of stream time.
const LINGER: u64 = 2_000_000_000;

/// Banners shown at once.
const BANNERS: usize = 3;

/// 0xRRGGBB of a virtual camera's outline.
const CAMERA: u32 = 0x00FF_D800;

/// What a virtual camera shows, as a rectangle with its name.
pub(super) fn outline(camera: &str, bounds: Rect) -> [Shape; 2] {
    let corner = (bounds.x, bounds.y);
    let shape = |kind, points, text: &str| Shape { kind, points, text: text.to_owned(), color: CAMERA };
    [
        shape(ShapeKind::Rectangle, vec![corner, (bounds.right(), bounds.bottom())], ""),
        shape(ShapeKind::Text, vec![corner], camera),
    ]
}

struct Open {
    kind: String,
    severity: Severity,
    ended: Option<u64>,
}

/// The incidents that deserve a banner.
#[derive(Default)]
pub(super) struct Banners {
    open: BTreeMap<u64, Open>,
    now: u64,
}

impl Banners {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Notes the events of a frame at `pts`.
    pub(super) fn take(&mut self, row: &RowOutput, pts: u64) {
        self.now = pts;
        for event in &row.events {
            let event = &event.event;
            let ended = (event.change == Change::End).then_some(pts);
            self.open
                .insert(event.incident, Open { kind: event.kind.clone(), severity: event.severity, ended });
        }
        self.open.retain(|_, open| open.ended.is_none_or(|ended| pts < ended + LINGER));
    }

    /// Everything to draw over this frame.
    pub(super) fn overlay(&self, stream: &str, row: &RowOutput, labels: &[Labels]) -> Overlay {
        let objects = &row.objects;
        let boxes = (0..objects.len())
            .map(|index| {
                let class = objects.classes[index];
                let name = labels
                    .get(objects.models[index] as usize)
                    .and_then(|model| model.labels.get(class as usize))
                    .map_or("?", String::as_str);
                BoxMark::object(
                    objects.bounds[index],
                    name,
                    class,
                    objects.scores[index],
                    objects.tracks[index],
                )
            })
            .collect();
        let mut open: Vec<&Open> = self.open.values().collect();
        open.sort_by_key(|open| std::cmp::Reverse((open.ended.is_none(), open.severity)));
        Overlay {
            boxes,
            shapes: row.shapes.iter().map(|(_, shape)| shape.clone()).collect(),
            banners: open
                .iter()
                .take(BANNERS)
                .map(|open| Banner::incident(&open.kind, open.severity))
                .collect(),
            caption: Some(stream.to_owned()),
        }
    }
}
