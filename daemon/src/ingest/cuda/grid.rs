//! Motion and scene cuts of pictures in video memory: the samples are gathered there, and only they come back.
//!
//! In: a picture in video memory, an address for at most [`GRID_BYTES`]. Out: what the kernel [`kernels::GRID_LUMA`] is
//! launched with. Once it is done and its bytes are in host memory, [`super::super::ChangeMeter::measure_grid`] takes them.
//! No device is touched here, and nothing fails.
//!
//! [`kernels::GRID_LUMA`]: crate::gpu::kernels::GRID_LUMA

use crate::flow::{DevicePicture, Range};
use crate::gpu::params::Samples;
use crate::ingest::change::{COLUMNS, ROWS, grid_size};

/// Bytes of the largest grid.
pub const GRID_BYTES: usize = COLUMNS * ROWS;

/// The grid of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridJob {
    /// The kernel's argument.
    pub samples: Samples,
    /// Threads that the kernel wants, along x and y: columns and rows. So many bytes lie at the address afterwards.
    pub threads: [u32; 2],
}

impl GridJob {
    /// The grid of a picture, to be written to the address `out`.
    #[must_use]
    pub fn new(picture: &DevicePicture, out: u64) -> Self {
        let (columns, rows) = grid_size(picture.size);
        let samples = Samples {
            luma: picture.luma,
            out,
            pitch: picture.luma_pitch,
            bytes: picture.bytes(),
            width: picture.size.width as i32,
            height: picture.size.height as i32,
            columns: columns as i32,
            rows: rows as i32,
            limited: i32::from(picture.color.range == Range::Limited),
            reserved: 0,
        };
        Self { samples, threads: [columns as u32, rows as u32] }
    }

    /// Bytes of the grid.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.threads[0] * self.threads[1]) as usize
    }

    /// Whether the picture has no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{Colorimetry, Matrix, Picture, PixelFormat, Size};
    use crate::gpu::host::{argument, launch};
    use crate::gpu::kernels;
    use crate::ingest::change::{ChangeMeter, sample};

    fn picture(format: PixelFormat, size: Size, range: Range, seed: usize) -> Picture {
        let bytes = if format == PixelFormat::P010 { 2 } else { 1 };
        let stride = size.width as usize * bytes + 6;
        let luma = (0..stride * size.height as usize)
            .map(|index| (index * 89 + index / stride * 31 + seed * 57) as u8)
            .collect();
        let color = Colorimetry { matrix: Matrix::Bt709, range };
        Picture::new(format, size, [stride, stride, 0], color, Arc::new(vec![luma, vec![0; stride]]))
    }

    fn job(host: &Picture, out: &mut [u8]) -> GridJob {
        let device = DevicePicture {
            format: host.format,
            size: host.size,
            color: host.color,
            luma: host.plane(0).as_ptr() as u64,
            chroma: 0,
            luma_pitch: host.strides[0] as i32,
            chroma_pitch: 0,
        };
        let job = GridJob::new(&device, out.as_mut_ptr() as u64);
        let [columns, rows] = job.threads.map(|threads| threads as usize);
        launch(kernels::GRID_LUMA, [columns, rows, 1], &[argument(&job.samples)]);
        job
    }

    #[test]
    fn the_grid_is_that_of_the_cpu_lane() {
        let sizes = [
            Size::new(1920, 1080),
            Size::new(64, 36),
            Size::new(97, 83),
            Size::new(63, 35),
            Size::new(1, 1),
            Size::new(200, 7),
            Size::new(3, 500),
        ];
        for format in [PixelFormat::Nv12, PixelFormat::P010] {
            for range in [Range::Limited, Range::Full] {
                for (seed, size) in sizes.into_iter().enumerate() {
                    let host = picture(format, size, range, seed);
                    let mut expected = Vec::new();
                    sample(&host, &mut expected);
                    let mut grid = [0xa5; GRID_BYTES];
                    let job = job(&host, &mut grid);
                    assert_eq!(job.len(), expected.len());
                    assert!(grid[..job.len()] == expected[..], "{format:?} {range:?} {size}");
                    assert!(grid[job.len()..].iter().all(|&byte| byte == 0xa5), "{size}: behind");
                }
            }
        }
    }

    #[test]
    fn change_is_that_of_the_cpu_lane() {
        let (mut here, mut there) = (ChangeMeter::default(), ChangeMeter::default());
        let sizes = [Size::new(320, 180), Size::new(320, 180), Size::new(320, 180), Size::new(160, 90)];
        for (seed, size) in sizes.into_iter().enumerate() {
            let host = picture(PixelFormat::Nv12, size, Range::Limited, seed * seed);
            let mut grid = [0; GRID_BYTES];
            let job = job(&host, &mut grid);
            assert_eq!(there.measure_grid(size, &grid[..job.len()]), here.measure(&host), "picture {seed}");
        }
    }
}
