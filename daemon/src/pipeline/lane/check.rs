//! Whether a GPU gives what the CPU gives: the same fixtures through both lanes, compared element by element.
//!
//! In: an opened GPU. Out: a finding for each kernel, with the largest difference. The kernels repeat the CPU lane's
//! arithmetic step by step, so the tolerance is none: PTX that a driver compiles otherwise shows here. Runs on any
//! driver, the software one of the tests included. What cannot be run is a finding too; nothing fails.

use std::sync::Arc;

use super::cuda::{Cuda, CudaShared};
use super::{Cpu, Feed, Lane, LaneError};
use crate::config::Manifest;
use crate::encode::Input;
use crate::flow::{
    Colorimetry, Decoded, ElementType, FrameMeta, Matrix, Picture, PixelFormat, Range, Rect, Size, Tensor,
    TensorView,
};
use crate::pipeline::overlay::outline;
use crate::pipeline::shot::Shot;
use crate::render::{Banner, BoxMark, Overlay};
use crate::telemetry::Registry;

/// What one check found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Finding {
    /// What was compared.
    pub name: String,
    /// Pictures and rectangles that were compared.
    pub cases: usize,
    /// Elements that differ.
    pub different: usize,
    /// Why it could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Finding {
    /// Whether both lanes agree.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.error.is_none() && self.different == 0 && self.cases > 0
    }

    fn of(name: String, outcome: Result<(usize, usize), LaneError>) -> Self {
        match outcome {
            Ok((cases, different)) => Self { name, cases, different, error: None },
            Err(error) => Self { name, cases: 0, different: 0, error: Some(error.to_string()) },
        }
    }
}

/// Compares the lanes on fixtures.
#[must_use]
pub fn check(shared: &CudaShared) -> Vec<Finding> {
    let mut findings = Vec::new();
    for element in [ElementType::F32, ElementType::F16, ElementType::U8] {
        for format in FORMATS {
            let name = format!("tensor {element:?} from {format:?}");
            findings.push(Finding::of(name, tensors(shared, element, format)));
        }
    }
    for format in FORMATS {
        findings.push(Finding::of(format!("view and overlay of {format:?}"), views(shared, format)));
        findings.push(Finding::of(format!("mask on {format:?}"), masks(shared, format)));
        findings.push(Finding::of(format!("thumbnail of {format:?}"), thumbnails(shared, format)));
    }
    findings
}

const FORMATS: [PixelFormat; 3] = [PixelFormat::Nv12, PixelFormat::I420, PixelFormat::P010];
const SIZES: [Size; 3] = [Size::new(640, 360), Size::new(477, 269), Size::new(34, 48)];

/// Inputs that use every branch of the tensor kernel: fixed point and floats, all fits, layouts and channels.
const INPUTS: [&str; 4] = [
    "channels = \"bgr\", fit = \"letterbox-corner\"",
    "channels = \"rgb\", mean = [103.53, 116.28, 123.675], std = [57.375, 57.12, 58.395]",
    "channels = \"gray\", fit = \"stretch\", filter = \"area\", scale = 0.00392156862745098",
    "channels = \"rgb\", fit = \"crop\", filter = \"area\", layout = \"nhwc\"",
];

/// A clip model's: its tensors are made at once, where the host can read them.
fn feed(input: &str, element: ElementType) -> Result<Feed, LaneError> {
    let layout = if input.contains("layout") { "" } else { ", layout = \"nchw\"" };
    let text = format!(
        "task = \"detect\"\nlabels = [\"a\"]\ninput = {{ {input}{layout} }}\noutput = {{ decoder = \"yolox\" }}\n"
    );
    let manifest = Manifest::parse(&text, std::path::Path::new("check.toml"))
        .map_err(|error| LaneError::Stream(error.to_string()))?;
    Ok(Feed { manifest, size: Size::new(160, 128), element, on_host: true })
}

