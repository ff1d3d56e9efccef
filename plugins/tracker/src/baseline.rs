//! Greedy association by overlap: what the tracker is measured against. Not for use.
//!
//! In: each frame's detections. Out: a track id for each. The best overlapping pair first, no motion,
//! no memory beyond a few frames, no classes of confidence.

use crate::{Bounds, Detection};

/// The simplest tracker that there is.
#[derive(Debug, Clone, Default)]
pub struct GreedyIou {
    /// Id, class group, last box, detector runs since.
    tracks: Vec<(u64, u32, Bounds, u32)>,
}

impl GreedyIou {
    /// A frame on which the detector ran. `least`: overlap from which a detection continues a track;
    /// `patience`: runs without a detection after which a track is forgotten.
    pub fn step(
        &mut self,
        found: &[Detection],
        (least, patience): (f32, u32),
        new_id: &mut dyn FnMut() -> u64,
        ids: &mut Vec<u64>,
    ) {
        ids.clear();
        ids.resize(found.len(), 0);
        let mut pairs = Vec::new();
        for (row, (_, kind, bounds, _)) in self.tracks.iter().enumerate() {
            for (column, d) in found.iter().enumerate().filter(|(_, d)| d.kind == *kind) {
                let overlap = bounds.iou(&d.bounds);
                if overlap >= least {
                    pairs.push((overlap, row, column));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.tracks.iter_mut().for_each(|track| track.3 += 1);
        for (_, row, column) in pairs {
            let track = &mut self.tracks[row];
            if track.3 > 0 && ids[column] == 0 {
                ids[column] = track.0;
                (track.2, track.3) = (found[column].bounds, 0);
            }
        }
        for (id, d) in ids.iter_mut().zip(found).filter(|(id, _)| **id == 0) {
            *id = new_id();
            self.tracks.push((*id, d.kind, d.bounds, 0));
        }
        self.tracks.retain(|track| track.3 <= patience);
    }
}
