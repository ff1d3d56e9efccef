//! Buffers in video memory, mapped: where their planes lie.
//!
//! In: a decoder's buffer. Out: a [`DeviceFrame`] that keeps buffer and mapping for as long as anybody holds it. Mapping
//! copies nothing and waits for nothing. Fails where a buffer is not what its caps say.
//!
//! Whoever reads a frame does so after its stream (see [`DeviceFrame::stream`]), and holds it until the GPU is done
//! reading: let go of too early, the decoder writes its next picture there.
#![allow(unsafe_code)]

use std::sync::Arc;

use gstreamer as gst;
use gstreamer::glib::translate::{ToGlibPtr, from_glib};
use gstreamer_video as gst_video;

use super::CudaContext;
use crate::flow::{Colorimetry, DeviceFrame, DevicePicture, PixelFormat, Size};

/// `GST_MAP_CUDA`: the address on the GPU, not a copy in host memory.
const MAP_CUDA: u32 = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// Why a buffer is no picture on the GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It lies in host memory.
    #[error("the buffer lies in host memory")]
    Host,
    /// Its format is neither NV12 nor P010.
    #[error("pictures of format {0} are not taken from the GPU; expected NV12 or P010_10LE")]
    Format(String),
    /// It is of another context object: an element made one of its own.
    #[error("the buffer belongs to another CUDA context than the daemon's")]
    Context,
    /// The library refuses to map it.
    #[error("the buffer cannot be mapped on the GPU")]
    Map,
    /// Its planes do not lie in it.
    #[error("a buffer of {size} bytes does not hold plane {plane} of a picture of {picture}")]
    Small {
        /// Bytes it has.
        size: usize,
        /// Which plane reaches out of it.
        plane: usize,
        /// Size of the picture.
        picture: Size,
    },
}

/// `GstCudaMemory` of GStreamer's header gstcudamemory.h, 1.22 to 1.28, as far as it is public.
#[repr(C)]
struct GstCudaMemory {
    memory: gst::ffi::GstMemory,
    context: *mut gst::ffi::GstObject,
    info: gst_video::ffi::GstVideoInfo,
}

/// A buffer of one CUDA memory that is mapped on the GPU while this lives.
pub(super) struct Mapped {
    buffer: gst::Buffer,
    map: gst::ffi::GstMapInfo,
}

// SAFETY: the map holds addresses that nobody follows but the GPU, and a reference to memory that any thread may give
// back; GStreamer's buffers and memory count references atomically.
unsafe impl Send for Mapped {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a buffer; a `writable` one must be the caller's alone.
    pub(super) fn new(
        context: &CudaContext,
        buffer: gst::Buffer,
        writable: bool,
    ) -> Result<Self, FrameError> {
        if buffer.n_memory() != 1 {
            return Err(FrameError::Host);
        }
        let memory = memory(&buffer);
        // SAFETY: the buffer has a memory, which lives for as long as the buffer.
        let on_gpu: bool = unsafe { from_glib((context.functions().is_cuda_memory)(memory)) };
        if !on_gpu {
            return Err(FrameError::Host);
        }
        // SAFETY: it is CUDA memory, so it begins as the header says.
        if unsafe { (*memory.cast::<GstCudaMemory>()).context } != context.raw() {
            return Err(FrameError::Context);
        }
        let flags = if writable { gst::ffi::GST_MAP_READWRITE } else { gst::ffi::GST_MAP_READ };
        let mut map = std::mem::MaybeUninit::uninit();
        let pointer: *mut gst::ffi::GstBuffer = buffer.to_glib_none().0;
        // SAFETY: the buffer lives; GStreamer refuses to map one for writing that is shared. `map` is filled where it
        // says that it was mapped.
        let map = unsafe {
            let mapped = gst::ffi::gst_buffer_map(pointer, map.as_mut_ptr(), flags | MAP_CUDA);
            if mapped == 0 {
                return Err(FrameError::Map);
            }
            map.assume_init()
        };
        Ok(Self { buffer, map })
    }