fn tensors(
    shared: &CudaShared,
    element: ElementType,
    format: PixelFormat,
) -> Result<(usize, usize), LaneError> {
    let (mut cpu, mut cuda) = (Cpu, Cuda::new(shared, "check", &Registry::new())?);
    let (mut cases, mut different) = (0, 0);
    for input in INPUTS {
        let feed = feed(input, element)?;
        let (mut on_cpu, mut on_gpu) = (cpu.preprocessor(&feed)?, cuda.preprocessor_at_once(&feed)?);
        for size in SIZES {
            let picture = picture(format, size);
            let mut meta = meta(size);
            let one = cpu.adopt(Decoded::Host(picture.clone()), &mut meta)?;
            let other = cuda.adopt(Decoded::Host(picture), &mut meta)?;
            let inside = Rect::new(3.0, 5.5, size.width as f32 * 0.6, size.height as f32 * 0.7);
            for rect in [Rect::of_size(size), inside] {
                let (mut expected, mut found) = (Tensor::default(), Default::default());
                let left = cpu.preprocess(&mut on_cpu, &one, &rect, &mut expected)?;
                let right = cuda.preprocess(&mut on_gpu, &other, &rect, &mut found)?;
                cases += 1;
                different += usize::from(left != right) + unequal(expected.view(), cuda.read(&found)?);
            }
        }
    }
    Ok((cases, different))
}

/// Elements of a tensor that are not those bytes.
fn unequal(expected: TensorView<'_>, found: &[u8]) -> usize {
    fn count<T: Copy, const N: usize>(expected: &[T], found: &[u8], bytes: impl Fn(T) -> [u8; N]) -> usize {
        let missing = expected.len().saturating_sub(found.len() / N);
        missing
            + expected.iter().zip(found.chunks_exact(N)).filter(|(one, two)| bytes(**one) != **two).count()
    }
    match expected {
        TensorView::F32(values) => count(values, found, f32::to_ne_bytes),
        TensorView::F16(values) => count(values, found, half::f16::to_ne_bytes),
        TensorView::U8(values) => count(values, found, |value| [value]),
    }
}

fn views(shared: &CudaShared, format: PixelFormat) -> Result<(usize, usize), LaneError> {
    let (mut cpu, mut cuda) = (Cpu, Cuda::new(shared, "check", &Registry::new())?);
    let (mut cases, mut different) = (0, 0);
    let overlay = Overlay {
        boxes: vec![BoxMark {
            bounds: Rect::new(5.0, 7.5, 60.0, 40.0),
            label: "person #3".into(),
            color: 0xff_8000,
        }],
        banners: vec![Banner::incident("violence", crate::flow::Severity::High)],
        caption: Some("check 12:00".into()),
        ..Overlay::default()
    };
    for size in SIZES {
        let picture = picture(format, size);
        let mut meta = meta(size);
        let one = cpu.adopt(Decoded::Host(picture.clone()), &mut meta)?;
        let other = cuda.adopt(Decoded::Host(picture), &mut meta)?;
        for output in [size, Size::new(322, 180), Size::new(96, 96)] {
            let (mut left, mut right) = (cpu.renderer(output, false), cuda.renderer(output, false));
            let part = Rect::new(2.25, 3.75, size.width as f32 * 0.5, size.height as f32 * 0.5);
            for (view, overlay) in [(Rect::of_size(size), None), (part, Some(&overlay))] {
                let expected = cpu.render(&mut left, &one, view, overlay)?;
                let found = cuda.render(&mut right, &other, view, overlay)?;
                cases += 1;
                different += unlike(&expected, &found);
            }
        }
    }
    Ok((cases, different))
}

fn masks(shared: &CudaShared, format: PixelFormat) -> Result<(usize, usize), LaneError> {
    let (mut cpu, mut cuda) = (Cpu, Cuda::new(shared, "check", &Registry::new())?);
    let polygons =
        vec![vec![[1.5, 2.0], [30.0, 4.5], [12.0, 33.0]], vec![[0.0, 40.0], [400.0, 44.0], [9.0, 300.0]]];
    let (mut cases, mut different) = (0, 0);
    for size in SIZES {
        let picture = picture(format, size);
        let mut meta = meta(size);
        let one = cpu.adopt(Decoded::Host(picture.clone()), &mut meta)?;
        let other = cuda.adopt(Decoded::Host(picture), &mut meta)?;
        let (mut left, mut right) = (cpu.masks(polygons.clone()), cuda.masks(polygons.clone()));
        let (one, other) = (cpu.mask(&mut left, &one)?, cuda.mask(&mut right, &other)?);
        let (mut left, mut right) = (cpu.renderer(size, false), cuda.renderer(size, false));
        let whole = Rect::of_size(size);
        let expected = cpu.render(&mut left, &one, whole, None)?;
        cases += 1;
        different += unlike(&expected, &cuda.render(&mut right, &other, whole, None)?);
    }
    Ok((cases, different))
}

