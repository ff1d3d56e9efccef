//! What the view, overlay and mask kernels are given: the CPU lane's own tables and drawing calls, as lists.
//!
//! In: pictures in video memory, views, overlays, masks. Out: blocks of bytes for the device and the arguments that refer
//! to them. A [`Drafter`] belongs to one output, as a [`super::Renderer`] does, and shares its geometry, filter tables
//! and painter; so what the kernels make of the lists is the CPU lane's picture, bit for bit. No device is touched here,
//! and nothing fails.

mod marks;
#[cfg(test)]
mod tests;

pub use marks::Drawing;

use crate::flow::{Colorimetry, PixelFormat, Rect, Size};
use crate::gpu::block::Block;
use crate::gpu::params::{Canvas, DevicePicture, Mask, MaskPlane, Span, View, ViewAxis};

use super::axis::Axis;
use super::color::black_luma;
use super::draw::Painter;
use super::mask::Masks;
use super::overlay::Overlay;
use super::placement::Placement;
use super::scale::Scaler;
use marks::{Glyphs, Recorder};

/// Makes the lists of one output.
pub struct Drafter {
    output: Size,
    scaler: Scaler,
    painter: Painter,
    glyphs: Glyphs,
    tables: ViewTables,
}

/// The filter tables of a view: the same for all pictures of one size.
#[derive(Debug, Clone, Default)]
pub struct ViewTables {
    block: Block,
    /// Luma's and chroma's, across and down; addresses count from the block's beginning.
    axes: [ViewAxis; 4],
    of: Option<(Size, Placement)>,
    generation: u64,
}

impl Drafter {
    /// For pictures of this size, at least 1 × 1.
    #[must_use]
    pub fn new(output: Size) -> Self {
        let output = Size::new(output.width.max(1), output.height.max(1));
        Self {
            output,
            scaler: Scaler::default(),
            painter: Painter::new(output),
            glyphs: Glyphs::default(),
            tables: ViewTables::default(),
        }
    }

    /// Whether the output is the source itself, and nothing is to be done; see [`super::Renderer::render`].
    #[must_use]
    pub fn passes(&self, source: &DevicePicture, view: Rect, overlay: Option<&Overlay>) -> bool {
        overlay.is_none_or(Overlay::is_empty)
            && source.format == PixelFormat::Nv12
            && Placement::new(source.size, view, self.output).is_identity(source.size)
    }

    /// The tables of a view, made anew only where it or the source's size changed.
    pub fn view(&mut self, source: Size, view: Rect) -> &ViewTables {
        let placement = Placement::new(source, view, self.output);
        if self.tables.of != Some((source, placement)) {
            let chroma = Size::new(source.width.div_ceil(2), source.height.div_ceil(2));
            self.scaler.prepare(source, chroma, &placement);
            let (luma, chroma) = (&self.scaler.luma, &self.scaler.chroma);
            let block = &mut self.tables.block;
            block.clear();
            self.tables.axes = [&luma.0, &luma.1, &chroma.0, &chroma.1].map(|axis| view_axis(block, axis));
            self.tables.of = Some((source, placement));
            self.tables.generation += 1;
        }
        &self.tables
    }

    /// What to draw over the picture of a view; `None` where there is nothing.
    pub fn overlay(
        &mut self,
        source: Size,
        view: Rect,
        color: Colorimetry,
        overlay: &Overlay,
    ) -> Option<Drawing> {
        let placement = Placement::new(source, view, self.output);
        let mut recorder = Recorder::new(self.output, &mut self.glyphs);
        self.painter.draw(overlay, &placement, color, &mut recorder);
        recorder.finish()
    }

    /// The coverage of all glyphs in use, and a number that changes with it: the device needs it anew then, before the
    /// drawing that [`Self::overlay`] gave last.
    #[must_use]
    pub fn covers(&self) -> (&[u16], u64) {
        self.glyphs.covers()
    }
}

