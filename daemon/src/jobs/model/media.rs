//! Pictures and videos from files, and pictures into PNG files, with GStreamer.
//!
//! In: a file. Out: its frames in order with their time; a PNG. A [`Frames`] owns its pipeline and stops it when
//! dropped. What GStreamer cannot read or write is an error with GStreamer's words.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video as gst_video;
use gstreamer_video::VideoFrameExt;

use crate::flow::{Colorimetry, Matrix, Picture, PixelFormat, Range, Size};

/// How long an element may take for one frame.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// Reads the frames of a picture or video.
pub(super) struct Frames {
    pipeline: gst::Pipeline,
    sink: AppSink,
    name: String,
}

impl Frames {
    /// Opens a file.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        let name = file.display().to_string();
        std::fs::File::open(file).with_context(|| format!("cannot read {name}"))?;
        let text = "filesrc name=source ! decodebin ! videoconvert ! appsink name=sink sync=false max-buffers=2 \
                    caps=video/x-raw,format=(string){NV12,I420,P010_10LE}";
        let pipeline = pipeline(text)?;
        element(&pipeline, "source")?
            .set_property("location", file.to_str().context("a file name in UTF-8")?);
        let sink = element(&pipeline, "sink")?.downcast::<AppSink>().map_err(|_| anyhow!("no appsink"))?;
        let frames = Self { pipeline, sink, name };
        if frames.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(frames.wrong("cannot be opened"));
        }
        Ok(frames)
    }

    /// The next frame and its time in nanoseconds; `None` at the end.
    pub(super) fn next_frame(&mut self) -> anyhow::Result<Option<(u64, Picture)>> {
        let Some(sample) = self.sink.try_pull_sample(PATIENCE) else {
            let failed = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            if let Some(gst::MessageView::Error(error)) = failed.as_ref().map(|message| message.view()) {
                bail!("{}: {}", self.name, error.error());
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
            return Err(self.wrong("gave no frame in time"));
        };
        let (caps, buffer) =
            (sample.caps().context("a frame's caps")?, sample.buffer_owned().context("a frame")?);
        let pts = buffer.pts().map_or(0, gst::ClockTime::nseconds);
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info)
            .map_err(|_| self.wrong("gave a frame that is smaller than its caps say"))?;
        Ok(Some((pts, picture(&info, &frame)?)))
    }

    fn wrong(&self, problem: &str) -> anyhow::Error {
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => anyhow!("{}: {problem}: {}", self.name, error.error()),
            _ => anyhow!("{}: {problem}", self.name),
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // Going to NULL joins the pipeline's threads; it cannot be refused.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn pipeline(text: &str) -> anyhow::Result<gst::Pipeline> {
    gst::init()?;
    gst::parse::launch(text)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("no pipeline"))
}

fn element(pipeline: &gst::Pipeline, name: &str) -> anyhow::Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("no element {name}"))
}

