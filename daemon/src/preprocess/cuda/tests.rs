//! The tensor kernels, compiled for the host, against the CPU lane: equal, element by element.
//!
//! Every format the kernel reads × fit × filter × layout × channels × element type, odd sizes, padded pitches,
//! rectangles inside and across the edge, several pictures of different sizes in one launch.

use std::sync::Arc;

use super::*;
use crate::config::manifest::{Channels, Filter, Fit, Input};
use crate::flow::{Colorimetry, ElementType, Matrix, Picture, Range, Tensor, TensorData};
use crate::gpu::host::{argument, launch};
use crate::gpu::kernels;

/// Noise; the same for the same size.
fn picture(format: PixelFormat, size: Size, color: Colorimetry) -> Picture {
    let mut state = u64::from(size.width) << 20 | u64::from(size.height) | 1 << 50;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Extremes often: that is where fixed point overflows, if it does.
        match state >> 60 {
            0 | 1 => 0,
            2 | 3 => 255,
            _ => (state >> 30) as u8,
        }
    };
    let wide = if format == PixelFormat::P010 { 2 } else { 1 };
    let strides = [size.width as usize * wide + 6, size.width.div_ceil(2) as usize * 2 * wide + 10, 0];
    let rows = [size.height, size.height.div_ceil(2)].map(|rows| rows as usize);
    let mut plane = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| next()).collect() };
    let planes = vec![plane(strides[0] * rows[0]), plane(strides[1] * rows[1])];
    Picture::new(format, size, strides, color, Arc::new(planes))
}

/// The picture where it lies, as the kernel wants it: on the host, device addresses are addresses.
fn on_device(picture: &Picture) -> DevicePicture {
    DevicePicture {
        format: picture.format,
        size: picture.size,
        color: picture.color,
        luma: picture.plane(0).as_ptr() as u64,
        chroma: picture.plane(1).as_ptr() as u64,
        luma_pitch: picture.strides[0] as i32,
        chroma_pitch: picture.strides[1] as i32,
    }
}

/// One launch for all pictures and rectangles.
fn by_kernel(preprocessor: &mut Preprocessor, work: &[(&Picture, Rect)]) -> Tensor {
    let mut out = Tensor::zeros(preprocessor.element(), &preprocessor.shape(work.len()));
    let tables: Vec<Tables> =
        work.iter().map(|(picture, rect)| preprocessor.tables(picture.size, rect).unwrap()).collect();
    let jobs: Vec<Job> = work
        .iter()
        .zip(&tables)
        .enumerate()
        .map(|(entry, ((picture, _), tables))| {
            let address = tables.bytes().as_ptr() as u64;
            preprocessor.job(&on_device(picture), tables, address, entry).unwrap()
        })
        .collect();
    let to = match &mut out.data {
        TensorData::F32(data) => data.as_mut_ptr() as u64,
        TensorData::F16(data) => data.as_mut_ptr() as u64,
        TensorData::U8(data) => data.as_mut_ptr() as u64,
    };
    let geometry = preprocessor.geometry();
    let threads = [geometry.width as usize, geometry.height as usize, jobs.len()];
    let (from, count) = (jobs.as_ptr() as u64, jobs.len() as i32);
    let arguments = [argument(&from), argument(&count), argument(&to), argument(&geometry)];
    launch(kernels::tensor(preprocessor.element()), threads, &arguments);
    out
}

/// Samples as they are, in planes of red, green and blue.
fn plain() -> Input {
    let (fit, filter, layout, channels) = (Fit::Letterbox, Filter::Bilinear, Layout::Nchw, Channels::Rgb);
    let (mean, std) = (Vec::new(), Vec::new());
    Input { name: None, layout, channels, size: None, fit, filter, pad: 114.0, scale: 1.0, mean, std }
}

fn inputs() -> Vec<Input> {
    let mut all = Vec::new();
    for fit in [Fit::Letterbox, Fit::LetterboxCorner, Fit::Stretch, Fit::Crop] {
        for filter in [Filter::Bilinear, Filter::Nearest, Filter::Area] {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                for channels in [Channels::Rgb, Channels::Bgr, Channels::Gray] {
                    let (scale, mean, std) =
                        (1.0 / 255.0, vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
                    all.push(Input { fit, filter, layout, channels, scale, mean, std, ..plain() });
                }
            }
        }
    }
    all
}

