//! Pictures in video memory, and the memory that they come back to.
//!
//! In: a decoder's picture. Out: a [`Surface`], cheap to clone, whose memory goes back to the lane's when the last clone
//! goes. Owned by the stream's worker; models' threads hold clones until they have run. Fails where video memory runs
//! out.

use std::sync::{Arc, Mutex, PoisonError};

use crate::flow::{Colorimetry, DeviceFrame, DevicePicture, Picture, PixelFormat, Size};
use crate::gpu::kernels::JOIN_CHROMA;
use crate::gpu::params::Join;
use crate::gpu::{Buffer, Device, Event, GpuError, Meter, Rows, Stream, argument};

/// Rows begin at multiples of this: loads of neighbouring threads fall together.
const ALIGNMENT: usize = 256;
/// Pictures' memory kept for later at most.
const KEPT: usize = 8;

/// A picture in video memory.
#[derive(Clone)]
pub struct Surface(Arc<Held>);

struct Held {
    picture: DevicePicture,
    /// Marks the work after which the picture is whole.
    ready: Option<Event>,
    memory: Memory,
    home: Home,
}

enum Memory {
    /// The lane's own.
    Own(Option<Buffer>),
    /// A decoder's, which still reads it to decode others: nobody may write.
    Decoder { _held: DeviceFrame },
}

type Home = Arc<Mutex<Vec<(Buffer, Event)>>>;

/// Makes surfaces, and takes their memory back.
pub(super) struct Surfaces {
    device: Device,
    home: Home,
}

/// Where the planes of a picture lie within its memory.
struct Plan {
    luma_pitch: usize,
    chroma_pitch: usize,
    /// Of the two planes of I420, before they become pairs.
    planar_pitch: usize,
    chroma: usize,
    planar: usize,
    bytes: usize,
}

impl Plan {
    fn new(size: Size, format: PixelFormat) -> Self {
        let bytes = if format == PixelFormat::P010 { 2 } else { 1 };
        let (across, down) = (size.width.div_ceil(2) as usize, size.height.div_ceil(2) as usize);
        let luma_pitch = (size.width as usize * bytes).next_multiple_of(ALIGNMENT);
        let chroma_pitch = (across * 2 * bytes).next_multiple_of(ALIGNMENT);
        let planar_pitch = if format == PixelFormat::I420 { across.next_multiple_of(ALIGNMENT) } else { 0 };
        let chroma = luma_pitch * size.height as usize;
        let planar = chroma + chroma_pitch * down;
        Self {
            luma_pitch,
            chroma_pitch,
            planar_pitch,
            chroma,
            planar,
            bytes: planar + 2 * planar_pitch * down,
        }
    }
}

impl Surfaces {
    pub(super) fn new(device: &Device) -> Self {
        Self { device: device.clone(), home: Home::default() }
    }

    /// A picture of the host's, copied. It must be held until the stream's work so far is done.
    pub(super) fn upload(
        &self,
        stream: &Stream,
        meter: &Meter,
        picture: &Picture,
    ) -> Result<Surface, GpuError> {
        let plan = Plan::new(picture.size, picture.format);
        let (buffer, ready) = self.take(plan.bytes)?;
        let at = |offset: usize, pitch: usize| Rows { address: buffer.address() + offset as u64, pitch };
        let (size, chroma) = (picture.size, picture.chroma_size());
        let copy = |plane: usize, to: Rows, width: usize, rows: u32| {
            stream.upload(meter, to, picture.plane(plane), picture.strides[plane], width, rows as usize)
        };
        let sample = if picture.format == PixelFormat::P010 { 2 } else { 1 };
        copy(0, at(0, plan.luma_pitch), size.width as usize * sample, size.height)?;
        if picture.format == PixelFormat::I420 {
            let [cb, cr] =
                [0, 1].map(|plane| plan.planar + plane * plan.planar_pitch * chroma.height as usize);
            copy(1, at(cb, plan.planar_pitch), chroma.width as usize, chroma.height)?;
            copy(2, at(cr, plan.planar_pitch), chroma.width as usize, chroma.height)?;
            let join = Join {
                cb: buffer.address() + cb as u64,
                cr: buffer.address() + cr as u64,
                pairs: buffer.address() + plan.chroma as u64,
                pitch: plan.planar_pitch as i32,
                pairs_pitch: plan.chroma_pitch as i32,
                width: chroma.width as i32,
                height: chroma.height as i32,
            };
            stream.launch(JOIN_CHROMA, [chroma.width, chroma.height, 1], &[argument(&join)])?;
        } else {
            copy(1, at(plan.chroma, plan.chroma_pitch), chroma.width as usize * 2 * sample, chroma.height)?;
        }
        meter.copies.inc();
        ready.record(stream)?;
        let format = if picture.format == PixelFormat::P010 { picture.format } else { PixelFormat::Nv12 };
        Ok(self.own(buffer, ready, &plan, size, format, picture.color))
    }

