//! Pictures as JPEG files.
//!
//! In: an NV12 picture in host memory, of whatever colorimetry. Out: the bytes of a baseline JPEG (JFIF), whose colours
//! are BT.601 in full range by definition: they are converted. Pure; runs on the caller's thread. Fails for another
//! layout, and for a picture that no JPEG can hold.

use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType};

use crate::flow::{Colorimetry, Matrix, Picture, PixelFormat, Range};

/// Fixed point of the conversion.
const BITS: i32 = 14;

/// Why a picture is no JPEG.
#[derive(Debug, thiserror::Error)]
pub enum JpegError {
    /// Another layout than NV12, or no pixel, or more than 65535 of them in a row.
    #[error("no JPEG can be made of {0}")]
    Picture(String),
    /// The encoder's words.
    #[error("the JPEG encoder says: {0}")]
    Encoder(#[from] jpeg_encoder::EncodingError),
}

/// A picture as a JPEG file of this quality, 1 to 100.
///
/// # Errors
/// See [`JpegError`].
pub fn jpeg(picture: &Picture, quality: u8) -> Result<Vec<u8>, JpegError> {
    let [width, height] = [picture.size.width, picture.size.height].map(|side| u16::try_from(side).ok());
    let (Some(width @ 1..), Some(height @ 1..), PixelFormat::Nv12) = (width, height, picture.format) else {
        return Err(JpegError::Picture(format!("{picture:?}")));
    };
    let mut file = Vec::with_capacity(usize::from(width) * usize::from(height) / 4);
    let rows = Rows { picture, width, height, convert: Convert::new(picture.color) };
    Encoder::new(&mut file, quality).encode_image(rows)?;
    Ok(file)
}

/// Y'CbCr of one colorimetry to Y'CbCr of JPEG, in fixed point.
struct Convert {
    /// By component of the result: what Y, Cb and Cr add, and what is added always.
    rows: [[i32; 4]; 3],
}

impl Convert {
    fn new(color: Colorimetry) -> Self {
        let zero = to_jpeg([0.0; 3], color);
        let columns = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|unit| to_jpeg(unit, color));
        let fixed = |value: f64| (value * f64::from(1 << BITS)).round() as i32;
        let rows = [0, 1, 2].map(|row| {
            let [y, cb, cr] = columns.map(|column| fixed(column[row] - zero[row]));
            // Half is added for rounding.
            [y, cb, cr, fixed(zero[row]) + (1 << (BITS - 1))]
        });
        Self { rows }
    }

    fn pixel(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let [y, cb, cr] = [y, cb, cr].map(i32::from);
        self.rows.map(|[a, b, c, d]| ((a * y + b * cb + c * cr + d) >> BITS).clamp(0, 255) as u8)
    }
}

/// ITU-T H.273 (`MatrixCoefficients` 1, 6 and 9) there, JFIF back; samples from 0 to 255, not clipped.
fn to_jpeg([y, cb, cr]: [f64; 3], color: Colorimetry) -> [f64; 3] {
    let (kr, kb) = match color.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    };
    let (offset, luma, chroma) = match color.range {
        Range::Limited => (16.0, 219.0, 224.0),
        Range::Full => (0.0, 255.0, 255.0),
    };
    let (y, cb, cr) = ((y - offset) / luma, (cb - 128.0) / chroma, (cr - 128.0) / chroma);
    let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    let y = 0.299 * r + 0.587 * g + 0.114 * b;
    [255.0 * y, 128.0 + 255.0 * (b - y) / 1.772, 128.0 + 255.0 * (r - y) / 1.402]
}

