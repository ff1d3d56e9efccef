//! What a graph's input takes, checked against the manifest.
//!
//! In: the input's declared element type and axes, the manifest, the exporter's metadata. Out: an [`InputSpec`].
//! A mismatch is told in words that name the tensor and the axis.

use ort::value::{Outlet, TensorElementType, ValueType};

use crate::config::Manifest;
use crate::config::manifest::{Channels, Head, HeadLayout, Layout, Window};
use crate::flow::{ElementType, Size};

/// What a graph's input takes.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Name of the tensor.
    pub name: String,
    /// Element type.
    pub element: ElementType,
    /// Width and height of a picture; 0 × 0 where it takes features.
    pub size: Size,
    /// Lengths of the axes after the batch.
    pub axes: Vec<usize>,
    /// The only batch size that the graph takes; `None` where it takes any.
    pub batch: Option<usize>,
    /// The axes as the graph declares them, −1 where any length goes.
    pub declared: Vec<i64>,
}

impl InputSpec {
    /// Shape of a tensor with so many batch entries.
    #[must_use]
    pub fn shape(&self, entries: usize) -> Vec<usize> {
        [&[entries], self.axes.as_slice()].concat()
    }

    /// Reads the graph's input and holds the manifest against it; `image_size` is the exporter's, for graphs with
    /// dynamic axes.
    pub(super) fn new(
        outlets: &[Outlet],
        manifest: &Manifest,
        image_size: Option<Size>,
    ) -> Result<Self, String> {
        let outlet = choose(outlets, "input.name", manifest.input.name.as_deref())?;
        let (name, element, declared) = read(outlet)?;
        let layout = manifest.input.layout;
        let axes = match layout {
            Layout::Nchw => "NCHW",
            Layout::Nhwc => "NHWC",
            Layout::Ntchw => "NTCHW",
            Layout::Ncthw => "NCTHW",
        };
        if declared.len() != axes.len() {
            return Err(format!(
                "input `{name}` has {} axes, {}; the manifest's `input.layout` says {}, {} axes",
                declared.len(),
                shown(&declared),
                axes.to_lowercase(),
                axes.len()
            ));
        }
        let axis = |letter: char| {
            let length = axes.find(letter).map_or(1, |index| declared[index]);
            usize::try_from(length).ok().filter(|length| *length > 0)
        };
        let channels = if manifest.input.channels == Channels::Gray { 1 } else { 3 };
        if let Some(length) = axis('C')
            && length != channels
        {
            return Err(format!(
                "input `{name}` is {}, {length} channels as {}; the manifest's `input.channels` makes {channels}. \
                 Is `input.layout` right?",
                shown(&declared),
                axes.to_lowercase()
            ));
        }
        let size = size(&name, &declared, axis('W'), axis('H'), manifest.input.size, image_size)?;
        let frames = manifest.window.filter(|_| axes.contains('T')).map(|window| window.frames);
        if let (Some(frames), Some(length)) = (frames, axis('T'))
            && frames != length
        {
            return Err(format!(
                "input `{name}` is {}, {length} frames; the manifest's `window.frames` is {frames}",
                shown(&declared)
            ));
        }
        let (width, height, frames) = (size.width as usize, size.height as usize, frames.unwrap_or(1));
        let lengths = match layout {
            Layout::Nchw => vec![channels, height, width],
            Layout::Nhwc => vec![height, width, channels],
            Layout::Ntchw => vec![frames, channels, height, width],
            Layout::Ncthw => vec![channels, frames, height, width],
        };
        Ok(Self { name, element, size, axes: lengths, batch: axis('N'), declared })
    }

