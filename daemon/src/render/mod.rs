//! Virtual cameras, overlays and masks on the CPU.
//!
//! In: a decoded [`Picture`], the part of it that a virtual camera shows, and what to draw over it. Out: an
//! NV12 picture of the output's size. Each output owns its [`Renderer`], each stream with masks its
//! [`Masks`]; both run on the caller's thread, keep their buffers, and hold no other resources. Nothing here
//! fails: views that make no sense are brought to the nearest that do.
//!
//! The way of a picture: [`Masks::apply`] first, before anything else sees it; then [`Renderer::render`]:
//! `placement` (which part goes where), `scale` (crop and resize in fixed point), `draw` (overlay).

mod axis;
mod canvas;
mod color;
mod cuda;
mod draw;
mod font;
mod mask;
mod overlay;
mod placement;
mod pool;
mod scale;
mod surface;

pub use cuda::{Drafter, Drawing, MaskLists, ViewTables};
pub use mask::Masks;
pub use overlay::{Banner, BoxMark, Overlay};

use crate::flow::{Picture, PixelFormat, Rect, Size};

use canvas::Canvas;
use color::black_luma;
use draw::Painter;
use placement::Placement;
use pool::Pool;
use scale::Scaler;

/// Makes the pictures of one output.
///
/// Keeps its tables, glyphs and a few buffers, so that a steady stream allocates nothing a frame.
pub struct Renderer {
    output: Size,
    scaler: Scaler,
    painter: Painter,
    pool: Pool,
}

impl Renderer {
    /// A renderer of pictures of this size, at least 1 × 1.
    #[must_use]
    pub fn new(output: Size) -> Self {
        let output = Size::new(output.width.max(1), output.height.max(1));
        Self { output, scaler: Scaler::default(), painter: Painter::new(output), pool: Pool::default() }
    }

    /// Size of the pictures it makes.
    #[must_use]
    pub fn output(&self) -> Size {
        self.output
    }

    /// The part `view` of `source` (in source pixels, fractions count) at the output's size, as NV12 in the
    /// source's colorimetry, with `overlay` drawn over it.
    ///
    /// A view that reaches over the source's edge is moved inside, and cut where it is larger than the
    /// source; one that is no rectangle at all shows the whole source. A view of another aspect than the
    /// output's is not distorted: black bars fill the rest. Shrinking averages over the covered area,
    /// enlarging is bilinear. The whole of an NV12 picture at its own size without an overlay is passed
    /// through without a copy.
    pub fn render(&mut self, source: &Picture, view: Rect, overlay: Option<&Overlay>) -> Picture {
        let placement = Placement::new(source.size, view, self.output);
        let overlay = overlay.filter(|overlay| !overlay.is_empty());
        if overlay.is_none() && placement.is_identity(source.size) && source.format == PixelFormat::Nv12 {
            return source.clone();
        }
        let (painter, scaler) = (&mut self.painter, &mut self.scaler);
        self.pool.picture(self.output, source.color, |luma, chroma| {
            let mut canvas = Canvas::new(self.output, luma, chroma);
            if placement.has_bars() {
                canvas.fill(black_luma(source.color.range), 128);
            }
            scaler.scale(source, &placement, &mut canvas);
            if let Some(overlay) = overlay {
                painter.draw(overlay, &placement, source.color, &mut canvas);
            }
        })
    }
}

#[cfg(test)]
mod tests;
