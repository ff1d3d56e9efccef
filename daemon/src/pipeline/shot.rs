//! A single picture of a stream now and then, for people: a thumbnail, a snapshot.
//!
//! In: a frame, and what to draw over it. Out: the whole frame in host memory, in its own size or smaller; on a GPU that is
//! one counted download. Owned by the stream's delivery. What it needs is made with the first picture and let go when none
//! has been asked for in a while, so a stream that nobody looks at pays nothing. Fails as its lane does.

use std::time::{Duration, Instant};

use super::lane::{Lane, LaneError};
use crate::encode::Input;
use crate::flow::{Picture, Rect, Size};
use crate::publish::messages::Edge;
use crate::render::Overlay;

/// A renderer that was not used for so long is let go.
const IDLE: Duration = Duration::from_secs(5);

/// Takes pictures of one kind.
pub(super) struct Shot<L: Lane> {
    /// Name of the edge.
    name: &'static str,
    /// Pixels across at most.
    width: u32,
    kept: Option<Kept<L>>,
}

struct Kept<L: Lane> {
    size: Size,
    render: L::Render,
    used: Instant,
}

impl<L: Lane> Shot<L> {
    /// Pictures at most so wide.
    pub(super) fn new(name: &'static str, width: u32) -> Self {
        Self { name, width, kept: None }
    }

    /// The whole of a frame of this size.
    ///
    /// # Errors
    /// Where the lane cannot render it.
    pub(super) fn take(
        &mut self,
        lane: &L,
        pixels: &L::Pixels,
        frame: Size,
        overlay: &Overlay,
    ) -> Result<Option<Picture>, LaneError> {
        let size = fitted(frame, self.width);
        let used = Instant::now();
        let kept = match self.kept.take() {
            Some(kept) if kept.size == size => Kept { used, ..kept },
            _ => Kept { size, render: lane.renderer(size, false), used },
        };
        let kept = self.kept.insert(kept);
        let picture = lane.render(&mut kept.render, pixels, Rect::of_size(frame), Some(overlay))?;
        Ok(picture.and_then(|picture| match picture {
            Input::Host(picture) => Some(picture),
            // Only where an encoder on the GPU was asked for.
            Input::Device(_) => None,
        }))
    }

    /// Lets go of what was not used lately.
    pub(super) fn rest(&mut self) {
        self.kept.take_if(|kept| kept.used.elapsed() >= IDLE);
    }

    /// What takes the pictures, while somebody wants them.
    pub(super) fn edge(&self, lane: &L) -> Option<Edge> {
        self.kept.as_ref().map(|_| lane.encode_edge(self.name, "JPEG", false))
    }
}

/// A frame's size, or a smaller one of its aspect.
fn fitted(frame: Size, width: u32) -> Size {
    if frame.width <= width {
        return frame;
    }
    let height = f64::from(frame.height) * f64::from(width) / f64::from(frame.width);
    Size::new(width, ((height / 2.0).round() as u32 * 2).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Colorimetry, Matrix, Range};
    use crate::pipeline::lane::Cpu;

    #[test]
    fn pictures_are_no_wider_than_asked_for_and_keep_their_aspect() {
        assert_eq!(fitted(Size::new(1920, 1080), 640), Size::new(640, 360));
        assert_eq!(fitted(Size::new(1080, 1920), 640), Size::new(640, 1138));
        assert_eq!(fitted(Size::new(320, 241), 640), Size::new(320, 241));
        assert_eq!(fitted(Size::new(10_000, 1), 640), Size::new(640, 2));
    }

    #[test]
    fn a_masked_frame_is_shown_masked_and_the_renderer_goes_when_nobody_looks() {
        let size = Size::new(1280, 720);
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let picture = Picture::nv12(size, color, vec![200; 1280 * 720], vec![90; 1280 * 360]);
        let mut mask = Cpu.masks(vec![vec![[0.0, 0.0], [640.0, 0.0], [640.0, 720.0], [0.0, 720.0]]]);
        let masked = Cpu.mask(&mut mask, &picture).unwrap();
        let mut shot = Shot::<Cpu>::new("thumbnail", 640);
        assert!(shot.edge(&Cpu).is_none());
        let shown = shot.take(&Cpu, &masked, size, &Overlay::default()).unwrap().unwrap();
        assert_eq!(shown.size, Size::new(640, 360));
        for y in [0, 180, 359] {
            let row = &shown.plane(0)[y * shown.strides[0]..][..640];
            assert!(row[..318].iter().all(|&sample| sample == 16), "row {y} shows what is masked");
            assert!(row[322..].iter().all(|&sample| sample == 200), "row {y}");
        }
        assert_eq!(shot.edge(&Cpu).unwrap().name, "encode thumbnail");
        shot.rest();
        assert!(shot.edge(&Cpu).is_some(), "it was just used");
        if let Some(kept) = &mut shot.kept {
            kept.used -= IDLE;
        }
        shot.rest();
        assert!(shot.edge(&Cpu).is_none());
    }
}
