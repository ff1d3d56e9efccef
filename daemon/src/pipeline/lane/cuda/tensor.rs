//! What a model on the CUDA lane takes: not a tensor yet, but where its pixels lie and how the kernel reads them.
//!
//! In: a surface and a rectangle of it. Out: a [`CudaTensor`]. A frame's tensor is made by the model's own thread, where
//! its input lies, one launch for a batch. A clip model's frames are made at once, each into memory of its own, so that
//! no decoder's picture is held for the length of a window. Fails as preprocessing does, or where memory runs out.

use std::sync::Arc;

use super::surface::Surface;
use crate::config::manifest::Task;
use crate::flow::{ElementType, Letterbox, Rect, Recycle, Size};
use crate::gpu::kernels;
use crate::gpu::params::{Geometry, Job};
use crate::gpu::{Buffer, Device, Event, GpuError, Meter, Pinned, Rows, Stream, argument};
use crate::pipeline::lane::{Feed, LaneError};
use crate::preprocess::{Preprocessor, Tables};

/// Tables on the device kept a model: the whole picture's, and those of a few sizes before.
const TABLES: usize = 4;

/// What a model takes of one rectangle.
#[derive(Default)]
pub struct CudaTensor {
    pub(super) source: Option<Source>,
    pub(super) made: Option<Made>,
}

impl CudaTensor {
    /// The bytes of a tensor in pinned memory, once its stream was waited for.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.made.as_ref()?.memory {
            Memory::Host(pinned) => Some(pinned.bytes()),
            Memory::Device(_) => None,
        }
    }
}

impl Recycle for CudaTensor {
    /// The picture goes back to its decoder; memory of its own stays.
    fn recycle(&mut self) {
        self.source = None;
    }
}

/// A rectangle of a surface.
pub(super) struct Source {
    pub(super) surface: Surface,
    /// What the kernel is told; the batch entry is still to be set.
    pub(super) job: Job,
    /// Kept on the device as long as the job names their address.
    pub(super) _tables: Arc<DeviceTables>,
}

/// One frame's tensor of a clip model.
pub(super) struct Made {
    pub(super) memory: Memory,
    /// Marks the kernel that wrote it.
    pub(super) ready: Event,
    job: Jobs,
}

/// What the tensor kernel is told, on its way: it lies in video memory, for every thread reads it.
pub(super) struct Jobs {
    host: Pinned,
    device: Buffer,
}

impl Jobs {
    pub(super) fn new(device: &Device, most: usize) -> Result<Self, GpuError> {
        let bytes = most * size_of::<Job>();
        Ok(Self { host: Pinned::new(device, bytes)?, device: Buffer::new(device, bytes)? })
    }

    /// Sends jobs, whose kernel has run where there were others before; gives their address.
    pub(super) fn send(&mut self, stream: &Stream, meter: &Meter, jobs: &[Job]) -> Result<u64, GpuError> {
        self.host.write(jobs);
        let (address, len) = (self.device.address(), size_of_val(jobs));
        stream.upload(meter, Rows { address, pitch: len }, self.host.bytes(), len, len, 1)?;
        meter.copies.inc();
        Ok(address)
    }
}

/// Where a tensor lies: where whoever infers reads it.
pub(super) enum Memory {
    /// Video memory.
    Device(Buffer),
    /// Host memory that the GPU writes over the bus.
    Host(Pinned),
}

impl Memory {
    pub(super) fn new(device: &Device, on_host: bool, bytes: usize) -> Result<Self, GpuError> {
        if on_host {
            Ok(Self::Host(Pinned::new(device, bytes)?))
        } else {
            Ok(Self::Device(Buffer::new(device, bytes)?))
        }
    }