    /// The buffer, no longer mapped.
    pub(super) fn into_buffer(self) -> gst::Buffer {
        // The reference that stays here goes with `self`, after the unmapping.
        self.buffer.clone()
    }

    /// Where the planes of a picture lie.
    pub(super) fn picture(
        &self,
        info: &gst_video::VideoInfo,
        color: Colorimetry,
    ) -> Result<DevicePicture, FrameError> {
        let format = match info.format() {
            gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
            gst_video::VideoFormat::P01010le => PixelFormat::P010,
            other => return Err(FrameError::Format(other.to_str().to_string())),
        };
        let size = Size::new(info.width(), info.height());
        let (offsets, pitches) = match self.buffer.meta::<gst_video::VideoMeta>() {
            Some(meta) if meta.n_planes() >= 2 => {
                ([meta.offset()[0], meta.offset()[1]], [meta.stride()[0], meta.stride()[1]])
            }
            _ => {
                // SAFETY: `new` found CUDA memory, so it begins as the header says.
                let own = unsafe { &(*memory(&self.buffer).cast::<GstCudaMemory>()).info };
                ([own.offset[0], own.offset[1]], [own.stride[0], own.stride[1]])
            }
        };
        let mut picture = DevicePicture {
            format,
            size,
            color,
            luma: 0,
            chroma: 0,
            luma_pitch: pitches[0],
            chroma_pitch: pitches[1],
        };
        let chroma = picture.chroma_size();
        let planes = [(size.width, size.height), (chroma.width * 2, chroma.height)];
        for (plane, (samples, rows)) in planes.into_iter().enumerate() {
            let width = u64::from(samples) * u64::from(picture.bytes().unsigned_abs());
            let pitch = u64::try_from(pitches[plane]).unwrap_or(0);
            let end = offsets[plane] as u64 + pitch * u64::from(rows.saturating_sub(1)) + width;
            if rows == 0 || pitch < width || end > self.map.size as u64 {
                return Err(FrameError::Small { size: self.map.size, plane, picture: size });
            }
        }
        picture.luma = self.map.data as u64 + offsets[0] as u64;
        picture.chroma = self.map.data as u64 + offsets[1] as u64;
        Ok(picture)
    }

    /// The stream that the memory belongs to: `None` where memory has none, and the buffer came finished; 0 for the
    /// context's default stream.
    pub(super) fn stream(&self, context: &CudaContext) -> Option<u64> {
        let streams = context.functions().streams.as_ref()?;
        // SAFETY: `new` found CUDA memory; its stream, which may be null, lives for as long as it.
        Some(unsafe { (streams.stream_get_handle)((streams.memory_get_stream)(memory(&self.buffer))) } as u64)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let pointer: *mut gst::ffi::GstBuffer = self.buffer.to_glib_none().0;
        // SAFETY: mapped by `new` with this map, and unmapped only here.
        unsafe { gst::ffi::gst_buffer_unmap(pointer, &raw mut self.map) };
    }
}

/// A buffer's first memory; null where it has none.
fn memory(buffer: &gst::Buffer) -> *mut gst::ffi::GstMemory {
    let pointer: *mut gst::ffi::GstBuffer = buffer.to_glib_none().0;
    // SAFETY: the buffer lives; no reference is taken.
    unsafe { gst::ffi::gst_buffer_peek_memory(pointer, 0) }
}

impl CudaContext {
    /// The picture in a buffer of video memory, NV12 or P010, with the caps' `info`.
    ///
    /// # Errors
    /// Where the buffer is not of that kind; see [`FrameError`].
    pub fn frame(
        &self,
        buffer: gst::Buffer,
        info: &gst_video::VideoInfo,
        color: Colorimetry,
    ) -> Result<DeviceFrame, FrameError> {
        let mapped = Mapped::new(self, buffer, false)?;
        let picture = mapped.picture(info, color)?;
        Ok(DeviceFrame { picture, stream: mapped.stream(self), held: Arc::new(mapped) })
    }
}
