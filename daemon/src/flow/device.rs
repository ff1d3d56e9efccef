//! A decoded picture in video memory: where its planes lie, and who keeps them there.
//!
//! In: addresses, from whoever decoded. Out: plain data that is cheap to clone. No device is touched here: an address is
//! a number, and only the GPU lane follows it.

use std::sync::Arc;

use super::{Colorimetry, Picture, PixelFormat, Size};

/// A picture in video memory: NV12 or P010.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DevicePicture {
    /// Layout; never I420.
    pub format: PixelFormat,
    /// Size of the luma plane.
    pub size: Size,
    /// How to read the colours.
    pub color: Colorimetry,
    /// Address of the luma plane.
    pub luma: u64,
    /// Address of the plane of Cb, Cr pairs.
    pub chroma: u64,
    /// Bytes from one luma row to the next.
    pub luma_pitch: i32,
    /// Bytes from one chroma row to the next.
    pub chroma_pitch: i32,
}

impl DevicePicture {
    /// Bytes of a sample.
    #[must_use]
    pub fn bytes(&self) -> i32 {
        if self.format == PixelFormat::P010 { 2 } else { 1 }
    }

    /// Size of the chroma plane in pairs.
    #[must_use]
    pub fn chroma_size(&self) -> Size {
        Size::new(self.size.width.div_ceil(2), self.size.height.div_ceil(2))
    }
}

/// A decoder's picture that stays in video memory while anybody holds it.
#[derive(Clone)]
pub struct DeviceFrame {
    /// Where it lies.
    pub picture: DevicePicture,
    /// Handle of the CUDA stream whose work so far must be done before the picture is read; `None`: it is done.
    pub stream: Option<u64>,
    /// Keeps the memory.
    pub held: Arc<dyn Send + Sync>,
}

impl std::fmt::Debug for DeviceFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.picture.fmt(f)
    }
}

/// What a decoder gave, in the memory in which it lies.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// In host memory.
    Host(Picture),
    /// In video memory.
    Device(DeviceFrame),
}

impl Decoded {
    /// Size of the picture.
    #[must_use]
    pub fn size(&self) -> Size {
        match self {
            Self::Host(picture) => picture.size,
            Self::Device(frame) => frame.picture.size,
        }
    }
}
