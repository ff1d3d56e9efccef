//! The fused pass against a slow, plain one that follows the definitions, element by element.
//!
//! Every format × fit × filter × layout × element type × instruction set, with odd sizes, padded strides, all
//! matrices and ranges, rectangles inside and across the edge. Tolerance: 0.1 of 255 in 32-bit floats, that and
//! the type's own rounding in 16-bit floats, 1 in bytes.

use std::sync::Arc;

use super::{Isa, PreprocessError, Preprocessor, place};
use crate::config::manifest::{Channels, Filter, Fit, Input, Layout};
use crate::flow::{
    Colorimetry, ElementType, Matrix, Picture, PixelFormat, Range, Rect, Size, Tensor, TensorData,
};

const TOLERANCE: f64 = 0.1;

/// A picture whose samples are known as numbers in 8-bit units, by plane Y, U, V.
struct Known {
    picture: Picture,
    samples: [Vec<f64>; 3],
}

/// Noise with sharp edges; the same for the same seed.
fn noise(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32
    }
}

fn known(format: PixelFormat, size: Size, color: Colorimetry) -> Known {
    let mut next = noise(u64::from(size.width) * 31 + u64::from(size.height));
    let bits = if format == PixelFormat::P010 { 1024 } else { 256 };
    let mut plane = |width: u32, height: u32| -> Vec<u32> {
        (0..width * height)
            .map(|_| if next().is_multiple_of(5) { (next() % 2) * (bits - 1) } else { next() % bits })
            .collect()
    };
    let chroma = Size::new(size.width.div_ceil(2), size.height.div_ceil(2));
    let y = plane(size.width, size.height);
    let u = plane(chroma.width, chroma.height);
    let v = plane(chroma.width, chroma.height);
    let rows = |parts: &[&[u32]], width: u32, padding: usize| -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let mut stride = 0;
        for row in 0..parts[0].len() / width as usize {
            let start = bytes.len();
            for column in 0..width as usize {
                for part in parts {
                    let sample = part[row * width as usize + column];
                    if format == PixelFormat::P010 {
                        // The low six bits mean nothing.
                        bytes.extend(((sample << 6) as u16 | 0x2a).to_le_bytes());
                    } else {
                        bytes.push(sample as u8);
                    }
                }
            }
            bytes.resize(bytes.len() + padding, 0xee);
            stride = bytes.len() - start;
        }
        bytes.truncate(bytes.len() - padding);
        (bytes, stride)
    };
    let (luma, luma_stride) = rows(&[&y], size.width, 5);
    let (planes, strides) = if format == PixelFormat::I420 {
        let (u, u_stride) = rows(&[&u], chroma.width, 3);
        let (v, v_stride) = rows(&[&v], chroma.width, 7);
        (vec![luma, u, v], [luma_stride, u_stride, v_stride])
    } else {
        let (pairs, stride) = rows(&[&u, &v], chroma.width, 9);
        (vec![luma, pairs], [luma_stride, stride, 0])
    };
    let unit = f64::from(bits) / 256.0;
    let samples = [y, u, v].map(|plane| plane.into_iter().map(|sample| f64::from(sample) / unit).collect());
    Known { picture: Picture::new(format, size, strides, color, Arc::new(planes)), samples }
}

/// Value of a plane of `width` columns over the span of one input pixel along each axis.
fn resample(plane: &[f64], size: Size, x: [f64; 2], y: [f64; 2], filter: Filter, chroma: bool) -> f64 {
    let axis = |[begin, end]: [f64; 2], len: u32| -> Vec<(usize, f64)> {
        let (center, step, last) = ((begin + end) / 2.0, end - begin, f64::from(len - 1));
        match filter {
            Filter::Nearest => {
                let luma = if chroma { (center * 2.0).floor() } else { center.floor() };
                let nearest = if chroma { (luma / 2.0).floor() } else { luma };
                vec![(nearest.clamp(0.0, last) as usize, 1.0)]
            }
            Filter::Area if step > 1.0 => {
                let covered = |i: u32| (end.min(f64::from(i + 1)) - begin.max(f64::from(i))).max(0.0);
                let total: f64 = (0..len).map(covered).sum();
                (0..len)
                    .map(|i| (i as usize, covered(i) / total))
                    .filter(|(_, weight)| *weight > 0.0)
                    .collect()
            }
            _ => {
                let position = (center - 0.5).clamp(0.0, last);
                let lower = position.floor();
                let weight = position - lower;
                let upper = (lower + 1.0).min(last) as usize;
                vec![(lower as usize, 1.0 - weight), (upper, weight)]
            }
        }
    };
    let columns = axis(x, size.width);
    let value = |row: usize| -> f64 {
        columns.iter().map(|(column, weight)| plane[row * size.width as usize + column] * weight).sum()
    };
    axis(y, size.height).into_iter().map(|(row, weight)| value(row) * weight).sum()
}

