//! Buffers for finished NV12 pictures, used again once nobody holds the picture any more.
//!
//! In: sizes. Out: pictures that share a pooled buffer. Owned by a renderer; where all buffers are still
//! held by somebody, another is allocated, and those beyond the pool's limit are simply freed after use.

use std::sync::Arc;

use crate::flow::{Colorimetry, Picture, PixelFormat, Planes, Size};

/// Buffers kept at most: as many as pictures are on their way through an encoder's queue.
const KEPT: usize = 24;

/// The planes of one NV12 picture.
#[derive(Default)]
struct Buffer {
    luma: Vec<u8>,
    chroma: Vec<u8>,
}

impl Planes for Buffer {
    fn plane(&self, index: usize) -> &[u8] {
        if index == 0 { &self.luma } else { &self.chroma }
    }
}

/// Buffers of one size.
#[derive(Default)]
pub(super) struct Pool {
    buffers: Vec<Arc<Buffer>>,
}

impl Pool {
    /// An NV12 picture whose bytes `paint(luma, chroma)` writes; it finds whatever an earlier picture left.
    pub(super) fn picture(
        &mut self,
        size: Size,
        color: Colorimetry,
        paint: impl FnOnce(&mut [u8], &mut [u8]),
    ) -> Picture {
        let stride = size.width as usize;
        let chroma_stride = size.width.div_ceil(2) as usize * 2;
        let mut shared = self.take();
        if let Some(buffer) = Arc::get_mut(&mut shared) {
            buffer.luma.resize(stride * size.height as usize, 0);
            buffer.chroma.resize(chroma_stride * size.height.div_ceil(2) as usize, 0);
            paint(&mut buffer.luma, &mut buffer.chroma);
        }
        if self.buffers.len() < KEPT {
            self.buffers.push(Arc::clone(&shared));
        }
        Picture::new(PixelFormat::Nv12, size, [stride, chroma_stride, 0], color, shared)
    }

    /// A buffer that nobody else holds.
    fn take(&mut self) -> Arc<Buffer> {
        let free = self.buffers.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        free.map(|index| self.buffers.swap_remove(index)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Matrix, Range};

    #[test]
    fn a_buffer_is_used_again_only_when_free() {
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let mut pool = Pool::default();
        let size = Size::new(5, 3);
        let first = pool.picture(size, color, |luma, chroma| {
            luma.fill(1);
            chroma.fill(2);
        });
        assert_eq!((first.plane(0).len(), first.plane(1).len(), first.strides), (15, 12, [5, 6, 0]));
        let second = pool.picture(size, color, |luma, _| luma.fill(7));
        assert!(first.plane(0).iter().all(|&byte| byte == 1), "a held picture was written to");
        let place = first.plane(0).as_ptr();
        drop(first);
        let third = pool.picture(size, color, |luma, _| luma.fill(9));
        assert_eq!(third.plane(0).as_ptr(), place, "a free buffer was not used again");
        assert!(second.plane(0).iter().all(|&byte| byte == 7));
    }
}
