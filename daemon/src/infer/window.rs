//! Windows of clip models, chosen by time.
//!
//! In: frames' stream time, and the tensors of those that are wanted. Out: a tensor of the last frames, each time
//! that enough new ones came. A builder belongs to one stream and model. Frames stand on a grid of `1 / fps`
//! seconds of stream time, so the stream's own rate does not matter and nothing drifts. A grid point that no
//! frame came near takes the nearest frame; where more than a second (or two grid steps) is missing, the window
//! starts anew.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::manifest::{Layout, Window};
use crate::flow::{ElementType, Lent, Spares, Tensor, TensorData};

/// How early a frame may come before its grid point, as a part of the grid's step.
const EARLY: f64 = 0.25;

/// Seconds without a frame after which a window starts anew.
const GAP: f64 = 1.0;

/// A window's tensor and the span of stream time it covers.
#[derive(Debug, PartialEq)]
pub struct WindowTensor {
    /// One batch entry: 1 T C H W or 1 C T H W.
    pub tensor: Lent<Tensor>,
    /// Stream time of the first frame, nanoseconds.
    pub begin: u64,
    /// Stream time of the last frame, nanoseconds.
    pub end: u64,
}

/// Gathers frames into windows.
#[derive(Debug)]
pub struct WindowBuilder {
    window: Window,
    layout: Layout,
    /// Stream time of grid point 0, once a frame came.
    origin: Option<u64>,
    /// Next grid point without a frame.
    next: u64,
    /// Grid points filled since the last window.
    fresh: usize,
    /// Whether a window was given since the start.
    given: bool,
    /// The last grid points' frames, the oldest first.
    frames: VecDeque<(u64, Arc<Lent<Tensor>>)>,
    /// Windows that were judged.
    spares: Spares<Tensor>,
}

impl WindowBuilder {
    /// For a model's window and the layout of its input: [`Layout::Ncthw`], else T before C.
    #[must_use]
    pub fn new(window: Window, layout: Layout) -> Self {
        let frames = VecDeque::with_capacity(window.frames + 1);
        let spares = Spares::default();
        Self { window, layout, origin: None, next: 0, fresh: 0, given: false, frames, spares }
    }

    /// Whether the frame at this stream time (nanoseconds) belongs to the window, and its tensor should be pushed.
    #[must_use]
    pub fn wants(&self, pts: u64) -> bool {
        self.starts_anew(pts) || self.point(pts) >= self.next
    }

    /// Takes the tensor of one frame (one entry, C H W); gives a window where `hop` grid points were filled since
    /// the last one, or the first is full. A frame that is not wanted changes nothing.
    pub fn push(&mut self, pts: u64, frame: impl Into<Lent<Tensor>>) -> Option<WindowTensor> {
        if !self.wants(pts) {
            return None;
        }
        if self.starts_anew(pts) {
            self.reset();
            self.origin = Some(pts);
        }
        let point = self.point(pts);
        let frame = Arc::new(frame.into());
        while self.next <= point {
            let before = self.frames.back();
            let nearest = before.filter(|(time, _)| self.distance(*time) < self.distance(pts)).cloned();
            self.frames.push_back(nearest.unwrap_or_else(|| (pts, Arc::clone(&frame))));
            if self.frames.len() > self.window.frames {
                self.frames.pop_front();
            }
            self.next += 1;
            self.fresh += 1;
        }
        let full = self.frames.len() == self.window.frames;
        if !full || (self.given && self.fresh < self.window.hop) {
            return None;
        }
        // What one push filled beyond the hop counts towards the next window.
        self.fresh = if self.given { self.fresh % self.window.hop } else { 0 };
        self.given = true;
        let (begin, end) = (self.frames.front()?.0, self.frames.back()?.0);
        Some(WindowTensor { tensor: self.gather()?, begin, end })
    }

    /// Forgets all frames: the stream has a gap, or looks elsewhere.
    pub fn reset(&mut self) {
        self.frames.clear();
        self.origin = None;
        self.next = 0;
        self.fresh = 0;
        self.given = false;
    }