    pub(super) fn address(&self) -> u64 {
        match self {
            Self::Device(buffer) => buffer.address(),
            Self::Host(pinned) => pinned.address(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Device(buffer) => buffer.len(),
            Self::Host(pinned) => pinned.len(),
        }
    }
}

/// Filter tables on the device.
pub(super) struct DeviceTables {
    tables: Tables,
    buffer: Buffer,
}

/// Launches the kernel that fills a tensor with jobs' rectangles.
pub(super) fn fill(
    stream: &Stream,
    element: ElementType,
    jobs: u64,
    count: usize,
    tensor: u64,
    geometry: &Geometry,
) -> Result<(), GpuError> {
    let threads = [geometry.width.cast_unsigned(), geometry.height.cast_unsigned(), count as u32];
    let entries = count as i32;
    let arguments = [argument(&jobs), argument(&entries), argument(&tensor), argument(geometry)];
    stream.launch(kernels::tensor(element), threads, &arguments)
}

/// Preprocessing for one model.
pub struct CudaPreprocess {
    device: Device,
    preprocessor: Preprocessor,
    element: ElementType,
    geometry: Geometry,
    clip: bool,
    on_host: bool,
    /// The newest last.
    tables: Vec<(Size, Rect, Arc<DeviceTables>)>,
}

/// Bytes of an element.
pub(super) fn bytes_of(element: ElementType) -> usize {
    match element {
        ElementType::F32 => 4,
        ElementType::F16 => 2,
        ElementType::U8 => 1,
    }
}

impl CudaPreprocess {
    pub(super) fn new(device: &Device, feed: &Feed) -> Result<Self, LaneError> {
        let preprocessor = Preprocessor::new(&feed.manifest.input, feed.size, feed.element)?;
        Ok(Self {
            device: device.clone(),
            geometry: preprocessor.geometry(),
            element: feed.element,
            clip: feed.manifest.task == Task::Clip,
            on_host: feed.on_host,
            tables: Vec::new(),
            preprocessor,
        })
    }

    /// Makes every tensor at once, as for a clip model.
    pub(super) fn at_once(self) -> Self {
        Self { clip: true, ..self }
    }

    pub(super) fn run(
        &mut self,
        stream: &Stream,
        meter: &Meter,
        surface: &Surface,
        rect: &Rect,
        tensor: &mut CudaTensor,
    ) -> Result<Letterbox, LaneError> {
        let picture = surface.picture();
        let letterbox = self.preprocessor.letterbox(picture.size, rect)?;
        let tables = self.tables(stream, meter, picture.size, rect)?;
        let job = self.preprocessor.job(picture, &tables.tables, tables.buffer.address(), 0)?;
        if self.clip {
            self.make(stream, meter, &job, tensor)?;
        } else {
            tensor.source = Some(Source { surface: surface.clone(), job, _tables: tables });
        }
        Ok(letterbox)
    }

    /// Runs the kernel now, on the lane's stream, which has the picture.
    fn make(
        &self,
        stream: &Stream,
        meter: &Meter,
        job: &Job,
        tensor: &mut CudaTensor,
    ) -> Result<(), GpuError> {
        let bytes = self.preprocessor.shape(1).iter().product::<usize>() * bytes_of(self.element);
        let mut made = match tensor.made.take().filter(|made| made.memory.len() >= bytes) {
            Some(made) => made,
            None => Made {
                memory: Memory::new(&self.device, self.on_host, bytes)?,
                ready: Event::new(&self.device)?,
                job: Jobs::new(&self.device, 1)?,
            },
        };
        // A frame of a window that was given up may still wait for its kernel, which reads the job.
        made.ready.synchronize()?;
        let jobs = made.job.send(stream, meter, std::slice::from_ref(job))?;
        fill(stream, self.element, jobs, 1, made.memory.address(), &self.geometry)?;
        made.ready.record(stream)?;
        tensor.made = Some(made);
        Ok(())
    }

    fn tables(
        &mut self,
        stream: &Stream,
        meter: &Meter,
        size: Size,
        rect: &Rect,
    ) -> Result<Arc<DeviceTables>, LaneError> {
        if let Some((.., tables)) = self.tables.iter().find(|(of, at, _)| *of == size && at == rect) {
            return Ok(Arc::clone(tables));
        }
        let tables = self.preprocessor.tables(size, rect)?;
        let buffer = Buffer::new(&self.device, tables.bytes().len())?;
        let (bytes, len) = (tables.bytes(), tables.bytes().len());
        stream.upload(meter, Rows { address: buffer.address(), pitch: len }, bytes, len, len, 1)?;
        meter.copies.inc();
        // Models' streams read them, and know nothing of this one.
        stream.synchronize()?;
        let tables = Arc::new(DeviceTables { tables, buffer });
        if self.tables.len() == TABLES {
            self.tables.remove(0);
        }
        self.tables.push((size, *rect, Arc::clone(&tables)));
        Ok(tables)
    }
}