/// What one pixel of the input must be, by channel.
fn expected(known: &Known, input: &Input, size: Size, rect: &Rect, column: u32, row: u32) -> Vec<f64> {
    let picture = &known.picture;
    let letterbox = place(picture.size, rect, size, input.fit).unwrap();
    let (source, target) = (letterbox.source, letterbox.target);
    let numbers = |values: &[f32], channel: usize, default: f64| match values {
        [] => default,
        [one] => f64::from(*one),
        many => f64::from(many[channel]),
    };
    let normalise = |channel: usize, sample: f64| {
        let mean = numbers(&input.mean, channel, 0.0);
        (sample * f64::from(input.scale) - mean) / numbers(&input.std, channel, 1.0)
    };
    let inside = |at: u32, start: f32, length: f32| (start..start + length).contains(&(at as f32));
    let channels = if input.channels == Channels::Gray { 1 } else { 3 };
    if !inside(column, target.x, target.width) || !inside(row, target.y, target.height) {
        return (0..channels).map(|channel| normalise(channel, f64::from(input.pad))).collect();
    }
    let edges = |at: u32, target: f32, length: f32, source: f32, samples: f32| {
        let step = f64::from(samples) / f64::from(length);
        [0.0, 1.0].map(|side| f64::from(source) + (f64::from(at) + side - f64::from(target)) * step)
    };
    let x = edges(column, target.x, target.width, source.x, source.width);
    let y = edges(row, target.y, target.height, source.y, source.height);
    let half = |edges: [f64; 2]| edges.map(|edge| edge / 2.0);
    let luma = resample(&known.samples[0], picture.size, x, y, input.filter, false);
    let chroma = |plane: usize| {
        // Whether a chroma plane is shrunk by area goes by its own step, but only where the luma plane is.
        let shrinks = x[1] - x[0] > 1.0 || y[1] - y[0] > 1.0;
        let filter = if input.filter == Filter::Area && !shrinks { Filter::Bilinear } else { input.filter };
        resample(&known.samples[plane], picture.chroma_size(), half(x), half(y), filter, true)
    };
    let full = if picture.format == PixelFormat::P010 { 1023.0 / 4.0 } else { 255.0 };
    let (zero, y_range, c_range) = match picture.color.range {
        Range::Limited => (16.0, 219.0, 224.0),
        Range::Full => (0.0, full, full),
    };
    let (kr, kb) = match picture.color.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    };
    let brightness = (luma - zero) / y_range;
    let clip = |value: f64| (value * 255.0).clamp(0.0, 255.0);
    if channels == 1 {
        return vec![normalise(0, clip(brightness))];
    }
    let (cb, cr) = ((chroma(1) - 128.0) / c_range, (chroma(2) - 128.0) / c_range);
    let red = brightness + 2.0 * (1.0 - kr) * cr;
    let blue = brightness + 2.0 * (1.0 - kb) * cb;
    let green = (brightness - kr * red - kb * blue) / (1.0 - kr - kb);
    let rgb = [red, green, blue].map(clip);
    let order = if input.channels == Channels::Bgr { [2, 1, 0] } else { [0, 1, 2] };
    (0..3).map(|channel| normalise(channel, rgb[order[channel]])).collect()
}

fn value(tensor: &Tensor, index: usize) -> f64 {
    match &tensor.data {
        TensorData::F32(data) => f64::from(data[index]),
        TensorData::F16(data) => data[index].to_f64(),
        TensorData::U8(data) => f64::from(data[index]),
    }
}