    fn step(&self) -> f64 {
        1e9 / self.window.fps
    }

    /// Whether this frame is the first, or too much is missing before it, or time went back.
    fn starts_anew(&self, pts: u64) -> bool {
        let limit = (GAP * 1e9).max(2.0 * self.step());
        match self.frames.back() {
            None => true,
            Some((last, _)) => pts < *last || (pts - last) as f64 > limit,
        }
    }

    /// The last grid point that a frame at this time is not too early for.
    fn point(&self, pts: u64) -> u64 {
        let elapsed = pts.saturating_sub(self.origin.unwrap_or(pts)) as f64;
        (elapsed / self.step() + EARLY) as u64
    }

    /// Nanoseconds between a stream time and the next grid point.
    fn distance(&self, pts: u64) -> f64 {
        let elapsed = pts.saturating_sub(self.origin.unwrap_or(pts)) as f64;
        (elapsed - self.next as f64 * self.step()).abs()
    }

    fn gather(&self) -> Option<Lent<Tensor>> {
        let (_, first) = self.frames.front()?;
        let frames: Vec<&Tensor> = self.frames.iter().map(|(_, frame)| &***frame).collect();
        // A frame's tensor is 1 C H W, so its planes are what follows the second axis.
        let [_, channels, height, width] = *first.shape.as_slice() else { return None };
        let (count, plane) = (frames.len(), height * width);
        let (shape, run) = if self.layout == Layout::Ncthw {
            ([1, channels, count, height, width], plane)
        } else {
            ([1, count, channels, height, width], channels * plane)
        };
        let mut tensor = self.spares.lend();
        tensor.fit(first.element(), &shape);
        match &mut tensor.data {
            TensorData::F32(out) => spread(out, &frames, run, |frame| match &frame.data {
                TensorData::F32(data) => data,
                _ => &[],
            }),
            TensorData::F16(out) => spread(out, &frames, run, |frame| match &frame.data {
                TensorData::F16(data) => data,
                _ => &[],
            }),
            TensorData::U8(out) => spread(out, &frames, run, |frame| match &frame.data {
                TensorData::U8(data) => data,
                _ => &[],
            }),
        }
        Some(tensor)
    }

    /// Element type of the frames gathered so far.
    #[must_use]
    pub fn element(&self) -> Option<ElementType> {
        self.frames.front().map(|(_, frame)| frame.element())
    }
}