#[test]
fn the_kernels_give_the_tensors_of_the_cpu_lane() {
    let sizes = [Size::new(161, 91), Size::new(33, 57), Size::new(1, 1), Size::new(640, 8)];
    let colors = [
        Colorimetry { matrix: Matrix::Bt709, range: Range::Limited },
        Colorimetry { matrix: Matrix::Bt601, range: Range::Full },
    ];
    let mut compared = 0;
    for format in [PixelFormat::Nv12, PixelFormat::P010] {
        for color in colors {
            let pictures = sizes.map(|size| picture(format, size, color));
            let mut work: Vec<(&Picture, Rect)> =
                pictures.iter().map(|picture| (picture, Rect::of_size(picture.size))).collect();
            work.push((&pictures[0], Rect::new(20.25, 10.5, 40.0, 61.75)));
            work.push((&pictures[0], Rect::new(-30.0, 60.0, 60.0, 60.0)));
            work.push((&pictures[0], Rect::new(150.0, 80.0, 5.0, 3.0)));
            work.push((&pictures[1], Rect::new(2.0, 1.0, 0.5, 50.0)));
            for input in inputs() {
                for element in [ElementType::F32, ElementType::F16, ElementType::U8] {
                    let size = Size::new(45, 38);
                    // Bytes take what lies between 0 and 255.
                    let bytes = Input { scale: 1.0, mean: vec![], std: vec![], ..input.clone() };
                    let input = if element == ElementType::U8 { &bytes } else { &input };
                    let mut preprocessor = Preprocessor::new(input, size, element).unwrap();
                    let device = by_kernel(&mut preprocessor, &work);
                    for (entry, (picture, rect)) in work.iter().enumerate() {
                        let mut host = Tensor::default();
                        preprocessor.run(picture, &[*rect], &mut host).unwrap();
                        let range = |len: usize| entry * len..(entry + 1) * len;
                        let same = match (&host.data, &device.data) {
                            (TensorData::F32(a), TensorData::F32(b)) => a[..] == b[range(a.len())],
                            (TensorData::F16(a), TensorData::F16(b)) => a[..] == b[range(a.len())],
                            (TensorData::U8(a), TensorData::U8(b)) => a[..] == b[range(a.len())],
                            _ => false,
                        };
                        assert!(same, "{input:?} {element:?} {picture:?} {rect:?}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert_eq!(compared, 2 * 2 * 72 * 3 * 8);
}

#[test]
fn half_precision_rounds_as_the_cpu_does() {
    // Through the kernel: one sample, whose fold makes of it whatever number is wanted.
    let color = Colorimetry { matrix: Matrix::Bt601, range: Range::Full };
    let input = Input { channels: Channels::Gray, ..plain() };
    let one = Size::new(1, 1);
    let mut preprocessor = Preprocessor::new(&input, one, ElementType::F16).unwrap();
    let picture = picture(PixelFormat::Nv12, one, color);
    let tables = preprocessor.tables(one, &Rect::of_size(one)).unwrap();
    let address = tables.bytes().as_ptr() as u64;
    let mut job = preprocessor.job(&on_device(&picture), &tables, address, 0).unwrap();
    let geometry = preprocessor.geometry();
    let mut bits = 1u32;
    for step in 0..200_000u32 {
        // All exponents, and around every tie: odd strides, and numbers just at half a unit of the result.
        bits = bits.wrapping_mul(0x9e37_79b1).wrapping_add(step);
        let pattern =
            if step % 2 == 0 { bits } else { bits & 0xffff_f000 | [0, 1, 0xfff][(bits % 3) as usize] };
        let value = f32::from_bits(pattern);
        if !value.is_finite() {
            continue;
        }
        job.folds[0] = Fold { offset: value, low: value, high: value, ..Fold::default() };
        let mut out = 0u16;
        let (from, count, to) = (&raw const job as u64, 1i32, &raw mut out as u64);
        let arguments = [argument(&from), argument(&count), argument(&to), argument(&geometry)];
        launch(kernels::tensor(ElementType::F16), [1, 1, 1], &arguments);
        assert_eq!(out, half::f16::from_f32(value).to_bits(), "{value:e}");
    }
}

#[test]
fn pictures_the_kernel_cannot_read_are_refused() {
    let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
    let picture = picture(PixelFormat::P010, Size::new(20, 10), color);
    let mut preprocessor = Preprocessor::new(&plain(), Size::new(8, 8), ElementType::F32).unwrap();
    let tables = preprocessor.tables(picture.size, &Rect::of_size(picture.size)).unwrap();
    let good = on_device(&picture);
    let mut refused = |picture: DevicePicture| preprocessor.job(&picture, &tables, 0, 0).is_err();
    assert!(!refused(good));
    assert!(refused(DevicePicture { luma_pitch: 39, ..good }));
    assert!(refused(DevicePicture { chroma_pitch: -40, ..good }));
    assert!(refused(DevicePicture { format: PixelFormat::I420, ..good }));
    assert!(preprocessor.tables(good.size, &Rect::new(50.0, 0.0, 5.0, 5.0)).is_err());
}
