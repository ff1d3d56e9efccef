//! Scores of clip models on their way to a frame.
//!
//! In: the scores of windows, when their model has answered. Out: those that are due with a frame. On a live stream a
//! window's scores never hold a frame back, so they may come late; and where frames wait for a model they may be there
//! early: then they wait for the frame that ended their window. No plugin hears of what its stream has not shown yet. Owned by
//! the worker; bounded, the oldest go first; nothing fails.

use std::collections::VecDeque;

use crate::flow::{Run, Score};

/// Windows kept at most.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Late {
    waiting: VecDeque<(Run, Vec<Score>)>,
    /// Windows that ended by then are of a source that was lost.
    lost: Option<u64>,
}

impl Late {
    /// The scores of a window.
    pub(super) fn push(&mut self, run: Run, scores: Vec<Score>) {
        if self.lost.is_some_and(|lost| run.end <= lost) {
            return;
        }
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back((run, scores));
    }

    /// Adds what is due with the frame at this stream time to its runs and scores, in the order in which it came.
    pub(super) fn take(&mut self, pts: u64, runs: &mut Vec<Run>, scores: &mut Vec<Score>) {
        self.waiting.retain_mut(|(run, found)| {
            let due = run.end <= pts;
            if due {
                runs.push(*run);
                scores.append(found);
            }
            !due
        });
    }

    /// The source was lost after the frame at this stream time: what was seen until then begins no new incident once
    /// it is back, also where a model has yet to answer.
    pub(super) fn forget(&mut self, pts: u64) {
        self.waiting.clear();
        self.lost = Some(pts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(end: u64) -> (Run, Vec<Score>) {
        let score = Score { model: 1, class: 0, value: 0.5, begin: 0, end, object: None, region: None };
        (Run { model: 1, begin: 0, end }, vec![score])
    }

    /// Ends of the runs that are due; each comes with its score.
    fn due(late: &mut Late, pts: u64) -> Vec<u64> {
        let (mut runs, mut scores) = (vec![], vec![]);
        late.take(pts, &mut runs, &mut scores);
        assert_eq!(
            runs.iter().map(|run| run.end).collect::<Vec<_>>(),
            scores.iter().map(|s| s.end).collect::<Vec<_>>()
        );
        runs.iter().map(|run| run.end).collect()
    }

    #[test]
    fn scores_wait_for_the_frame_that_ended_their_window_and_no_longer() {
        let mut late = Late::default();
        for end in [40, 80, 60] {
            let (run, scores) = window(end);
            late.push(run, scores);
        }
        assert_eq!(due(&mut late, 39), [0_u64; 0]);
        assert_eq!(due(&mut late, 60), [40_u64, 60]);
        assert_eq!(due(&mut late, 79), [0_u64; 0]);
        assert_eq!(due(&mut late, 500), [80_u64], "late is better than never");
        assert_eq!(due(&mut late, 900), [0_u64; 0]);
    }

    #[test]
    fn the_oldest_go_where_nobody_takes_them() {
        let mut late = Late::default();
        for end in 0..MOST as u64 + 3 {
            let (run, scores) = window(end);
            late.push(run, scores);
        }
        assert_eq!(due(&mut late, u64::MAX).first(), Some(&3));
    }

    #[test]
    fn what_was_seen_before_a_loss_is_not_heard_of_after_it() {
        let mut late = Late::default();
        for (end, lost) in [(30, false), (40, true), (40, false), (60, false)] {
            let (run, scores) = window(end);
            late.push(run, scores);
            if lost {
                late.forget(50);
            }
        }
        assert_eq!(due(&mut late, u64::MAX), [60]);
    }
}
