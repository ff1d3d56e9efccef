//! Pictures as GStreamer buffers, without copying their bytes.
//!
//! In: an NV12 or I420 picture, or a rendered one in video memory. Out: a buffer that shares its planes, with their
//! strides in a video meta, and the caps that describe it. A picture of another layout or size is refused.

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::cuda::FEATURE;
use super::input::{Input, Kind};
use crate::flow::{Colorimetry, Matrix, Picture, PixelFormat, Range, Size};

/// One plane of a picture, held by a buffer for as long as GStreamer needs it.
struct Plane {
    picture: Picture,
    index: usize,
}

impl AsRef<[u8]> for Plane {
    fn as_ref(&self) -> &[u8] {
        self.picture.plane(self.index)
    }
}

fn format(format: PixelFormat) -> Option<gst_video::VideoFormat> {
    match format {
        PixelFormat::Nv12 => Some(gst_video::VideoFormat::Nv12),
        PixelFormat::I420 => Some(gst_video::VideoFormat::I420),
        PixelFormat::P010 => None,
    }
}

/// GStreamer's name of a colorimetry: range, matrix, transfer and primaries that go with them (H.273).
fn colorimetry(color: Colorimetry) -> String {
    use gst_video::{
        VideoColorMatrix as M, VideoColorPrimaries as P, VideoColorRange as R, VideoTransferFunction as T,
    };
    let range = match color.range {
        Range::Limited => R::Range16_235,
        Range::Full => R::Range0_255,
    };
    let (matrix, transfer, primaries) = match color.matrix {
        Matrix::Bt601 => (M::Bt601, T::Bt601, P::Smpte170m),
        Matrix::Bt709 => (M::Bt709, T::Bt709, P::Bt709),
        Matrix::Bt2020 => (M::Bt2020, T::Bt202010, P::Bt2020),
    };
    gst_video::VideoColorimetry::new(range, matrix, transfer, primaries).to_string()
}

/// The caps of pictures of a kind, coded at `size`.
pub(super) fn caps(kind: Kind, size: Size, rate: (u32, u32)) -> Result<gst::Caps, String> {
    let Some(format) = format(kind.format) else {
        return Err(format!("pictures of layout {:?} cannot be encoded; expected NV12 or I420", kind.format));
    };
    let mut caps = gst::Caps::builder("video/x-raw")
        .field("format", format.to_str())
        .field("width", size.width as i32)
        .field("height", size.height as i32)
        .field("framerate", gst::Fraction::new(rate.0 as i32, rate.1.max(1) as i32))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("interlace-mode", "progressive")
        .field("colorimetry", colorimetry(kind.color))
        .field("chroma-site", "mpeg2")
        .build();
    if kind.on_gpu {
        caps.make_mut().set_features(0, Some(gst::CapsFeatures::new([FEATURE])));
    }
    Ok(caps)
}

/// A buffer that shares the picture's memory. `size` may be smaller than a picture in host memory: its corner is taken.
pub(super) fn buffer(input: Input, size: Size, pts: u64) -> Result<gst::Buffer, String> {
    match input {
        Input::Host(picture) => host_buffer(&picture, size, pts),
        Input::Device(rendered) if rendered.size() == size => Ok(rendered.into_buffer(pts)),
        Input::Device(rendered) => {
            Err(format!("a picture of {} in video memory does not fit an output of {size}", rendered.size()))
        }
    }
}

fn host_buffer(picture: &Picture, size: Size, pts: u64) -> Result<gst::Buffer, String> {
    let fits = size.width <= picture.size.width && size.height <= picture.size.height;
    let Some(format) = format(picture.format).filter(|_| fits) else {
        return Err(format!("{picture:?} does not fit an output of {size}"));
    };
    let mut buffer = gst::Buffer::new();
    let mut offsets = Vec::with_capacity(3);
    let mut strides = Vec::with_capacity(3);
    {
        let buffer = buffer.make_mut();
        let mut offset = 0;
        for index in 0..picture.format.planes() {
            offsets.push(offset);
            strides.push(picture.strides[index] as i32);
            offset += picture.plane(index).len();
            buffer.append_memory(gst::Memory::from_slice(Plane { picture: picture.clone(), index }));
        }
        buffer.set_pts(gst::ClockTime::from_nseconds(pts));
        let flags = gst_video::VideoFrameFlags::empty();
        gst_video::VideoMeta::add_full(buffer, flags, format, size.width, size.height, &offsets, &strides)
            .map_err(|error| error.to_string())?;
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use gst_video::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_shared_and_described() {
        gst::init().unwrap();
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let planes = vec![vec![1u8; 40 * 33], vec![2u8; 48 * 17]];
        let place = planes[0].as_ptr();
        let strides = [40, 48, 0];
        let picture =
            Picture::new(PixelFormat::Nv12, Size::new(33, 33), strides, color, std::sync::Arc::new(planes));
        let coded = Size::new(32, 32);
        let caps = caps(Input::from(picture.clone()).kind(), coded, (25, 1)).unwrap();
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        assert_eq!(info.colorimetry().to_string(), "bt709");
        let buffer = buffer(picture.clone().into(), coded, 40).unwrap();
        assert_eq!(buffer.memory(0).unwrap().map_readable().unwrap().as_ptr(), place);
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer.as_ref(), &info).unwrap();
        assert_eq!((frame.plane_stride()[0], frame.plane_stride()[1]), (40, 48));
        assert!(frame.plane_data(0).unwrap()[..32].iter().all(|&byte| byte == 1));
        assert!(frame.plane_data(1).unwrap()[..32].iter().all(|&byte| byte == 2));
        assert!(super::buffer(picture.into(), Size::new(64, 32), 0).is_err());
    }

    #[test]
    fn colorimetries_have_their_names() {
        gst::init().unwrap();
        let name = |matrix, range| colorimetry(Colorimetry { matrix, range });
        assert_eq!(name(Matrix::Bt601, Range::Limited), "bt601");
        assert_eq!(name(Matrix::Bt709, Range::Limited), "bt709");
        assert_eq!(name(Matrix::Bt2020, Range::Limited), "bt2020-10");
        assert_eq!(name(Matrix::Bt601, Range::Full), "1:4:16:4");
    }
}
