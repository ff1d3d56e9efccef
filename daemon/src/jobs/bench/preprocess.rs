//! `watchpost bench preprocess`: how long a frame's way into a tensor takes, beside two floors.
//!
//! In: a raw NV12 frame or one made here, sizes. Out: milliseconds a frame on one thread, and ratios measured in
//! the same run: to a plain pass by way of an RGB picture (what one would write first), and to copying the same
//! bytes. Owns all it measures; nothing is asserted.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::config::manifest::{Channels, Filter, Fit, Input, Layout};
use crate::flow::{Colorimetry, ElementType, Matrix, Picture, Range, Rect, Size, Tensor};
use crate::preprocess::{Isa, Preprocessor};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct PreprocessArgs {
    /// Raw NV12 frame, tightly packed; default: noise
    #[arg(long, value_name = "FILE")]
    pub nv12: Option<PathBuf>,
    /// Size of the frame
    #[arg(long, default_value = "1920x1080", value_name = "WxH")]
    pub size: Size,
    /// Size of the model's input
    #[arg(long, default_value = "640x640", value_name = "WxH")]
    pub input: Size,
    /// Runs of each kind; the median counts
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub repeat: usize,
    /// Write the tensor to a file, as little-endian 32-bit floats in N C H W
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Measures and prints.
///
/// # Errors
/// Where the frame cannot be read or has another length than its size makes, or the tensor cannot be written.
pub fn run(args: &PreprocessArgs) -> anyhow::Result<()> {
    ensure!(args.repeat > 0, "--repeat: 0 given; expected at least 1");
    let Size { width, height } = args.size;
    ensure!(width % 2 == 0 && height % 2 == 0, "--size: {} given; expected even numbers", args.size);
    let luma_len = width as usize * height as usize;
    let bytes = match &args.nv12 {
        None => noise(luma_len * 3 / 2),
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
    };
    let expected = luma_len * 3 / 2;
    ensure!(bytes.len() == expected, "{} bytes given; {} of NV12 are {expected}", bytes.len(), args.size);
    let (luma, chroma) = bytes.split_at(luma_len);
    let color = Colorimetry { matrix: Matrix::Bt601, range: Range::Limited };
    let picture = Picture::nv12(args.size, color, luma.to_vec(), chroma.to_vec());
    let input = input();
    let rect = [Rect::of_size(args.size)];

    let mut tensor = Tensor::zeros(ElementType::F32, &[0]);
    let mut fused = Preprocessor::new(&input, args.input, ElementType::F32)?;
    fused.run(&picture, &rect, &mut tensor)?;
    if let Some(file) = &args.dump {
        let values = tensor.as_f32().unwrap_or_default();
        let dumped: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(file, dumped).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut baseline_tensor = Tensor::default();
    let mut baseline = Preprocessor::with_isa(&input, args.input, ElementType::F32, Isa::baseline())?;
    let mut plain = Plain::new(&picture, args.input);
    let mut copy = Copy::new(bytes.clone(), tensor_bytes(args.input));

    // The kinds take turns, so that whatever else the machine does falls on all of them alike.
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..args.repeat {
        times[0].push(timed(|| fused.run(&picture, &rect, &mut tensor))?);
        times[1].push(timed(|| baseline.run(&picture, &rect, &mut baseline_tensor))?);
        times[2].push(timed(|| -> Result<(), std::convert::Infallible> {
            plain.run(&picture);
            Ok(())
        })?);
        times[3].push(timed(|| -> Result<(), std::convert::Infallible> {
            copy.run();
            Ok(())
        })?);
    }
    black_box(&tensor);
    let [fused, baseline, plain, copy] = times.map(median);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let isa = Isa::detect().name();
    if args.json {
        let report = serde_json::json!({
            "frame": args.size.to_string(), "input": args.input.to_string(), "isa": isa,
            "fused_ms": ms(fused), "fused_baseline_ms": ms(baseline), "plain_ms": ms(plain), "copy_ms": ms(copy),
            "over_plain": ms(plain) / ms(fused), "over_copy": ms(fused) / ms(copy),
        });
        println!("{report}");
        return Ok(());
    }
    println!(
        "preprocess, one thread, {} NV12 in memory to {} f32 letterbox, median of {}:",
        args.size, args.input, args.repeat
    );
    println!("  fused pass ({isa})        {:8.3} ms", ms(fused));
    println!("  fused pass (baseline)    {:8.3} ms", ms(baseline));
    println!(
        "  plain, through RGB       {:8.3} ms   {:.1} × the fused pass",
        ms(plain),
        ms(plain) / ms(fused)
    );
    println!(
        "  copying the same bytes   {:8.3} ms   the fused pass is {:.1} × that",
        ms(copy),
        ms(fused) / ms(copy)
    );
    Ok(())
}

fn input() -> Input {
    Input {
        name: None,
        layout: Layout::Nchw,
        channels: Channels::Rgb,
        size: None,
        fit: Fit::Letterbox,
        filter: Filter::Bilinear,
        pad: 114.0,
        scale: 1.0 / 255.0,
        mean: vec![],
        std: vec![],
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn tensor_bytes(input: Size) -> usize {
    input.width as usize * input.height as usize * 3 * 4
}

fn timed<E>(run: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let begin = Instant::now();
    run()?;
    Ok(begin.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Reads every byte of a frame and writes every byte of a tensor, and does nothing else.
pub(super) struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Copy {
    /// For a frame of these bytes and a tensor of so many.
    pub(super) fn new(from: Vec<u8>, tensor: usize) -> Self {
        let to = vec![0; from.len().max(tensor)];
        Self { from, to }
    }

    /// Does it once.
    pub(super) fn run(&mut self) {
        let (copied, rest) = self.to.split_at_mut(self.from.len());
        copied.copy_from_slice(&self.from);
        rest.fill(114);
        black_box(&mut self.to);
    }
}

/// The way by an RGB picture: convert every pixel, resize, then normalise into planes.
struct Plain {
    rgb: Vec<u8>,
    resized: Vec<u8>,
    tensor: Vec<f32>,
    scaled: Size,
    input: Size,
}

impl Plain {
    fn new(picture: &Picture, input: Size) -> Self {
        let scale = (f64::from(input.width) / f64::from(picture.size.width))
            .min(f64::from(input.height) / f64::from(picture.size.height));
        let side = |length: u32| (f64::from(length) * scale).round() as u32;
        let scaled = Size::new(side(picture.size.width), side(picture.size.height));
        let pixels = |size: Size| size.width as usize * size.height as usize;
        Self {
            rgb: vec![0; pixels(picture.size) * 3],
            resized: vec![0; pixels(scaled) * 3],
            tensor: vec![0.0; pixels(input) * 3],
            scaled,
            input,
        }
    }

    fn run(&mut self, picture: &Picture) {
        let (width, height) = (picture.size.width as usize, picture.size.height as usize);
        let (luma, chroma) = (picture.plane(0), picture.plane(1));
        for (row, out) in self.rgb.chunks_exact_mut(width * 3).enumerate() {
            let luma = &luma[row * width..][..width];
            let chroma = &chroma[row / 2 * width..][..width];
            for (column, out) in out.chunks_exact_mut(3).enumerate() {
                let y = 1.164_38 * (f32::from(luma[column]) - 16.0);
                let u = f32::from(chroma[column & !1]) - 128.0;
                let v = f32::from(chroma[column | 1]) - 128.0;
                out[0] = (y + 1.596_03 * v + 0.5) as u8;
                out[1] = (y - 0.391_76 * u - 0.812_97 * v + 0.5) as u8;
                out[2] = (y + 2.017_23 * u + 0.5) as u8;
            }
        }
        let (out_width, out_height) = (self.scaled.width as usize, self.scaled.height as usize);
        let (x_step, y_step) = (width as f32 / out_width as f32, height as f32 / out_height as f32);
        let place = |at: usize, step: f32, length: usize| {
            let position = ((at as f32 + 0.5) * step - 0.5).clamp(0.0, (length - 1) as f32);
            let lower = position as usize;
            (lower, (lower + 1).min(length - 1), position - lower as f32)
        };
        for (row, out) in self.resized.chunks_exact_mut(out_width * 3).enumerate() {
            let (upper, lower, down) = place(row, y_step, height);
            for (column, out) in out.chunks_exact_mut(3).enumerate() {
                let (left, right, across) = place(column, x_step, width);
                for (channel, out) in out.iter_mut().enumerate() {
                    let at =
                        |row: usize, column: usize| f32::from(self.rgb[(row * width + column) * 3 + channel]);
                    let top = at(upper, left) + (at(upper, right) - at(upper, left)) * across;
                    let bottom = at(lower, left) + (at(lower, right) - at(lower, left)) * across;
                    *out = (top + (bottom - top) * down + 0.5) as u8;
                }
            }
        }
        let (columns, rows) = (self.input.width as usize, self.input.height as usize);
        let (left, top) = ((columns - out_width) / 2, (rows - out_height) / 2);
        self.tensor.fill(114.0 / 255.0);
        for (channel, plane) in self.tensor.chunks_exact_mut(columns * rows).enumerate() {
            for (row, values) in self.resized.chunks_exact(out_width * 3).enumerate() {
                let out = &mut plane[(top + row) * columns + left..][..out_width];
                for (out, pixel) in out.iter_mut().zip(values.chunks_exact(3)) {
                    *out = f32::from(pixel[channel]) / 255.0;
                }
            }
        }
        if let [first, ..] = self.tensor.as_slice() {
            black_box(first);
        }
    }
}