/// Writes run 0 of every frame, then run 1 of every frame, and so on.
fn spread<T: Copy>(out: &mut [T], frames: &[&Tensor], run: usize, data: impl Fn(&Tensor) -> &[T]) {
    for (index, out) in out.chunks_exact_mut(run).enumerate() {
        let frame = data(frames[index % frames.len()]);
        let start = index / frames.len() * run;
        if let Some(values) = frame.get(start..start + run) {
            out.copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { frames: 16, fps: 8.0, hop: 4 };

    fn frame(value: f32) -> Tensor {
        Tensor::new(vec![1, 2, 1, 2], TensorData::F32(vec![value, value, -value, -value]))
    }

    /// Feeds a stream of `rate` frames a second; gives the taken times and the windows.
    fn feed(rate: f64, seconds: f64, drop: impl Fn(u64) -> bool) -> (Vec<u64>, Vec<WindowTensor>) {
        let mut builder = WindowBuilder::new(WINDOW, Layout::Ntchw);
        let (mut taken, mut windows) = (Vec::new(), Vec::new());
        for index in 0..(rate * seconds) as u64 {
            let pts = (index as f64 * 1e9 / rate) as u64;
            if drop(index) || !builder.wants(pts) {
                continue;
            }
            taken.push(pts);
            windows.extend(builder.push(pts, frame(pts as f32 / 1e9)));
        }
        (taken, windows)
    }

    #[test]
    fn odd_rates_are_sampled_without_drift() {
        for rate in [8.0, 12.5, 24_000.0 / 1001.0, 25.0, 30_000.0 / 1001.0, 59.94, 240.0] {
            let (taken, windows) = feed(rate, 600.0, |_| false);
            assert!((taken.len() as i64 - 4800).abs() <= 1, "{rate}: {} frames", taken.len());
            for (index, pts) in taken.iter().enumerate() {
                let off = *pts as f64 / 1e9 - index as f64 / 8.0;
                assert!(
                    (-0.0313..=1.0 / rate).contains(&off),
                    "{rate}: frame {index} is {off} s off its place"
                );
            }
            // The first window after 16 frames, then one every 4.
            assert_eq!(windows.len(), (taken.len() - 16) / 4 + 1, "{rate}");
            for window in &windows {
                let span = (window.end - window.begin) as f64 / 1e9;
                assert!((span - 15.0 / 8.0).abs() < 0.05, "{rate}: a window of {span} s");
            }
        }
    }

    #[test]
    fn jitter_of_the_exact_rate_loses_nothing() {
        let mut builder = WindowBuilder::new(WINDOW, Layout::Ntchw);
        for index in 0..1000_u64 {
            let jitter = [0, 9_000_000, 3_000_000, 17_000_000][index as usize % 4];
            let pts = 100_000_000 + index * 125_000_000 - jitter;
            assert!(builder.wants(pts), "frame {index}");
            builder.push(pts, frame(0.0));
        }
    }

    #[test]
    fn slow_streams_and_drops_keep_the_windows_in_time() {
        for (rate, drop) in [(5.0, 0), (25.0, 7), (8.0, 3)] {
            let lost = |index: u64| drop > 0 && index % drop < drop / 2;
            let (_, windows) = feed(rate, 60.0, lost);
            let expected = (60.0 * 8.0 - 16.0) / 4.0;
            assert!((windows.len() as f64 - expected).abs() <= 2.0, "{rate}: {}", windows.len());
            for window in &windows {
                let span = (window.end - window.begin) as f64 / 1e9;
                assert!((span - 15.0 / 8.0).abs() < 0.3, "{rate}: a window of {span} s");
            }
        }
    }

    #[test]
    fn gaps_and_resets_start_anew() {
        let mut builder = WindowBuilder::new(WINDOW, Layout::Ntchw);
        let step = 125_000_000;
        for index in 0..15 {
            assert_eq!(builder.push(index * step, frame(0.0)), None);
        }
        let after = 15 * step + 2_000_000_000;
        for index in 0..15 {
            assert_eq!(builder.push(after + index * step, frame(0.0)), None);
        }
        let window = builder.push(after + 15 * step, frame(0.0)).unwrap();
        assert_eq!((window.begin, window.end), (after, after + 15 * step));
        builder.reset();
        assert!(builder.wants(after + 16 * step));
        assert_eq!(builder.push(after + 16 * step, frame(0.0)), None);
    }

    #[test]
    fn layouts_put_time_where_it_belongs() {
        let window = Window { frames: 3, fps: 10.0, hop: 1 };
        let gather = |layout| {
            let mut builder = WindowBuilder::new(window, layout);
            let mut given: Vec<_> =
                (1..=3).filter_map(|i| builder.push(i * 100_000_000, frame(i as f32))).collect();
            assert_eq!(given.len(), 1);
            given.remove(0).tensor
        };
        let time_first = gather(Layout::Ntchw);
        assert_eq!(time_first.shape, [1, 3, 2, 1, 2]);
        assert_eq!(time_first.as_f32().unwrap(), [1., 1., -1., -1., 2., 2., -2., -2., 3., 3., -3., -3.]);
        let channels_first = gather(Layout::Ncthw);
        assert_eq!(channels_first.shape, [1, 2, 3, 1, 2]);
        assert_eq!(channels_first.as_f32().unwrap(), [1., 1., 2., 2., 3., 3., -1., -1., -2., -2., -3., -3.]);
    }
}
