//! What a graph's input takes, checked against the manifest.
//!
//! In: the input's declared element type and axes, the manifest, the exporter's metadata. Out: an [`InputSpec`].
//! A mismatch is told in words that name the tensor and the axis.

use ort::value::{Outlet, TensorElementType, ValueType};

use crate::config::Manifest;
use crate::config::manifest::{Channels, Layout};
use crate::flow::{ElementType, Size};

/// What a graph's input takes.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Name of the tensor.
    pub name: String,
    /// Element type.
    pub element: ElementType,
    /// Width and height of a picture.
    pub size: Size,
    /// Order of the axes.
    pub layout: Layout,
    /// Channels of a pixel.
    pub channels: usize,
    /// Frames of a window, for clip models.
    pub frames: Option<usize>,
    /// The only batch size that the graph takes; `None` where it takes any.
    pub batch: Option<usize>,
    /// The axes as the graph declares them, −1 where any length goes.
    pub declared: Vec<i64>,
}

impl InputSpec {
    /// Shape of a tensor with so many batch entries.
    #[must_use]
    pub fn shape(&self, entries: usize) -> Vec<usize> {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let frames = self.frames.unwrap_or(1);
        match self.layout {
            Layout::Nchw => vec![entries, self.channels, height, width],
            Layout::Nhwc => vec![entries, height, width, self.channels],
            Layout::Ntchw => vec![entries, frames, self.channels, height, width],
            Layout::Ncthw => vec![entries, self.channels, frames, height, width],
        }
    }

    /// Reads the graph's input and holds the manifest against it; `image_size` is the exporter's, for graphs with
    /// dynamic axes.
    pub(super) fn new(
        outlets: &[Outlet],
        manifest: &Manifest,
        image_size: Option<Size>,
    ) -> Result<Self, String> {
        let outlet = choose(outlets, manifest.input.name.as_deref())?;
        let name = outlet.name().to_owned();
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
            return Err(format!("input `{name}` is {}; expected a tensor", outlet.dtype()));
        };
        let element = match ty {
            TensorElementType::Float32 => ElementType::F32,
            TensorElementType::Float16 => ElementType::F16,
            TensorElementType::Uint8 => ElementType::U8,
            other => {
                return Err(format!(
                    "input `{name}` takes {other} elements; expected 32-bit floats, 16-bit floats or bytes"
                ));
            }
        };
        let declared = shape.to_vec();
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
        let frames = manifest.window.map(|window| window.frames);
        if let (Some(frames), Some(length)) = (frames, axis('T'))
            && frames != length
        {
            return Err(format!(
                "input `{name}` is {}, {length} frames; the manifest's `window.frames` is {frames}",
                shown(&declared)
            ));
        }
        Ok(Self { name, element, size, layout, channels, frames, batch: axis('N'), declared })
    }
}

/// The manifest's choice among the graph's inputs, or the only one.
fn choose<'a>(outlets: &'a [Outlet], wanted: Option<&str>) -> Result<&'a Outlet, String> {
    let names = outlets.iter().map(|outlet| format!("`{}`", outlet.name())).collect::<Vec<_>>().join(", ");
    match (outlets, wanted) {
        ([], _) => Err("the graph has no input".into()),
        ([only], None) => Ok(only),
        ([only], Some(name)) if only.name() == name => Ok(only),
        (_, Some(name)) if !outlets.iter().any(|outlet| outlet.name() == name) => {
            Err(format!("the manifest's `input.name` is `{name}`; the graph has {names}"))
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
