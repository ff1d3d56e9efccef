//! Non-maximum suppression within each class, and the limit on objects.
//!
//! In: candidates in any order. Out: those that stay, the strongest first. Nothing fails.

use crate::flow::Rect;

/// Most candidates that enter suppression; beyond them only the strongest do. It bounds the time that a model
/// with a threshold of nothing can take.
const MAX_CANDIDATES: usize = 5000;

/// Something a decoder found, in input pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Index into the labels.
    pub class: u32,
    /// Confidence.
    pub score: f32,
    /// Bounds in input pixels.
    pub bounds: Rect,
}

/// Sorts by score and drops every candidate whose IoU with a stronger one of its class is above `iou` (greedy
/// NMS); `None` only sorts. At most `limit` stay.
pub fn suppress(candidates: &mut Vec<Candidate>, iou: Option<f32>, limit: usize) {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_CANDIDATES);
    if let Some(iou) = iou {
        let mut kept = 0;
        for index in 0..candidates.len() {
            let candidate = candidates[index];
            let hidden = |strong: &Candidate| {
                strong.class == candidate.class && strong.bounds.iou(&candidate.bounds) > iou
            };
            if !candidates[..kept].iter().any(hidden) {
                candidates[kept] = candidate;
                kept += 1;
                if kept == limit {
                    break;
                }
            }
        }
        candidates.truncate(kept);
    }
    candidates.truncate(limit);
}