fn picture(
    info: &gst_video::VideoInfo,
    frame: &gst_video::VideoFrame<gst_video::video_frame::Readable>,
) -> anyhow::Result<Picture> {
    let format = match info.format() {
        gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
        gst_video::VideoFormat::I420 => PixelFormat::I420,
        gst_video::VideoFormat::P01010le => PixelFormat::P010,
        other => bail!("decoded to {other:?}"),
    };
    let mut strides = [0; 3];
    let mut planes = Vec::new();
    for (index, stride) in strides.iter_mut().enumerate().take(format.planes()) {
        *stride = usize::try_from(frame.plane_stride()[index])?;
        planes.push(frame.plane_data(index as u32)?.to_vec());
    }
    let said = info.colorimetry();
    // As ingest does: a stream that says nothing is BT.709 above 576 rows, else BT.601.
    let matrix = match said.matrix() {
        gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt601 | gst_video::VideoColorMatrix::Smpte240m => Matrix::Bt601,
        gst_video::VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        _ if info.height() > 576 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let full = said.range() == gst_video::VideoColorRange::Range0_255;
    let color = Colorimetry { matrix, range: if full { Range::Full } else { Range::Limited } };
    let size = Size::new(info.width(), info.height());
    Ok(Picture::new(format, size, strides, color, Arc::new(planes)))
}

/// Writes an NV12 picture as a PNG file.
pub(super) fn write_png(picture: &Picture, file: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", file.display());
    let pipeline = pipeline("appsrc name=source format=time ! videoconvert ! pngenc ! filesink name=sink")?;
    element(&pipeline, "sink")?.set_property("location", file.to_str().context("a file name in UTF-8")?);
    let source = element(&pipeline, "source")?.downcast::<AppSrc>().map_err(|_| anyhow!("no appsrc"))?;
    let written = push(picture, &pipeline, &source);
    let _ = pipeline.set_state(gst::State::Null);
    written.with_context(context)
}

fn push(picture: &Picture, pipeline: &gst::Pipeline, source: &AppSrc) -> anyhow::Result<()> {
    let Size { width, height } = picture.size;
    let range = match picture.color.range {
        Range::Full => gst_video::VideoColorRange::Range0_255,
        Range::Limited => gst_video::VideoColorRange::Range16_235,
    };
    let (matrix, primaries) = match picture.color.matrix {
        Matrix::Bt601 => (gst_video::VideoColorMatrix::Bt601, gst_video::VideoColorPrimaries::Smpte170m),
        Matrix::Bt709 => (gst_video::VideoColorMatrix::Bt709, gst_video::VideoColorPrimaries::Bt709),
        Matrix::Bt2020 => (gst_video::VideoColorMatrix::Bt2020, gst_video::VideoColorPrimaries::Bt2020),
    };
    let transfer = gst_video::VideoTransferFunction::Bt709;
    let colorimetry = gst_video::VideoColorimetry::new(range, matrix, transfer, primaries);
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, width, height)
        .colorimetry(&colorimetry)
        .fps(gst::Fraction::new(1, 1))
        .build()?;
    source.set_caps(Some(&info.to_caps()?));
    let mut buffer = gst::Buffer::with_size(info.size())?;
    {
        let buffer = buffer.get_mut().context("a buffer of its own")?;
        buffer.set_pts(gst::ClockTime::ZERO);
        let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info)?;
        for plane in 0..2 {
            let stride = usize::try_from(frame.plane_stride()[plane])?;
            let from = picture.plane(plane);
            let used = picture.strides[plane].min(stride);
            let rows = frame.plane_data_mut(plane as u32)?.chunks_mut(stride);
            for (to, from) in rows.zip(from.chunks(picture.strides[plane])) {
                let used = used.min(from.len()).min(to.len());
                to[..used].copy_from_slice(&from[..used]);
            }
        }
    }
    pipeline.set_state(gst::State::Playing)?;
    source.push_buffer(buffer)?;
    source.end_of_stream()?;
    let bus = pipeline.bus().context("the pipeline's bus")?;
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    match bus.timed_pop_filtered(PATIENCE, &wanted).as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
        _ => bail!("the encoder did not end in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_written_is_the_picture_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("picture.png");
        let size = Size::new(66, 38);
        let color = Colorimetry { matrix: Matrix::Bt601, range: Range::Limited };
        let luma: Vec<u8> = (0..66 * 38).map(|at| 40 + (at % 66 * 2) as u8).collect();
        let picture = Picture::nv12(size, color, luma.clone(), vec![128; 66 * 19]);
        write_png(&picture, &file).unwrap();
        let mut frames = Frames::open(&file).unwrap();
        let (_, read) = frames.next_frame().unwrap().unwrap();
        assert_eq!(read.size, size);
        for (row, expected) in luma.chunks(66).enumerate() {
            let found = &read.plane(0)[row * read.strides[0]..][..66];
            for (found, expected) in found.iter().zip(expected) {
                // GStreamer's conversion to RGB and that from it are off by up to two steps each.
                assert!(found.abs_diff(*expected) <= 4, "{found} in row {row}, expected {expected}");
            }
        }
        assert!(frames.next_frame().unwrap().is_none());
    }

    #[test]
    fn what_is_no_picture_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.txt");
        let missing = Frames::open(&file).err().unwrap().to_string();
        assert!(missing.contains("notes.txt"), "{missing}");
        std::fs::write(&file, "no picture, only words\n".repeat(100)).unwrap();
        let error = Frames::open(&file).and_then(|mut frames| frames.next_frame().map(|_| ())).unwrap_err();
        assert!(error.to_string().contains("notes.txt"), "{error}");
    }
}
