//! Windows of clip models, chosen by time.
//!
//! In: frames' stream time, and the tensors of those that are wanted, in whatever memory. Out: the last frames'
//! tensors, each time that enough new ones came; [`gather`] makes one tensor of them. A builder belongs to one stream
//! and model. Frames stand on a grid of `1 / fps` seconds of stream time, so the stream's own rate does not matter and
//! nothing drifts. A grid point that no frame came near takes the nearest frame; where more than a second (or two grid
//! steps) is missing, the window starts anew.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::manifest::{Layout, Window};
use crate::flow::{Lent, Recycle, Tensor, TensorData};

/// How early a frame may come before its grid point, as a part of the grid's step.
const EARLY: f64 = 0.25;

/// Seconds without a frame after which a window starts anew.
const GAP: f64 = 1.0;

/// The frames of a window and the span of stream time it covers.
#[derive(Debug, PartialEq)]
pub struct WindowFrames<T: Recycle> {
    /// The tensors of its frames, the oldest first; a frame may stand there more than once.
    pub frames: Vec<Arc<Lent<T>>>,
    /// Stream time of the first frame, nanoseconds.
    pub begin: u64,
    /// Stream time of the last frame, nanoseconds.
    pub end: u64,
}

/// Gathers frames into windows.
#[derive(Debug)]
pub struct WindowBuilder<T: Recycle> {
    window: Window,
    /// Stream time of grid point 0, once a frame came.
    origin: Option<u64>,
    /// Next grid point without a frame.
    next: u64,
    /// Grid points filled since the last window.
    fresh: usize,
    /// Whether a window was given since the start.
    given: bool,
    /// The last grid points' frames, the oldest first.
    frames: VecDeque<(u64, Arc<Lent<T>>)>,
}

impl<T: Recycle> WindowBuilder<T> {
    /// For a model's window.
    #[must_use]
    pub fn new(window: Window) -> Self {
        let frames = VecDeque::with_capacity(window.frames + 1);
        Self { window, origin: None, next: 0, fresh: 0, given: false, frames }
    }

    /// Whether the frame at this stream time (nanoseconds) belongs to the window, and its tensor should be pushed.
    #[must_use]
    pub fn wants(&self, pts: u64) -> bool {
        self.starts_anew(pts) || self.point(pts) >= self.next
    }

    /// Takes the tensor of one frame (one entry, C H W); gives a window where `hop` grid points were filled since
    /// the last one, or the first is full. A frame that is not wanted changes nothing.
    pub fn push(&mut self, pts: u64, frame: impl Into<Lent<T>>) -> Option<WindowFrames<T>> {
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
        let frames = self.frames.iter().map(|(_, frame)| Arc::clone(frame)).collect();
        Some(WindowFrames { frames, begin, end })
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
}

/// Windows as one batch, a window an entry: N T C H W, or N C T H W where the layout is [`Layout::Ncthw`]. All windows
/// have as many frames, each of shape 1 C H W and of one element type. The memory of `out` is used again.
pub fn gather(windows: &[Vec<&Tensor>], layout: Layout, out: &mut Tensor) {
    let Some(first) = windows.first().and_then(|frames| frames.first()) else { return };
    // A frame's tensor is 1 C H W, so its planes are what follows the second axis.
    let [_, channels, height, width] = *first.shape.as_slice() else { return };
    let (count, plane) = (windows[0].len(), height * width);
    let (shape, run) = if layout == Layout::Ncthw {
        ([windows.len(), channels, count, height, width], plane)
    } else {
        ([windows.len(), count, channels, height, width], channels * plane)
    };
    out.fit(first.element(), &shape);
    // Whatever lay around a picture in it.
    out.padding = None;
    let entry = count * channels * plane;
    match &mut out.data {
        TensorData::F32(out) => spread_all(out, entry, windows, run, |frame| match &frame.data {
            TensorData::F32(data) => data,
            _ => &[],
        }),
        TensorData::F16(out) => spread_all(out, entry, windows, run, |frame| match &frame.data {
            TensorData::F16(data) => data,
            _ => &[],
        }),
        TensorData::U8(out) => spread_all(out, entry, windows, run, |frame| match &frame.data {
            TensorData::U8(data) => data,
            _ => &[],
        }),
    }
}

fn spread_all<T: Copy>(
    out: &mut [T],
    entry: usize,
    windows: &[Vec<&Tensor>],
    run: usize,
    data: impl Fn(&Tensor) -> &[T],
) {
    for (out, frames) in out.chunks_exact_mut(entry).zip(windows) {
        spread(out, frames, run, &data);
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
    fn feed(rate: f64, seconds: f64, drop: impl Fn(u64) -> bool) -> (Vec<u64>, Vec<WindowFrames<Tensor>>) {
        let mut builder = WindowBuilder::new(WINDOW);
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
        let mut builder = WindowBuilder::<Tensor>::new(WINDOW);
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
        let mut builder = WindowBuilder::<Tensor>::new(WINDOW);
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
        let mut builder = WindowBuilder::new(window);
        let mut given: Vec<_> =
            (1..=3).filter_map(|i| builder.push(i * 100_000_000, frame(i as f32))).collect();
        assert_eq!(given.len(), 1);
        let frames = given.remove(0).frames;
        let frames: Vec<&Tensor> = frames.iter().map(|frame| &***frame).collect();
        let gather = |layout| {
            let mut out = Tensor::default();
            super::gather(&[frames.clone(), frames.clone()], layout, &mut out);
            let TensorData::F32(data) = &out.data else { panic!("{out:?}") };
            assert_eq!(data[..12], data[12..], "two windows, two entries");
            Tensor::new(out.shape.clone(), TensorData::F32(data[..12].to_vec()))
        };
        let time_first = gather(Layout::Ntchw);
        assert_eq!(time_first.shape, [2, 3, 2, 1, 2]);
        assert_eq!(time_first.as_f32().unwrap(), [1., 1., -1., -1., 2., 2., -2., -2., 3., 3., -3., -3.]);
        let channels_first = gather(Layout::Ncthw);
        assert_eq!(channels_first.shape, [2, 2, 3, 1, 2]);
        assert_eq!(channels_first.as_f32().unwrap(), [1., 1., 2., 2., 3., 3., -1., -1., -2., -2., -3., -3.]);
    }
}