struct Rows<'a> {
    picture: &'a Picture,
    width: u16,
    height: u16,
    convert: Convert,
}

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, row: u16, buffers: &mut [Vec<u8>; 4]) {
        let (row, width) = (usize::from(row), usize::from(self.width));
        let luma = &self.picture.plane(0)[row * self.picture.strides[0]..][..width];
        let pairs = &self.picture.plane(1)[row / 2 * self.picture.strides[1]..][..width.div_ceil(2) * 2];
        for (luma, pair) in luma.chunks(2).zip(pairs.as_chunks::<2>().0) {
            for &y in luma {
                let pixel = self.convert.pixel(y, pair[0], pair[1]);
                buffers[0].push(pixel[0]);
                buffers[1].push(pixel[1]);
                buffers[2].push(pixel[2]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gstreamer::{self as gst, prelude::*};
    use gstreamer_app as gst_app;
    use gstreamer_video as gst_video;

    use super::*;
    use crate::flow::Size;

    /// The file through GStreamer's decoder: its size and RGB bytes, rows one after the other.
    fn decoded(file: Vec<u8>) -> (Size, Vec<[u8; 3]>) {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(
            "appsrc name=in caps=image/jpeg ! jpegdec ! videoconvert ! video/x-raw,format=RGB ! appsink name=out sync=false",
        )
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let source = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        source.push_buffer(gst::Buffer::from_mut_slice(file)).unwrap();
        source.end_of_stream().unwrap();
        let sample =
            sink.try_pull_sample(gst::ClockTime::from_seconds(20)).expect("the decoder takes the file");
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let map = sample.buffer().unwrap().map_readable().unwrap();
        let (width, stride) = (info.width() as usize, info.stride()[0] as usize);
        let row = |y: usize| map[y * stride..][..width * 3].as_chunks::<3>().0.to_vec();
        let pixels = (0..info.height() as usize).flat_map(row).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        (Size::new(info.width(), info.height()), pixels)
    }

    /// 0xRRGGBB as Y, Cb, Cr.
    fn sample(rgb: u32, color: Colorimetry) -> [u8; 3] {
        let (kr, kg, kb) = match color.matrix {
            Matrix::Bt601 => (0.299, 0.587, 0.114),
            Matrix::Bt709 => (0.2126, 0.7152, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.678, 0.0593),
        };
        let [_, r, g, b] = rgb.to_be_bytes().map(|byte| f64::from(byte) / 255.0);
        let y = kr * r + kg * g + kb * b;
        let (cb, cr) = ((b - y) / (2.0 - 2.0 * kb), (r - y) / (2.0 - 2.0 * kr));
        let samples = match color.range {
            Range::Limited => [16.0 + 219.0 * y, 128.0 + 224.0 * cb, 128.0 + 224.0 * cr],
            Range::Full => [255.0 * y, 128.0 + 255.0 * cb, 128.0 + 255.0 * cr],
        };
        samples.map(|sample| sample.round().clamp(0.0, 255.0) as u8)
    }

    /// Plain fields of a few colours side by side, each wide enough that its middle knows nothing of its neighbours.
    fn fields(size: Size, color: Colorimetry, rgb: &[u32]) -> Picture {
        let field = size.width as usize / rgb.len();
        let stride = size.width.div_ceil(2) as usize * 2;
        let samples: Vec<_> = rgb.iter().map(|&rgb| sample(rgb, color)).collect();
        let at = |x: usize| samples[(x / field).min(rgb.len() - 1)];
        let luma = (0..size.height).flat_map(|_| (0..size.width as usize).map(|x| at(x)[0])).collect();
        let chroma =
            (0..size.height.div_ceil(2)).flat_map(|_| (0..stride).map(|x| at(x & !1)[1 + x % 2])).collect();
        Picture::nv12(size, color, luma, chroma)
    }

    #[test]
    fn colours_come_out_as_they_went_in_whatever_the_colorimetry() {
        let rgb = [0x00FF_FFFF, 0x0000_0000, 0x00C0_2020, 0x0020_B030, 0x0030_40D0, 0x0080_8080];
        // Odd sizes too: chroma is rounded up.
        for size in [Size::new(192, 64), Size::new(193, 65)] {
            for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
                for range in [Range::Limited, Range::Full] {
                    let color = Colorimetry { matrix, range };
                    let file = jpeg(&fields(size, color, &rgb), 90).unwrap();
                    let (found, pixels) = decoded(file);
                    assert_eq!(found, size);
                    for (index, rgb) in rgb.iter().enumerate() {
                        let x = index * 32 + 16;
                        let pixel = pixels[32 * size.width as usize + x];
                        let [_, r, g, b] = rgb.to_be_bytes();
                        let off = [r, g, b].iter().zip(pixel).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                        assert!(off <= 6, "{color:?}: {rgb:06x} became {pixel:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_jpeg_can_hold_is_refused() {
        let color = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };
        let empty = Picture::nv12(Size::new(0, 0), color, Vec::new(), Vec::new());
        assert!(matches!(jpeg(&empty, 80), Err(JpegError::Picture(_))));
        let size = Size::new(2, 2);
        let planes = vec![vec![16; 4], vec![128], vec![128]];
        let planar = Picture::new(PixelFormat::I420, size, [2, 1, 1], color, std::sync::Arc::new(planes));
        assert!(jpeg(&planar, 80).unwrap_err().to_string().contains("I420"));
    }
}
