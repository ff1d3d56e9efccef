//! Virtual cameras, overlays and masks in video memory.
//!
//! In: surfaces. Out: views as NV12 pictures in pinned host memory, each by one counted download, for an encoder on the
//! CPU; and surfaces with masks black. Each output owns its [`CudaRender`], each stream with masks its [`CudaMask`]. The
//! caller waits for the GPU. Fails where memory runs out or the GPU is lost.

use std::sync::Arc;

use super::surface::{Surface, Surfaces};
use crate::encode::Input as PictureIn;
use crate::flow::{DevicePicture, Picture, PixelFormat, Planes, Rect, Size};
use crate::gpu::gst::{CudaContext, Pool, PoolError};
use crate::gpu::kernels::{DRAW_NV12, MASK_PLANES, VIEW_NV12};
use crate::gpu::params::Canvas;
use crate::gpu::{Buffer, Device, GpuError, Meter, Pinned, Rows, Stream, argument};
use crate::pipeline::lane::LaneError;
use crate::render::{Drafter, MaskLists, Masks, Overlay, ViewTables};

/// Pictures kept at most: as many as are on their way through an encoder's queue.
const KEPT: usize = 24;

/// Bytes that are on the device too, sent again when they change.
struct Sent {
    buffer: Buffer,
    /// Which they are; none were sent before.
    generation: Option<u64>,
}

impl Sent {
    fn new(device: &Device) -> Result<Self, GpuError> {
        Ok(Self { buffer: Buffer::new(device, 1 << 16)?, generation: None })
    }

    /// Their address. The bytes are held until the stream was waited for.
    fn send(
        &mut self,
        stream: &Stream,
        meter: &Meter,
        bytes: &[u8],
        generation: Option<u64>,
    ) -> Result<u64, GpuError> {
        if generation.is_none() || generation != self.generation {
            self.generation = None;
            self.buffer.reserve(bytes.len())?;
            let to = Rows { address: self.buffer.address(), pitch: bytes.len() };
            stream.upload(meter, to, bytes, bytes.len(), bytes.len(), 1)?;
            meter.copies.inc();
            self.generation = generation;
        }
        Ok(self.buffer.address())
    }
}

/// Makes the pictures of one output.
pub struct CudaRender {
    output: Size,
    drafter: Drafter,
    /// Made with the first picture.
    device: Option<OnDevice>,
    /// What is drawn before it is copied to the host.
    canvas: Option<Buffer>,
    pictures: Vec<Arc<PinnedPlanes>>,
    /// Where pictures go that never leave video memory.
    encoder: Option<Encoder>,
}

struct Encoder {
    context: Arc<CudaContext>,
    /// Made with the first picture.
    pool: Option<Pool>,
}

/// Pictures of an encoder: no bound of the pool's. The output's inbox has one, and no frame of a file may be left out.
const WITH_ENCODER: u32 = 0;

struct OnDevice {
    tables: Sent,
    marks: Sent,
    covers: Sent,
}

/// The planes of an NV12 picture, one after the other.
struct PinnedPlanes {
    memory: Pinned,
    chroma: usize,
}

impl Planes for PinnedPlanes {
    fn plane(&self, index: usize) -> &[u8] {
        let (luma, chroma) = self.memory.bytes().split_at(self.chroma);
        if index == 0 { luma } else { chroma }
    }
}

impl CudaRender {
    /// With GStreamer's context: for an encoder on the GPU.
    pub(super) fn new(output: Size, context: Option<Arc<CudaContext>>) -> Self {
        let output = Size::new(output.width.max(1), output.height.max(1));
        let encoder = context.map(|context| Encoder { context, pool: None });
        Self {
            output,
            drafter: Drafter::new(output),
            device: None,
            canvas: None,
            pictures: Vec::new(),
            encoder,
        }
    }

