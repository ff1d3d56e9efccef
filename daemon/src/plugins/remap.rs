//! Scores that follow their objects through a row of plugins.
//!
//! In: scores, the objects before and after a plugin. Out: the scores as the next plugin sees them. Nothing fails.

use crate::flow::{Objects, Score};

/// Scores about objects, after a plugin has changed the objects: each follows its object, recognised by model,
/// class and bounds; one whose object is gone is about none.
pub(super) fn remap(scores: &[Score], before: &Objects, after: &Objects) -> Vec<Score> {
    let find = |old: u32| {
        let old = old as usize;
        let bounds = before.bounds.get(old)?;
        let same = |new: &usize| {
            after.bounds[*new] == *bounds
                && after.models[*new] == before.models[old]
                && after.classes[*new] == before.classes[old]
        };
        (0..after.len()).find(same).and_then(|new| u32::try_from(new).ok())
    };
    scores.iter().map(|score| Score { object: score.object.and_then(find), ..score.clone() }).collect()
}
