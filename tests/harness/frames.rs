//! Decodes a video file plainly with GStreamer, as a reference beside the daemon's own ingest.
//!
//! In: a file. Out: its frames in order, as the decoder laid them out. The pipeline lives as long as the reader.
//! Panics where the file cannot be decoded.

use std::path::Path;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video as gst_video;
use gstreamer_video::VideoFrameExt;
use watchpost::flow::{Colorimetry, Matrix, Picture, PixelFormat, Range, Size};

/// Reads the frames of a file.
pub struct Frames {
    pipeline: gst::Pipeline,
    sink: AppSink,
}

impl Frames {
    /// Opens a file.
    ///
    /// # Panics
    /// Where GStreamer cannot make the pipeline.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        gst::init().unwrap();
        let text = "filesrc name=source ! decodebin ! appsink name=sink sync=false max-buffers=4 \
                    caps=video/x-raw,format=(string){NV12,I420,P010_10LE}";
        let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
        pipeline.by_name("source").unwrap().set_property("location", file.to_str().unwrap());
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, sink }
    }
}

impl Iterator for Frames {
    type Item = Picture;

    fn next(&mut self) -> Option<Picture> {
        let sample = match self.sink.pull_sample() {
            Ok(sample) => sample,
            Err(error) => {
                assert!(self.sink.is_eos(), "cannot decode: {error}");
                return None;
            }
        };
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let frame =
            gst_video::VideoFrame::from_buffer_readable(sample.buffer_owned().unwrap(), &info).unwrap();
        let (format, planes) = match info.format() {
            gst_video::VideoFormat::Nv12 => (PixelFormat::Nv12, 2),
            gst_video::VideoFormat::I420 => (PixelFormat::I420, 3),
            gst_video::VideoFormat::P01010le => (PixelFormat::P010, 2),
            other => panic!("the decoder gave {other:?}"),
        };
        let mut strides = [0; 3];
        let mut bytes = Vec::new();
        #[expect(clippy::needless_range_loop, reason = "a plane has a number in three places")]
        for plane in 0..planes {
            strides[plane] = frame.plane_stride()[plane] as usize;
            bytes.push(frame.plane_data(plane as u32).unwrap().to_vec());
        }
        let color = color(&info);
        let size = Size::new(info.width(), info.height());
        Some(Picture::new(format, size, strides, color, Arc::new(bytes)))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What the stream says; where it says nothing of the matrix, the size decides, as GStreamer itself does.
fn color(info: &gst_video::VideoInfo) -> Colorimetry {
    let said = info.colorimetry();
    let matrix = match said.matrix() {
        gst_video::VideoColorMatrix::Bt601 => Matrix::Bt601,
        gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        _ if info.height() > 576 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let full = said.range() == gst_video::VideoColorRange::Range0_255;
    Colorimetry { matrix, range: if full { Range::Full } else { Range::Limited } }
}
