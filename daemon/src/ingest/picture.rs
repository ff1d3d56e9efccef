//! A decoder's buffer as a [`Picture`], without a copy: real strides, the stream's colorimetry.
//!
//! In: a GStreamer buffer and its video info. Out: a picture that keeps the buffer mapped while anybody holds
//! it. Fails where the buffer is smaller than its caps say.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer_video::{self as gst_video, prelude::*};

use crate::flow::{Colorimetry, Matrix, Picture, PixelFormat, Planes, Range, Size};

/// A buffer that stays mapped for reading.
struct Mapped(gst_video::VideoFrame<gst_video::video_frame::Readable>);

impl Planes for Mapped {
    fn plane(&self, index: usize) -> &[u8] {
        u32::try_from(index).ok().and_then(|index| self.0.plane_data(index).ok()).unwrap_or(&[])
    }
}

/// How pictures of one caps are to be read.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) info: gst_video::VideoInfo,
    pub(super) format: PixelFormat,
    pub(super) size: Size,
    pub(super) color: Colorimetry,
}

impl Layout {
    /// From the caps of decoded frames; `tagged`: the compressed stream itself says its colorimetry. None where
    /// the caps are not of a format that the appsink asks for.
    pub(super) fn from_caps(caps: &gst::CapsRef, tagged: bool) -> Option<Self> {
        let info = gst_video::VideoInfo::from_caps(caps).ok()?;
        let format = match info.format() {
            gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
            gst_video::VideoFormat::I420 => PixelFormat::I420,
            gst_video::VideoFormat::P01010le => PixelFormat::P010,
            _ => return None,
        };
        let size = Size::new(info.width(), info.height());
        let color = colorimetry(&info.colorimetry(), size, tagged);
        Some(Self { info, format, size, color })
    }

    /// The picture in a buffer.
    pub(super) fn picture(&self, buffer: gst::Buffer) -> Option<Picture> {
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &self.info).ok()?;
        let mut strides = [0; 3];
        for (stride, &real) in strides.iter_mut().zip(frame.plane_stride()).take(self.format.planes()) {
            *stride = usize::try_from(real).ok()?;
        }
        Some(Picture::new(self.format, self.size, strides, self.color, Arc::new(Mapped(frame))))
    }
}

/// The colorimetry of a stream. What the stream says counts. Where it is silent: BT.709 above 576 rows, else
/// BT.601, as players do; and never BT.2020, which GStreamer would take for 2160 rows and which untagged cameras
/// do not send.
fn colorimetry(said: &gst_video::VideoColorimetry, size: Size, tagged: bool) -> Colorimetry {
    use gst_video::VideoColorMatrix as M;
    let silent = if size.height > 576 { Matrix::Bt709 } else { Matrix::Bt601 };
    let matrix = match said.matrix() {
        M::Bt709 => Matrix::Bt709,
        M::Bt601 | M::Fcc | M::Smpte240m => Matrix::Bt601,
        M::Bt2020 if tagged => Matrix::Bt2020,
        _ => silent,
    };
    let range = match said.range() {
        gst_video::VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
    };
    Colorimetry { matrix, range }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(caps: &str, tagged: bool) -> Layout {
        gst::init().unwrap();
        let caps: gst::Caps = caps.parse().unwrap();
        Layout::from_caps(&caps, tagged).unwrap()
    }

    #[test]
    fn colorimetry_said_and_unsaid() {
        let caps = |size: &str, rest: &str| {
            format!("video/x-raw, format=I420, {size}, framerate=25/1, pixel-aspect-ratio=1/1{rest}")
        };
        let matrix = |caps: &str, tagged| layout(caps, tagged).color.matrix;
        assert_eq!(matrix(&caps("width=768, height=432", ""), false), Matrix::Bt601);
        assert_eq!(matrix(&caps("width=1280, height=720", ""), false), Matrix::Bt709);
        assert_eq!(matrix(&caps("width=3840, height=2160", ""), false), Matrix::Bt709);
        let uhd = caps("width=3840, height=2160", ", colorimetry=bt2020");
        assert_eq!(matrix(&uhd, true), Matrix::Bt2020);
        let sd = caps("width=640, height=360", ", colorimetry=bt709");
        assert_eq!(matrix(&sd, true), Matrix::Bt709);
        let full = layout(&caps("width=640, height=360", ", colorimetry=(string)1:4:0:0"), true);
        assert_eq!(full.color, Colorimetry { matrix: Matrix::Bt601, range: Range::Full });
    }

    #[test]
    fn strides_and_offsets_are_those_of_the_buffer() {
        let layout = layout("video/x-raw, format=I420, width=6, height=4, framerate=25/1", false);
        let mut buffer = gst::Buffer::with_size(64 * 8).unwrap();
        {
            let buffer = buffer.get_mut().unwrap();
            buffer
                .map_writable()
                .unwrap()
                .as_mut_slice()
                .iter_mut()
                .enumerate()
                .for_each(|(i, b)| *b = i as u8);
            gst_video::VideoMeta::add_full(
                buffer,
                gst_video::VideoFrameFlags::empty(),
                gst_video::VideoFormat::I420,
                6,
                4,
                &[3, 64 * 4, 64 * 6],
                &[64, 32, 32],
            )
            .unwrap();
        }
        let picture = layout.picture(buffer).unwrap();
        assert_eq!(picture.strides, [64, 32, 32]);
        assert_eq!((picture.plane(0)[0], picture.plane(0)[64]), (3, 67));
        assert_eq!(picture.plane(1)[0], 0);
        assert!(picture.plane(0).len() >= 64 * 3 + 6 && picture.plane(2).len() >= 32 + 3);
    }

    #[test]
    fn a_buffer_too_small_is_refused() {
        let layout = layout("video/x-raw, format=NV12, width=64, height=64, framerate=25/1", false);
        assert!(layout.picture(gst::Buffer::with_size(100).unwrap()).is_none());
    }
}
