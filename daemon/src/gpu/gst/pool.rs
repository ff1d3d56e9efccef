//! Pictures in video memory to render into, which then go to an encoder.
//!
//! In: format and size. Out: a [`Canvas`] to draw on, and, finished, a [`Rendered`] picture: a buffer that an `appsrc`
//! pushes. Memory comes back to the [`Pool`] when the encoder lets it go. Fails where there is no video memory left, or
//! all buffers are out.
//!
//! Order: what is rendered must be done before the encoder reads. Where GStreamer has streams (1.24), the pool is given
//! one, the drawing is queued on it (or it is made to wait for the drawing), and the encoder waits for it by itself.
//! Without, the host waits for the drawing before it pushes.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::glib::translate::from_glib_full;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use super::library::{GstCudaStream, StreamFunctions};
use super::memory::{FrameError, Mapped};
use super::{CudaContext, FEATURE};
use crate::flow::{Colorimetry, DevicePicture, PixelFormat, Size};

/// Why there is no picture to draw on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The layout is none of GStreamer's CUDA formats.
    #[error("pictures of layout {0:?} cannot be made on the GPU; expected NV12 or P010")]
    Format(PixelFormat),
    /// The pool cannot be set up.
    #[error("no buffers of {size} on GPU {device}: {reason}")]
    Setup {
        /// Size of the pictures.
        size: Size,
        /// The GPU.
        device: u32,
        /// Why.
        reason: String,
    },
    /// Every buffer is still with the encoder.
    #[error("all {0} buffers are still with the encoder")]
    Empty(u32),
    /// No memory, or a pool that is going down.
    #[error("no buffer: {0}; is the GPU out of memory?")]
    Acquire(gst::FlowError),
    /// The buffer cannot be drawn on.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A CUDA stream of GStreamer's (1.24 and newer), which the daemon borrows.
pub struct CudaStream {
    stream: NonNull<GstCudaStream>,
    functions: &'static StreamFunctions,
}

// SAFETY: a GstCudaStream is immutable but for its reference count, which is atomic.
unsafe impl Send for CudaStream {}
// SAFETY: as above.
unsafe impl Sync for CudaStream {}

impl CudaStream {
    /// The `CUstream`, as a number; lives for as long as this.
    #[must_use]
    pub fn handle(&self) -> u64 {
        // SAFETY: the stream is ours.
        unsafe { (self.functions.stream_get_handle)(self.stream.as_ptr()) as u64 }
    }
}

impl Drop for CudaStream {
    fn drop(&mut self) {
        // SAFETY: gives back the reference that `CudaContext::stream` took.
        unsafe { (self.functions.stream_unref)(self.stream.as_ptr()) };
    }
}

impl CudaContext {
    /// A new stream in this context; `None` where GStreamer has none (before 1.24), or the driver refuses.
    #[must_use]
    pub fn stream(&self) -> Option<CudaStream> {
        let functions = self.functions().streams.as_ref()?;
        // SAFETY: the context object is ours; the new reference goes into the stream.
        let stream = NonNull::new(unsafe { (functions.stream_new)(self.raw()) })?;
        Some(CudaStream { stream, functions })
    }
}

/// Buffers of one size in video memory.
pub struct Pool {
    context: Arc<CudaContext>,
    pool: gst::BufferPool,
    info: gst_video::VideoInfo,
    most: u32,
}

/// A picture to draw on, all of it: what lay there before is undefined.
pub struct Canvas {
    mapped: Mapped,
    picture: DevicePicture,
    stream: Option<u64>,
}

/// A picture that was drawn, in video memory.
#[derive(Debug, Clone)]
pub struct Rendered {
    buffer: gst::Buffer,
    picture: DevicePicture,
}

