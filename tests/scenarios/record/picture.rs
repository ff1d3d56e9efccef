//! JPEG files as readers elsewhere see them: decoded by GStreamer.

use std::path::Path;

use e2e::frames::Frames;
use watchpost::flow::{PixelFormat, Size};

/// A decoded file.
pub struct Decoded {
    pub size: Size,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Decoded {
    /// Of a file's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let file = tempfile::NamedTempFile::with_suffix(".jpg").unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Self::read(file.path())
    }

    pub fn read(file: &Path) -> Self {
        let picture = Frames::open(file).next().unwrap_or_else(|| panic!("{}: no picture", file.display()));
        assert_eq!(picture.format, PixelFormat::I420, "4:2:0");
        let planes = (0..3).map(|plane| (picture.plane(plane).to_vec(), picture.strides[plane])).collect();
        Self { size: picture.size, planes }
    }

    /// Y, Cb and Cr there.
    pub fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let (x, y) = (x as usize, y as usize);
        let sample = |plane: usize, x: usize, y: usize| self.planes[plane].0[y * self.planes[plane].1 + x];
        [sample(0, x, y), sample(1, x / 2, y / 2), sample(2, x / 2, y / 2)]
    }

    /// Whether a rectangle is black all over, but for what the coding adds.
    pub fn is_black(&self, (left, top): (u32, u32), (right, bottom): (u32, u32)) -> bool {
        (top..bottom).all(|y| (left..right).all(|x| self.at(x, y)[0] < 12))
    }

    /// Pixels near a colour.
    pub fn count(&self, rgb: u32) -> usize {
        let [_, r, g, b] = rgb.to_be_bytes().map(f64::from);
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        let color = [y, 128.0 + (b - y) / 1.772, 128.0 + (r - y) / 1.402];
        let near = |x, y| self.at(x, y).iter().zip(color).all(|(&a, b)| (f64::from(a) - b).abs() < 30.0);
        (0..self.size.height).map(|y| (0..self.size.width).filter(|&x| near(x, y)).count()).sum()
    }
}