/// Compares every element; gives the largest difference in units of a sample of 255.
fn compare(known: &Known, input: &Input, size: Size, element: ElementType, rects: &[Rect], isa: Isa) -> f64 {
    let mut preprocessor = Preprocessor::with_isa(input, size, element, isa).unwrap();
    let mut tensor = Tensor::zeros(ElementType::U8, &[1]);
    preprocessor.run(&known.picture, rects, &mut tensor).unwrap();
    // A second time, with everything cached and the tensor reused, must be the same.
    let first = tensor.clone();
    preprocessor.run(&known.picture, rects, &mut tensor).unwrap();
    assert_eq!(first, tensor);
    let channels = preprocessor.channels();
    let (width, height) = (size.width as usize, size.height as usize);
    let mut worst: f64 = 0.0;
    for (entry, rect) in rects.iter().enumerate() {
        for row in 0..height {
            for column in 0..width {
                let wanted = expected(known, input, size, rect, column as u32, row as u32);
                assert_eq!(wanted.len(), channels);
                for (channel, wanted) in wanted.into_iter().enumerate() {
                    let index = if input.layout == Layout::Nhwc {
                        ((entry * height + row) * width + column) * channels + channel
                    } else {
                        ((entry * channels + channel) * height + row) * width + column
                    };
                    let found = value(&tensor, index);
                    let std = match input.std.as_slice() {
                        [] => 1.0,
                        [one] => f64::from(*one),
                        many => f64::from(many[channel]),
                    };
                    let unit = f64::from(input.scale) / std;
                    let (wanted, rounding) = match element {
                        ElementType::F32 => (wanted, 0.0),
                        ElementType::F16 => (wanted, wanted.abs() / 1024.0),
                        ElementType::U8 => (wanted.round().clamp(0.0, 255.0), 1.0),
                    };
                    let off = ((found - wanted).abs() - rounding).max(0.0) / unit;
                    assert!(
                        off <= TOLERANCE,
                        "{:?} {:?} {element:?} {isa:?} rect {rect:?} channel {channel} at {column},{row}: \
                         {found}, expected {wanted}",
                        known.picture,
                        input
                    );
                    worst = worst.max(off);
                }
            }
        }
    }
    worst
}

fn input(fit: Fit, filter: Filter, layout: Layout, channels: Channels) -> Input {
    let (mean, std) = match channels {
        Channels::Gray => (vec![0.5], vec![0.25]),
        _ => (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]),
    };
    let scale = 1.0 / 255.0;
    Input { name: None, layout, channels, size: None, fit, filter, pad: 114.0, scale, mean, std }
}

const FORMATS: [PixelFormat; 3] = [PixelFormat::Nv12, PixelFormat::I420, PixelFormat::P010];
const BT601: Colorimetry = Colorimetry { matrix: Matrix::Bt601, range: Range::Limited };