    /// A decoder's picture as it is; the stream's later work waits for it.
    pub(super) fn adopt(&self, stream: &Stream, frame: DeviceFrame) -> Result<Surface, GpuError> {
        let ready = match frame.stream {
            Some(handle) => {
                let event = Event::new(&self.device)?;
                stream.wait_for(handle, &event)?;
                Some(event)
            }
            None => None,
        };
        let picture = frame.picture;
        let home = Arc::clone(&self.home);
        Ok(Surface(Arc::new(Held { picture, ready, memory: Memory::Decoder { _held: frame }, home })))
    }

    /// A picture that may be written: itself where it is the lane's own, else a copy in video memory.
    pub(super) fn writable(&self, stream: &Stream, surface: &Surface) -> Result<Surface, GpuError> {
        if matches!(surface.0.memory, Memory::Own(_)) {
            return Ok(surface.clone());
        }
        let from = surface.picture();
        let plan = Plan::new(from.size, from.format);
        let (buffer, ready) = self.take(plan.bytes)?;
        let copy = self.own(buffer, ready, &plan, from.size, from.format, from.color);
        let (to, sample) = (copy.picture(), from.bytes() as usize);
        let rows = |address: u64, pitch: i32| Rows { address, pitch: pitch as usize };
        let (size, chroma) = (from.size, from.chroma_size());
        let width = size.width as usize * sample;
        stream.copy(
            rows(to.luma, to.luma_pitch),
            rows(from.luma, from.luma_pitch),
            width,
            size.height as usize,
        )?;
        let (width, height) = (chroma.width as usize * 2 * sample, chroma.height as usize);
        stream.copy(rows(to.chroma, to.chroma_pitch), rows(from.chroma, from.chroma_pitch), width, height)?;
        copy.mark(stream)?;
        Ok(copy)
    }

    fn own(
        &self,
        buffer: Buffer,
        ready: Event,
        plan: &Plan,
        size: Size,
        format: PixelFormat,
        color: Colorimetry,
    ) -> Surface {
        let picture = DevicePicture {
            format,
            size,
            color,
            luma: buffer.address(),
            chroma: buffer.address() + plan.chroma as u64,
            luma_pitch: plan.luma_pitch as i32,
            chroma_pitch: plan.chroma_pitch as i32,
        };
        let (ready, home) = (Some(ready), Arc::clone(&self.home));
        Surface(Arc::new(Held { picture, ready, memory: Memory::Own(Some(buffer)), home }))
    }

    fn take(&self, bytes: usize) -> Result<(Buffer, Event), GpuError> {
        let kept = self.home.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some((mut buffer, event)) => {
                buffer.reserve(bytes)?;
                Ok((buffer, event))
            }
            None => Ok((Buffer::new(&self.device, bytes)?, Event::new(&self.device)?)),
        }
    }
}

impl Surface {
    /// Where it lies.
    #[must_use]
    pub fn picture(&self) -> &DevicePicture {
        &self.0.picture
    }

    /// Later work of a stream waits until the picture is whole.
    pub(super) fn wait_on(&self, stream: &Stream) -> Result<(), GpuError> {
        self.0.ready.as_ref().map_or(Ok(()), |ready| stream.wait(ready))
    }

    /// It was written to: whole is what the stream's work so far leaves.
    pub(super) fn mark(&self, stream: &Stream) -> Result<(), GpuError> {
        self.0.ready.as_ref().map_or(Ok(()), |ready| ready.record(stream))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Work of other streams on it was waited for by who held it; work of the lane's stream comes before the next.
        if let (Memory::Own(buffer), Some(ready)) = (&mut self.memory, self.ready.take())
            && let Some(buffer) = buffer.take()
        {
            let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
            if home.len() < KEPT {
                home.push((buffer, ready));
            }
        }
    }
}