/// As people are shown a stream: masked, whole, smaller, with what is drawn over it.
fn thumbnails(shared: &CudaShared, format: PixelFormat) -> Result<(usize, usize), LaneError> {
    let (mut cpu, mut cuda) = (Cpu, Cuda::new(shared, "check", &Registry::new())?);
    let polygon = vec![[0.0, 0.0], [90.0, 0.0], [90.0, 60.0], [0.0, 60.0]];
    let camera = outline("follow/main", Rect::new(30.0, 40.0, 200.0, 112.5));
    let overlay = Overlay { shapes: camera.to_vec(), caption: Some("check".into()), ..Overlay::default() };
    let (mut cases, mut different) = (0, 0);
    let (mut left, mut right) = (Shot::new("thumbnail", 322), Shot::new("thumbnail", 322));
    for size in SIZES {
        let picture = picture(format, size);
        let mut meta = meta(size);
        let one = cpu.adopt(Decoded::Host(picture.clone()), &mut meta)?;
        let other = cuda.adopt(Decoded::Host(picture), &mut meta)?;
        let mut masks = (cpu.masks(vec![polygon.clone()]), cuda.masks(vec![polygon.clone()]));
        let (one, other) = (cpu.mask(&mut masks.0, &one)?, cuda.mask(&mut masks.1, &other)?);
        let expected = left.take(&cpu, &one, size, &overlay)?.map(Input::Host);
        let found = right.take(&cuda, &other, size, &overlay)?.map(Input::Host);
        cases += 1;
        different += unlike(&expected, &found);
    }
    Ok((cases, different))
}

/// Samples that differ between two pictures, of whatever strides.
fn unlike(one: &Option<Input>, other: &Option<Input>) -> usize {
    let (Some(Input::Host(one)), Some(Input::Host(other))) = (one, other) else { return 1 << 30 };
    if one.size != other.size || one.format != other.format {
        return 1 << 30;
    }
    let chroma = one.chroma_size();
    let planes = [(one.size.width, one.size.height), (chroma.width * 2, chroma.height)];
    let row = |picture: &Picture, plane: usize, row: usize, width: u32| {
        let start = row * picture.strides[plane];
        picture.plane(plane).get(start..start + width as usize).unwrap_or_default().to_vec()
    };
    let mut different = 0;
    for (plane, (width, height)) in planes.into_iter().enumerate() {
        for line in 0..height as usize {
            let (left, right) = (row(one, plane, line, width), row(other, plane, line, width));
            different +=
                left.iter().zip(&right).filter(|(a, b)| a != b).count() + left.len().abs_diff(right.len());
        }
    }
    different
}

pub(in crate::pipeline) fn meta(size: Size) -> FrameMeta {
    FrameMeta {
        stream: Arc::from("check"),
        index: 0,
        pts: 0,
        captured: 0,
        width: size.width,
        height: size.height,
        cut: false,
        motion: 0.0,
        gap: 0,
    }
}

/// Noise with many extremes, where fixed point overflows if it does; the same for the same size.
fn picture(format: PixelFormat, size: Size) -> Picture {
    let mut state = u64::from(size.width) << 20 | u64::from(size.height) | 1 << 50;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state >> 60 {
            0 | 1 => 0,
            2 | 3 => 255,
            _ => (state >> 30) as u8,
        }
    };
    let wide = if format == PixelFormat::P010 { 2 } else { 1 };
    let (across, down) = (size.width.div_ceil(2) as usize, size.height.div_ceil(2) as usize);
    let pairs = if format == PixelFormat::I420 { across } else { across * 2 * wide };
    let strides = [size.width as usize * wide + 6, pairs + 10, pairs + 10];
    let mut plane = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| next()).collect() };
    let mut planes = vec![plane(strides[0] * size.height as usize), plane(strides[1] * down)];
    if format == PixelFormat::I420 {
        planes.push(plane(strides[2] * down));
    }
    let strides = if format == PixelFormat::I420 { strides } else { [strides[0], strides[1], 0] };
    let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
    Picture::new(format, size, strides, color, Arc::new(planes))
}