#[test]
fn every_combination_agrees_with_the_definition() {
    let size = Size::new(67, 45);
    // Larger and smaller than the picture, neither square nor a multiple of the kernels' width.
    let mut worst: f64 = 0.0;
    for format in FORMATS {
        let known = known(format, size, BT601);
        let rects =
            [Rect::of_size(size), Rect::new(20.3, 9.8, 17.4, 30.1), Rect::new(50.0, -4.0, 40.0, 20.0)];
        for input_size in [Size::new(22, 19), Size::new(90, 71)] {
            for fit in [Fit::Letterbox, Fit::LetterboxCorner, Fit::Stretch, Fit::Crop] {
                for filter in [Filter::Bilinear, Filter::Area, Filter::Nearest] {
                    for layout in [Layout::Nchw, Layout::Nhwc] {
                        for channels in [Channels::Rgb, Channels::Bgr, Channels::Gray] {
                            let mut input = input(fit, filter, layout, channels);
                            for element in [ElementType::F32, ElementType::F16, ElementType::U8] {
                                if element == ElementType::U8 {
                                    (input.scale, input.mean, input.std) = (1.0, vec![], vec![]);
                                }
                                for isa in Isa::all() {
                                    let off = compare(&known, &input, input_size, element, &rects, isa);
                                    worst = worst.max(off);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    println!("largest difference {worst:.4} of 255");
    assert!(worst > 0.0, "nothing was compared");
}

#[test]
fn every_colorimetry_agrees_with_the_definition() {
    for format in FORMATS {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            for range in [Range::Limited, Range::Full] {
                let size = Size::new(40, 22);
                let known = known(format, size, Colorimetry { matrix, range });
                for channels in [Channels::Rgb, Channels::Gray] {
                    let input = input(Fit::Stretch, Filter::Bilinear, Layout::Nchw, channels);
                    let whole = [Rect::of_size(size)];
                    compare(&known, &input, Size::new(33, 17), ElementType::F32, &whole, Isa::detect());
                }
            }
        }
    }
}

#[test]
fn the_smallest_pictures_work() {
    for format in FORMATS {
        for size in [Size::new(1, 1), Size::new(2, 1), Size::new(1, 3), Size::new(3, 3), Size::new(17, 2)] {
            let known = known(format, size, BT601);
            for filter in [Filter::Bilinear, Filter::Area, Filter::Nearest] {
                let input = input(Fit::Letterbox, filter, Layout::Nchw, Channels::Rgb);
                let whole = [Rect::of_size(size)];
                compare(&known, &input, Size::new(9, 8), ElementType::F32, &whole, Isa::detect());
                compare(&known, &input, Size::new(1, 1), ElementType::F32, &whole, Isa::detect());
            }
        }
    }
}

#[test]
fn a_tensor_used_again_is_as_good_as_new() {
    let picture = |width: u32, height: u32, luma: u8| {
        let size = Size::new(width, height);
        Picture::nv12(
            size,
            BT601,
            vec![luma; (width * height) as usize],
            vec![128; (width * height / 2) as usize],
        )
    };
    let pictures = [picture(16, 4, 90), picture(16, 4, 200), picture(4, 16, 90), picture(16, 4, 30)];
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let input = input(Fit::Letterbox, Filter::Bilinear, layout, Channels::Rgb);
        let mut other = Preprocessor::new(&input, Size::new(12, 12), ElementType::F32).unwrap();
        let black = Input { pad: 0.0, ..input.clone() };
        let mut black = Preprocessor::new(&black, Size::new(12, 12), ElementType::F32).unwrap();
        let mut preprocessor = Preprocessor::new(&input, Size::new(12, 12), ElementType::F32).unwrap();
        let mut again = Tensor::default();
        for (turn, picture) in pictures.iter().chain(&pictures).enumerate() {
            let rects = vec![Rect::of_size(picture.size); 1 + usize::from(turn == 5)];
            let mut new = Tensor::default();
            other.run(picture, &rects, &mut new).unwrap();
            preprocessor.run(picture, &rects, &mut again).unwrap();
            assert_eq!(again, new, "turn {turn}");
            if turn == 6 {
                black.run(picture, &rects, &mut again).unwrap();
                assert_ne!(again, new, "another padding");
            }
        }
    }
}

#[test]
fn without_resizing_the_samples_come_through() {
    // Gray, limited range: sample 16 is 0, 235 is 255.
    let size = Size::new(3, 1);
    let picture = Picture::nv12(size, BT601, vec![16, 235, 125], vec![128; 4]);
    let mut plain = input(Fit::Stretch, Filter::Bilinear, Layout::Nchw, Channels::Rgb);
    (plain.scale, plain.mean, plain.std) = (1.0, vec![], vec![]);
    let mut preprocessor = Preprocessor::new(&plain, size, ElementType::U8).unwrap();
    let mut tensor = Tensor::zeros(ElementType::U8, &[0]);
    preprocessor.run(&picture, &[Rect::of_size(size)], &mut tensor).unwrap();
    assert_eq!(tensor.data, TensorData::U8(vec![0, 255, 127, 0, 255, 127, 0, 255, 127]));
    assert_eq!(tensor.shape, [1, 3, 1, 3]);
}

#[test]
fn errors_say_what_is_wrong() {
    let plain = input(Fit::Letterbox, Filter::Bilinear, Layout::Nchw, Channels::Rgb);
    let mut preprocessor = Preprocessor::new(&plain, Size::new(8, 8), ElementType::F32).unwrap();
    let mut tensor = Tensor::zeros(ElementType::F32, &[0]);
    let size = Size::new(4, 4);
    let short = Picture::nv12(size, BT601, vec![0; 16], vec![0; 7]);
    let error = preprocessor.run(&short, &[Rect::of_size(size)], &mut tensor).unwrap_err();
    assert!(matches!(error, PreprocessError::Plane { plane: 1, length: 7, expected: 8, .. }), "{error}");
    let right = Picture::nv12(size, BT601, vec![0; 16], vec![0; 8]);
    let outside = Rect::new(4.0, 0.0, 2.0, 2.0);
    let error = preprocessor.run(&right, &[outside], &mut tensor).unwrap_err();
    assert_eq!(error, PreprocessError::EmptyRect { rect: outside, picture: size });
    preprocessor.run(&right, &[], &mut tensor).unwrap();
    assert_eq!(tensor.shape, [0, 3, 8, 8]);
    let zero = Preprocessor::new(&plain, Size::new(0, 8), ElementType::F32).unwrap_err();
    assert_eq!(zero, PreprocessError::InputSize { size: Size::new(0, 8) });
}