    /// Reads the input of a two-stage clip model's head.
    pub(super) fn features(outlets: &[Outlet], head: &Head, window: Window) -> Result<Self, String> {
        let outlet = choose(outlets, "head.input", head.input.as_deref())?;
        let (name, element, declared) = read(outlet)?;
        let (time, axes) = match head.layout {
            HeadLayout::Ntf => (1, "N T F"),
            HeadLayout::Nft => (2, "N F T"),
        };
        let is = format!("the head's input `{name}` is {}", shown(&declared));
        if declared.len() < 3 {
            return Err(format!("{is}; the manifest's `head.layout` makes {axes}, at least 3 axes"));
        }
        let mut lengths = Vec::with_capacity(declared.len() - 1);
        for (index, length) in declared.iter().enumerate().skip(1) {
            match usize::try_from(*length) {
                Ok(length) if index == time && length != window.frames => {
                    return Err(format!(
                        "{is}, {length} frames as {axes}; the manifest's `window.frames` is {}. Is `head.layout` \
                         right?",
                        window.frames
                    ));
                }
                Ok(length) if length > 0 => lengths.push(length),
                _ if index == time => lengths.push(window.frames),
                _ => {
                    return Err(format!(
                        "{is}; only batch and time may be of any length: export it with those of the features"
                    ));
                }
            }
        }
        let batch = usize::try_from(declared[0]).ok().filter(|length| *length > 0);
        Ok(Self { name, element, size: Size::default(), axes: lengths, batch, declared })
    }
}

/// An input's name, element type and axes.
fn read(outlet: &Outlet) -> Result<(String, ElementType, Vec<i64>), String> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(format!("input `{name}` is {}; expected a tensor", outlet.dtype()));
    };
    let element = element(*ty).ok_or_else(|| {
        format!("input `{name}` takes {ty} elements; expected 32-bit floats, 16-bit floats or bytes")
    })?;
    Ok((name, element, shape.to_vec()))
}

/// The element type, where it is one that tensors here have.
pub(super) fn element(of: TensorElementType) -> Option<ElementType> {
    match of {
        TensorElementType::Float32 => Some(ElementType::F32),
        TensorElementType::Float16 => Some(ElementType::F16),
        TensorElementType::Uint8 => Some(ElementType::U8),
        _ => None,
    }
}

/// The manifest's choice among the graph's inputs, or the only one.
fn choose<'a>(outlets: &'a [Outlet], key: &str, wanted: Option<&str>) -> Result<&'a Outlet, String> {
    let names = outlets.iter().map(|outlet| format!("`{}`", outlet.name())).collect::<Vec<_>>().join(", ");
    match (outlets, wanted) {
        ([], _) => Err("the graph has no input".into()),
        ([only], None) => Ok(only),
        ([only], Some(name)) if only.name() == name => Ok(only),
        (_, Some(name)) if !outlets.iter().any(|outlet| outlet.name() == name) => {
            Err(format!("the manifest's `{key}` is `{name}`; the graph has {names}"))
        }
        _ => Err(format!("the graph has the inputs {names}; only graphs with one input can be run")),
    }
}

fn size(
    name: &str,
    declared: &[i64],
    width: Option<usize>,
    height: Option<usize>,
    wanted: Option<Size>,
    image_size: Option<Size>,
) -> Result<Size, String> {
    if let Some(wanted) = wanted {
        let differs = |axis: Option<usize>, wanted: u32| axis.is_some_and(|length| length != wanted as usize);
        if differs(width, wanted.width) || differs(height, wanted.height) {
            return Err(format!(
                "input `{name}` is {}; the manifest's `input.size` is {wanted}",
                shown(declared)
            ));
        }
    }
    let fallback = wanted.or(image_size);
    let length = |axis: Option<usize>, fallback: Option<u32>| match axis {
        Some(length) => u32::try_from(length).ok().filter(|length| *length <= 16384),
        None => fallback,
    };
    length(width, fallback.map(|size| size.width))
        .zip(length(height, fallback.map(|size| size.height)))
        .map(|(width, height)| Size::new(width, height))
        .ok_or_else(|| {
            format!(
                "input `{name}` is {}, of any width and height; the manifest must say `input.size`, such as \
                 \"640x640\"",
                shown(declared)
            )
        })
}

/// Axes for messages, `?` where any length goes.
pub fn shown(axes: &[i64]) -> String {
    let axes = axes.iter().map(|axis| if *axis < 0 { "?".to_owned() } else { axis.to_string() });
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}
