//! A decoded picture in host memory, as the decoder laid it out: planes, strides, colorimetry.
//!
//! Cheap to clone: the bytes are shared. Nobody writes into a shared picture.

use std::sync::Arc;

use super::Size;

/// How samples are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 8 bit, plane 0 Y, plane 1 interleaved U V at half size.
    Nv12,
    /// 8 bit, planes Y, U, V, chroma at half size.
    I420,
    /// 10 bit in the high bits of little-endian 16-bit words, plane 0 Y, plane 1 interleaved U V at half size.
    P010,
}

impl PixelFormat {
    /// Number of planes.
    #[must_use]
    pub const fn planes(self) -> usize {
        match self {
            Self::Nv12 | Self::P010 => 2,
            Self::I420 => 3,
        }
    }
}

/// Which Y'CbCr matrix (ITU-T H.273 MatrixCoefficients).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// Kr 0.299, Kb 0.114 (SD video).
    Bt601,
    /// Kr 0.2126, Kb 0.0722 (HD video).
    Bt709,
    /// Kr 0.2627, Kb 0.0593 (UHD video).
    Bt2020,
}

/// Nominal range of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// Y 16–235, C 16–240 (times 4 for 10 bit).
    Limited,
    /// 0–255.
    Full,
}

/// How Y'CbCr becomes R'G'B'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Colorimetry {
    /// Matrix.
    pub matrix: Matrix,
    /// Range.
    pub range: Range,
}

/// Whoever holds the bytes of a picture's planes: a mapped GStreamer buffer, or plain vectors.
pub trait Planes: Send + Sync {
    /// The bytes of plane `index`, from its first row, at least `stride × rows` less the last row's padding.
    fn plane(&self, index: usize) -> &[u8];
}

impl Planes for Vec<Vec<u8>> {
    fn plane(&self, index: usize) -> &[u8] {
        &self[index]
    }
}

/// A decoded picture in host memory.
#[derive(Clone)]
pub struct Picture {
    /// Layout of the samples.
    pub format: PixelFormat,
    /// Size of the luma plane. Width and height may be odd: chroma is rounded up.
    pub size: Size,
    /// Bytes from one row to the next, by plane.
    pub strides: [usize; 3],
    /// How to read the colours.
    pub color: Colorimetry,
    planes: Arc<dyn Planes>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({:?} {} {:?})", self.format, self.size, self.color)
    }
}

impl Picture {
    /// A picture over planes that somebody holds.
    #[must_use]
    pub fn new(
        format: PixelFormat,
        size: Size,
        strides: [usize; 3],
        color: Colorimetry,
        planes: Arc<dyn Planes>,
    ) -> Self {
        Self { format, size, strides, color, planes }
    }

    /// An NV12 picture from tightly packed bytes: `width` × `height` of Y, then the rows of U V pairs.
    #[must_use]
    pub fn nv12(size: Size, color: Colorimetry, luma: Vec<u8>, chroma: Vec<u8>) -> Self {
        let stride = size.width as usize;
        let chroma_stride = size.width.div_ceil(2) as usize * 2;
        Self::new(PixelFormat::Nv12, size, [stride, chroma_stride, 0], color, Arc::new(vec![luma, chroma]))
    }

    /// The bytes of a plane, from its first row.
    #[must_use]
    pub fn plane(&self, index: usize) -> &[u8] {
        self.planes.plane(index)
    }

    /// Size of a chroma plane in samples.
    #[must_use]
    pub fn chroma_size(&self) -> Size {
        Size::new(self.size.width.div_ceil(2), self.size.height.div_ceil(2))
    }
}