impl Pool {
    /// A pool of at most `most` buffers, made as they are needed; with a `stream`, their memory belongs to it.
    ///
    /// # Errors
    /// Where the layout is not NV12 or P010, or there is no memory for the first buffer.
    pub fn new(
        context: &Arc<CudaContext>,
        format: PixelFormat,
        size: Size,
        most: u32,
        stream: Option<&CudaStream>,
    ) -> Result<Self, PoolError> {
        let name = match format {
            PixelFormat::Nv12 => "NV12",
            PixelFormat::P010 => "P010_10LE",
            PixelFormat::I420 => return Err(PoolError::Format(format)),
        };
        let failed =
            |reason: &str| PoolError::Setup { size, device: context.device(), reason: reason.into() };
        let caps = gst::Caps::builder("video/x-raw")
            .features([FEATURE])
            .field("format", name)
            .field("width", size.width as i32)
            .field("height", size.height as i32)
            .build();
        let info =
            gst_video::VideoInfo::from_caps(&caps).map_err(|_| failed("GStreamer refuses such a size"))?;
        // SAFETY: the context object is ours; the pool comes with a reference of its own, not floating.
        let pool: gst::BufferPool = unsafe {
            let pointer = (context.functions().buffer_pool_new)(context.raw());
            if pointer.is_null() {
                return Err(failed("GStreamer gives no pool"));
            }
            from_glib_full(pointer)
        };
        let mut config = pool.config();
        // The size is the library's to say, with the pitch that the driver chooses.
        config.set_params(Some(&caps), info.size() as u32, 0, most);
        config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META.as_str());
        if let Some(stream) = stream {
            // SAFETY: configuration and stream live; the configuration takes a reference.
            unsafe { (stream.functions.pool_config_set_stream)(config.as_mut_ptr(), stream.stream.as_ptr()) };
        }
        pool.set_config(config)
            .map_err(|_| failed("the pool cannot be set up; is the GPU out of memory?"))?;
        pool.set_active(true).map_err(|_| failed("the pool does not start"))?;
        Ok(Self { context: Arc::clone(context), pool, info, most })
    }

    /// Size of its pictures.
    #[must_use]
    pub fn size(&self) -> Size {
        Size::new(self.info.width(), self.info.height())
    }

    /// A picture to draw on, whose colours will be read as `color`. Does not wait.
    ///
    /// # Errors
    /// [`PoolError::Empty`] while every buffer is with the encoder; others where there is no memory.
    pub fn acquire(&self, color: Colorimetry) -> Result<Canvas, PoolError> {
        let flags = gst::BufferPoolAcquireFlags::DONTWAIT;
        let parameters = gst::BufferPoolAcquireParams::with_flags(flags);
        let buffer = self.pool.acquire_buffer(Some(&parameters)).map_err(|error| match error {
            gst::FlowError::Eos => PoolError::Empty(self.most),
            error => PoolError::Acquire(error),
        })?;
        let mapped = Mapped::new(&self.context, buffer, true)?;
        let picture = mapped.picture(&self.info, color)?;
        let stream = mapped.stream(&self.context);
        Ok(Canvas { mapped, picture, stream })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Buffers that are still out are freed when they come back.
        if self.pool.set_active(false).is_err() {
            tracing::warn!("a pool of video memory does not stop");
        }
    }
}

impl Canvas {
    /// Where to draw.
    #[must_use]
    pub fn picture(&self) -> &DevicePicture {
        &self.picture
    }

    /// The stream on which the drawing must be, or which must wait for it, before [`Canvas::finish`]. `None`: the drawing
    /// must be done by then.
    #[must_use]
    pub fn stream(&self) -> Option<u64> {
        self.stream
    }

    /// The picture, for an encoder.
    #[must_use]
    pub fn finish(self) -> Rendered {
        Rendered { buffer: self.mapped.into_buffer(), picture: self.picture }
    }
}

impl Rendered {
    /// Layout of the samples.
    #[must_use]
    pub fn format(&self) -> PixelFormat {
        self.picture.format
    }

    /// Size of the picture.
    #[must_use]
    pub fn size(&self) -> Size {
        self.picture.size
    }

    /// How to read the colours.
    #[must_use]
    pub fn color(&self) -> Colorimetry {
        self.picture.color
    }

    /// The buffer, with its stream time in nanoseconds. Where it was cloned before, it is copied: not its memory, but the
    /// pool then makes that memory anew.
    #[must_use]
    pub fn into_buffer(self, pts: u64) -> gst::Buffer {
        let mut buffer = self.buffer;
        buffer.make_mut().set_pts(gst::ClockTime::from_nseconds(pts));
        buffer
    }
}
