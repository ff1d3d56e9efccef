//! A picture for an encoder, in the memory in which it lies.
//!
//! In: pictures in host memory, or rendered ones in video memory. Out: [`Input`], which waits in an output's inbox. Plain
//! data; nothing fails.

use super::cuda::Rendered;
use crate::flow::{Colorimetry, Picture, PixelFormat};

/// A picture for an encoder.
#[derive(Debug, Clone)]
pub enum Input {
    /// In host memory.
    Host(Picture),
    /// In video memory, for an output that was given the GPU.
    Device(Rendered),
}

impl From<Picture> for Input {
    fn from(picture: Picture) -> Self {
        Self::Host(picture)
    }
}

impl From<Rendered> for Input {
    fn from(rendered: Rendered) -> Self {
        Self::Device(rendered)
    }
}

/// What an encoder's pipeline is built for: pictures of another kind need another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kind {
    pub on_gpu: bool,
    pub format: PixelFormat,
    pub color: Colorimetry,
}

impl Input {
    /// What it is.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Host(picture) => Kind { on_gpu: false, format: picture.format, color: picture.color },
            Self::Device(rendered) => {
                Kind { on_gpu: true, format: rendered.format(), color: rendered.color() }
            }
        }
    }
}