impl ViewTables {
    /// What to copy to the device, to an address that is a multiple of 16.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes()
    }

    /// A number that changes with the bytes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The kernel's argument, with the tables at `address`, for a picture of the size they are made for.
    #[must_use]
    pub fn view(&self, address: u64, source: &DevicePicture, out: Canvas) -> View {
        let at = |axis: ViewAxis| ViewAxis {
            first: axis.first + address,
            weights: axis.weights + address,
            ..axis
        };
        let [luma_x, luma_y, chroma_x, chroma_y] = self.axes.map(at);
        let mut view = View {
            luma: source.luma,
            chroma: source.chroma,
            luma_pitch: source.luma_pitch,
            chroma_pitch: source.chroma_pitch,
            bytes: source.bytes(),
            black: i32::from(black_luma(source.color.range)),
            out,
            luma_x,
            luma_y,
            chroma_x,
            chroma_y,
            ..View::default()
        };
        // Tables of another size would reach out of the planes: then all is black.
        if let Some((_, placement)) = self.of.filter(|(size, _)| *size == source.size) {
            let inner = placement.inner;
            (view.left, view.top) = (inner.left, inner.top);
            (view.width, view.height) = (inner.width(), inner.height());
        }
        view
    }

    /// Threads that the kernel wants, along x and y.
    #[must_use]
    pub fn threads(out: &Canvas) -> [u32; 2] {
        [out.width, out.height].map(|pixels| pixels.max(0).cast_unsigned().div_ceil(2))
    }
}

/// As many taps as the widest output sample uses: what the CPU lane pads for its vectors stays behind.
fn view_axis(block: &mut Block, axis: &Axis) -> ViewAxis {
    let used = |row: &[i16]| row.iter().rposition(|&weight| weight != 0).map_or(1, |last| last + 1);
    let taps = (0..axis.first.len()).map(|index| used(axis.row(index))).max().unwrap_or(1);
    let first: Vec<i32> = axis.first.iter().map(|&first| first as i32).collect();
    let weights: Vec<i16> =
        (0..axis.first.len()).flat_map(|index| &axis.row(index)[..taps]).copied().collect();
    let (first, weights) = (block.push(&first), block.push(&weights));
    ViewAxis { first, weights, taps: taps as i32, reserved: 0 }
}

/// The spans of a stream's masks, for pictures of one size.
#[derive(Debug, Clone)]
pub struct MaskLists {
    block: Block,
    size: Size,
    /// Luma's and chroma's; addresses count from the block's beginning.
    planes: [MaskPlane; 2],
}

impl Masks {
    /// The masks' spans for pictures of this size.
    pub fn lists(&mut self, size: Size) -> MaskLists {
        let spans = self.prepare(size);
        let mut block = Block::default();
        let planes = [(&spans.luma, 1), (&spans.chroma, 2)].map(|(rows, kinds)| {
            let mut starts = vec![0];
            let mut all = Vec::new();
            for row in rows {
                all.extend(row.iter().map(|&(begin, end)| Span { begin: begin as i32, end: end as i32 }));
                starts.push(all.len() as i32);
            }
            let (starts, spans) = (block.push(&starts), block.push(&all));
            MaskPlane { starts, spans, rows: rows.len() as i32, kinds, ..MaskPlane::default() }
        });
        MaskLists { block, size, planes }
    }
}

impl MaskLists {
    /// What to copy to the device, to an address that is a multiple of 16.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes()
    }

    /// The kernel's argument, with the lists at `address`, for a picture of the size they are made for: it is blacked
    /// out in place. `None` for one of another size.
    #[must_use]
    pub fn mask(&self, address: u64, picture: &DevicePicture) -> Option<Mask> {
        let planes = [
            (picture.luma, picture.luma_pitch, black_luma(picture.color.range)),
            (picture.chroma, picture.chroma_pitch, 128),
        ];
        let mut mask = Mask { planes: self.planes };
        for (to, (samples, pitch, value)) in mask.planes.iter_mut().zip(planes) {
            to.samples = samples;
            to.pitch = pitch;
            to.starts += address;
            to.spans += address;
            to.bytes = picture.bytes();
            to.value = i32::from(value) << (8 * (picture.bytes() - 1));
        }
        (picture.size == self.size).then_some(mask)
    }

    /// Threads that the kernel wants, along x, y and z.
    #[must_use]
    pub fn threads(&self) -> [u32; 3] {
        [Mask::LANES, self.size.height, 2]
    }
}