    /// See [`crate::render::Renderer::render`]. None while every picture is with the encoder.
    pub(super) fn render(
        &mut self,
        stream: &Stream,
        meters: (&Meter, &Meter),
        surface: &Surface,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Result<Option<PictureIn>, LaneError> {
        if self.encoder.is_none() {
            return Ok(Some(self.for_host(stream, meters, surface, view, overlay)?.into()));
        }
        self.for_encoder(stream, meters.1, surface, view, overlay)
    }

    fn for_encoder(
        &mut self,
        stream: &Stream,
        tables: &Meter,
        surface: &Surface,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Result<Option<PictureIn>, LaneError> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        let pool = match &mut encoder.pool {
            Some(pool) => pool,
            None => encoder.pool.insert(
                Pool::new(&encoder.context, PixelFormat::Nv12, self.output, WITH_ENCODER, None)
                    .map_err(|error| LaneError::Stream(error.to_string()))?,
            ),
        };
        let canvas = match pool.acquire(surface.picture().color) {
            Ok(canvas) => canvas,
            Err(PoolError::Empty(_)) => return Ok(None),
            Err(error) => return Err(LaneError::Stream(error.to_string())),
        };
        let to = *canvas.picture();
        let drawn = Canvas {
            luma: to.luma,
            chroma: to.chroma,
            luma_pitch: to.luma_pitch,
            chroma_pitch: to.chroma_pitch,
            width: to.size.width as i32,
            height: to.size.height as i32,
        };
        let painted = self.paint(stream, tables, surface, view, overlay, drawn);
        // Whether or not it was painted: the picture must not come back while something draws on it.
        let waited = stream.synchronize();
        painted.and(waited)?;
        Ok(Some(canvas.finish().into()))
    }

    fn for_host(
        &mut self,
        stream: &Stream,
        (download, tables): (&Meter, &Meter),
        surface: &Surface,
        view: Rect,
        overlay: Option<&Overlay>,
    ) -> Result<Picture, GpuError> {
        let source = *surface.picture();
        let overlay = overlay.filter(|overlay| !overlay.is_empty());
        if self.drafter.passes(&source, view, overlay) {
            let from = [rows(source.luma, source.luma_pitch), rows(source.chroma, source.chroma_pitch)];
            return self.download(stream, download, &source, from);
        }
        let (width, height) = (self.output.width as usize, self.output.height as usize);
        let pitch = width.next_multiple_of(2).next_multiple_of(256);
        let address = match &self.canvas {
            Some(canvas) => canvas.address(),
            None => {
                let bytes = pitch * (height + height.div_ceil(2));
                self.canvas.insert(Buffer::new(stream.device(), bytes)?).address()
            }
        };
        let canvas = Canvas {
            luma: address,
            chroma: address + (pitch * height) as u64,
            luma_pitch: pitch as i32,
            chroma_pitch: pitch as i32,
            width: width as i32,
            height: height as i32,
        };
        self.paint(stream, tables, surface, view, overlay, canvas)?;
        let from = [rows(canvas.luma, canvas.luma_pitch), rows(canvas.chroma, canvas.chroma_pitch)];
        self.download(stream, download, &source, from)
    }

    /// Draws the view and what lies over it on a canvas of the output's size.
    fn paint(
        &mut self,
        stream: &Stream,
        tables: &Meter,
        surface: &Surface,
        view: Rect,
        overlay: Option<&Overlay>,
        canvas: Canvas,
    ) -> Result<(), GpuError> {
        let source = *surface.picture();
        let overlay = overlay.filter(|overlay| !overlay.is_empty());
        let device = match &mut self.device {
            Some(device) => device,
            None => self.device.insert(OnDevice {
                tables: Sent::new(stream.device())?,
                marks: Sent::new(stream.device())?,
                covers: Sent::new(stream.device())?,
            }),
        };
        let lists = self.drafter.view(source.size, view);
        let address = device.tables.send(stream, tables, lists.bytes(), Some(lists.generation()))?;
        let [across, down] = ViewTables::threads(&canvas);
        stream.launch(VIEW_NV12, [across, down, 1], &[argument(&lists.view(address, &source, canvas))])?;
        let drawing =
            overlay.and_then(|overlay| self.drafter.overlay(source.size, view, source.color, overlay));
        if let Some(drawing) = &drawing {
            let (covers, generation) = self.drafter.covers();
            let covers =
                device.covers.send(stream, tables, crate::gpu::block::bytes(covers), Some(generation))?;
            let address = device.marks.send(stream, tables, drawing.bytes(), None)?;
            let marks = drawing.marks(address, covers);
            stream.launch(DRAW_NV12, [drawing.threads(), 1, 1], &[argument(&marks), argument(&canvas)])?;
        }
        Ok(())
    }

    /// A picture of the output's size, copied to the host.
    fn download(
        &mut self,
        stream: &Stream,
        meter: &Meter,
        source: &DevicePicture,
        [luma, chroma]: [Rows; 2],
    ) -> Result<Picture, GpuError> {
        let (width, height) = (self.output.width as usize, self.output.height as usize);
        let (pairs, down) = (width.div_ceil(2) * 2, height.div_ceil(2));
        let free = self.pictures.iter().position(|planes| Arc::strong_count(planes) == 1);
        let mut planes = match free {
            Some(index) => self.pictures.swap_remove(index),
            None => Arc::new(PinnedPlanes {
                memory: Pinned::new(stream.device(), width * height + pairs * down)?,
                chroma: width * height,
            }),
        };
        if let Some(planes) = Arc::get_mut(&mut planes) {
            let (to_luma, to_chroma) = planes.memory.bytes_mut().split_at_mut(width * height);
            let copied = stream
                .download(meter, to_luma, width, luma, width, height)
                .and_then(|()| stream.download(meter, to_chroma, pairs, chroma, pairs, down));
            // Waited for in any case: the memory must not go while something writes to it.
            let waited = stream.synchronize();
            copied.and(waited)?;
            meter.copies.inc();
        }
        if self.pictures.len() < KEPT {
            self.pictures.push(Arc::clone(&planes));
        }
        Ok(Picture::new(PixelFormat::Nv12, self.output, [width, pairs, 0], source.color, planes))
    }
}

fn rows(address: u64, pitch: i32) -> Rows {
    Rows { address, pitch: pitch as usize }
}

/// Blacks out the masks of one stream.
pub struct CudaMask {
    masks: Masks,
    /// For pictures of one size.
    lists: Option<(Size, MaskLists, Buffer)>,
}

impl CudaMask {
    pub(super) fn new(masks: Masks) -> Self {
        Self { masks, lists: None }
    }

    pub(super) fn apply(
        &mut self,
        stream: &Stream,
        meter: &Meter,
        surfaces: &Surfaces,
        surface: &Surface,
    ) -> Result<Surface, GpuError> {
        if self.masks.is_empty() {
            return Ok(surface.clone());
        }
        let size = surface.picture().size;
        if self.lists.as_ref().is_none_or(|(of, ..)| *of != size) {
            let lists = self.masks.lists(size);
            let (bytes, len) = (lists.bytes(), lists.bytes().len());
            let buffer = Buffer::new(stream.device(), len)?;
            stream.upload(meter, Rows { address: buffer.address(), pitch: len }, bytes, len, len, 1)?;
            meter.copies.inc();
            // Whatever still reads the lists of the size before, and the copy of these.
            stream.synchronize()?;
            self.lists = Some((size, lists, buffer));
        }
        let masked = surfaces.writable(stream, surface)?;
        if let Some((_, lists, buffer)) = &self.lists
            && let Some(mask) = lists.mask(buffer.address(), masked.picture())
        {
            stream.launch(MASK_PLANES, lists.threads(), &[argument(&mask)])?;
            masked.mark(stream)?;
        }
        Ok(masked)
    }
}
