//! Masks: parts of a frame that nobody may see, blacked out before anything else looks at it.
//!
//! In: polygons in source pixels; decoded pictures. Out: copies with the polygons black. One for each
//! stream with masks; keeps the rows of its polygons and a few buffers. Nothing fails; points that are not
//! finite are left out of their polygon by [`Masks::new`].
//!
//! Conservative: a pixel that a polygon so much as touches is black, and so is every chroma sample within
//! one sample of a touched one, since encoders filter colour across that distance.

use std::sync::Arc;

use crate::flow::{Picture, PixelFormat, Planes, Size};

/// Buffers kept for pictures that are still on their way.
const KEPT: usize = 24;

/// The masks of one stream.
pub struct Masks {
    polygons: Vec<Vec<[f32; 2]>>,
    spans: Spans,
    buffers: Vec<Arc<Vec<Vec<u8>>>>,
}

/// Columns to black out, by row; one past the last.
#[derive(Default)]
pub(super) struct Spans {
    size: Size,
    pub luma: Vec<Vec<(u32, u32)>>,
    pub chroma: Vec<Vec<(u32, u32)>>,
}

impl Masks {
    /// Masks over these polygons: corners in source pixels, filled by the even-odd rule each by itself.
    #[must_use]
    pub fn new(polygons: impl IntoIterator<Item = Vec<[f32; 2]>>) -> Self {
        let finite = |mut polygon: Vec<[f32; 2]>| {
            polygon.retain(|corner| corner.iter().all(|value| value.is_finite()));
            polygon
        };
        let polygons = polygons.into_iter().map(finite).filter(|polygon| !polygon.is_empty()).collect();
        Self { polygons, spans: Spans::default(), buffers: Vec::new() }
    }

    /// Whether there is nothing to black out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty()
    }

    /// The spans of pictures of a size.
    pub(super) fn prepare(&mut self, size: Size) -> &Spans {
        if self.spans.size != size {
            self.spans = Spans::of(&self.polygons, size);
        }
        &self.spans
    }

    /// The picture with the polygons black; without polygons the picture itself.
    pub fn apply(&mut self, picture: &Picture) -> Picture {
        if self.is_empty() {
            return picture.clone();
        }
        self.prepare(picture.size);
        let free = self.buffers.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        let mut planes = free.map(|index| self.buffers.swap_remove(index)).unwrap_or_default();
        if let Some(planes) = Arc::get_mut(&mut planes) {
            planes.resize(picture.format.planes(), Vec::new());
            for (index, plane) in planes.iter_mut().enumerate() {
                plane.clear();
                plane.extend_from_slice(picture.plane(index));
                self.spans.black_out(picture, index, plane);
            }
        }
        if self.buffers.len() < KEPT {
            self.buffers.push(Arc::clone(&planes));
        }
        let planes: Arc<dyn Planes> = planes;
        Picture::new(picture.format, picture.size, picture.strides, picture.color, planes)
    }
}

impl Spans {
    fn of(polygons: &[Vec<[f32; 2]>], size: Size) -> Self {
        let luma: Vec<_> = (0..size.height)
            .map(|y| {
                let mut row = Vec::new();
                for polygon in polygons {
                    touched(polygon, y, size.width, &mut row);
                }
                merged(row)
            })
            .collect();
        let chroma_width = size.width.div_ceil(2);
        let chroma = (0..size.height.div_ceil(2))
            .map(|y| {
                // The sample's own two rows, and those of the samples above and below.
                let rows = (2 * y).saturating_sub(2)..(2 * y + 4).min(size.height);
                let wider = rows.flat_map(|row| &luma[row as usize]).map(|&(begin, end)| {
                    ((begin / 2).saturating_sub(1), (end.div_ceil(2) + 1).min(chroma_width))
                });
                merged(wider.collect())
            })
            .collect();
        Self { size, luma, chroma }
    }

    /// Blacks out a plane of a picture.
    fn black_out(&self, picture: &Picture, index: usize, plane: &mut [u8]) {
        let (rows, neutral) = if index == 0 {
            (&self.luma, u16::from(super::color::black_luma(picture.color.range)))
        } else {
            (&self.chroma, 128)
        };
        let interleaved = if index > 0 && picture.format != PixelFormat::I420 { 2 } else { 1 };
        for (y, row) in rows.iter().enumerate() {
            for &(begin, end) in row {
                let start = y * picture.strides[index];
                let samples = begin as usize * interleaved..end as usize * interleaved;
                if picture.format == PixelFormat::P010 {
                    let cut = &mut plane[start + samples.start * 2..start + samples.end * 2];
                    for sample in cut.as_chunks_mut::<2>().0 {
                        *sample = (neutral << 8).to_le_bytes();
                    }
                } else {
                    plane[start + samples.start..start + samples.end].fill(neutral as u8);
                }
            }
        }
    }
}

/// Adds the columns of pixel row `y` that a polygon touches.
///
/// A point of the row lies inside exactly if the point at its column on the row's middle line does, unless an
/// edge passes between the two; and then the edge's own columns within the row hold it. So the spans of the
/// middle line and the extents of the edges within the row are together all that is touched.
fn touched(polygon: &[[f32; 2]], y: u32, width: u32, spans: &mut Vec<(u32, u32)>) {
    let (top, middle, bottom) = (f64::from(y), f64::from(y) + 0.5, f64::from(y) + 1.0);
    let mut add = |from: f64, to: f64| {
        let begin = from.floor().clamp(0.0, f64::from(width)) as u32;
        let end = to.ceil().clamp(0.0, f64::from(width)) as u32;
        if begin < end {
            spans.push((begin, end));
        }
    };
    let mut crossings = Vec::new();
    for (index, corner) in polygon.iter().enumerate() {
        let next = polygon[(index + 1) % polygon.len()];
        let [[x1, y1], [x2, y2]] = [*corner, next].map(|point| point.map(f64::from));
        let ((x1, y1), (x2, y2)) = if y1 <= y2 { ((x1, y1), (x2, y2)) } else { ((x2, y2), (x1, y1)) };
        if y1 <= middle && middle < y2 {
            crossings.push(x1 + (x2 - x1) * (middle - y1) / (y2 - y1));
        }
        if y2 <= top || y1 >= bottom {
            continue;
        }
        let at = |y: f64| if y2 > y1 { x1 + (x2 - x1) * ((y - y1) / (y2 - y1)).clamp(0.0, 1.0) } else { x1 };
        let (mut from, mut to) = (at(top), at(bottom));
        if y1 == y2 {
            (from, to) = (x1, x2);
        }
        add(from.min(to), from.max(to));
    }
    crossings.sort_by(f64::total_cmp);
    for pair in crossings.as_chunks::<2>().0 {
        add(pair[0], pair[1]);
    }
}

/// Sorted spans that neither touch nor overlap.
fn merged(mut spans: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    spans.sort_unstable();
    let mut all: Vec<(u32, u32)> = Vec::with_capacity(spans.len());
    for (begin, end) in spans {
        match all.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => all.push((begin, end)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Colorimetry, Matrix, Range};

    const LIMITED: Colorimetry = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };

    /// Even-odd, for one point.
    fn inside(polygon: &[[f32; 2]], x: f64, y: f64) -> bool {
        let mut odd = false;
        for (index, corner) in polygon.iter().enumerate() {
            let next = polygon[(index + 1) % polygon.len()];
            let [[x1, y1], [x2, y2]] = [*corner, next].map(|point| point.map(f64::from));
            if (y1 > y) != (y2 > y) && x < x1 + (x2 - x1) * (y - y1) / (y2 - y1) {
                odd = !odd;
            }
        }
        odd
    }

    fn picture(format: PixelFormat, size: Size) -> Picture {
        let (chroma_width, chroma_height) =
            (size.width.div_ceil(2) as usize, size.height.div_ceil(2) as usize);
        let luma = vec![200u8; (size.width as usize + 3) * size.height as usize];
        let strides = |luma: usize, chroma: usize| [luma, chroma, chroma];
        let wide = if format == PixelFormat::P010 { 2 } else { 1 };
        let (planes, strides) = if format == PixelFormat::I420 {
            let chroma = vec![77u8; (chroma_width + 1) * chroma_height];
            (vec![luma, chroma.clone(), chroma], strides(size.width as usize + 3, chroma_width + 1))
        } else {
            let luma = vec![200u8; (size.width as usize + 3) * wide * size.height as usize];
            let stride = (chroma_width * 2 + 2) * wide;
            let chroma = vec![77u8; stride * chroma_height];
            (vec![luma, chroma], strides((size.width as usize + 3) * wide, stride))
        };
        Picture::new(format, size, strides, LIMITED, Arc::new(planes))
    }

    const SHAPES: [&[[f32; 2]]; 6] = [
        &[[3.2, 2.7], [29.9, 5.1], [17.3, 20.6]],
        &[[4.0, 4.0], [20.0, 4.0], [20.0, 12.0], [4.0, 12.0]],
        // A bow tie, a star that crosses itself, a sliver thinner than a pixel, one half outside.
        &[[2.0, 2.0], [30.0, 20.0], [30.0, 2.0], [2.0, 20.0]],
        &[[16.0, 0.0], [24.0, 21.0], [1.0, 8.0], [31.0, 8.0], [7.0, 21.0]],
        &[[5.3, 1.2], [5.4, 1.2], [28.8, 19.1], [28.7, 19.1]],
        &[[-50.0, -10.0], [12.5, 9.5], [-3.0, 70.0]],
    ];

    #[test]
    fn every_touched_pixel_is_black_and_no_other() {
        let size = Size::new(33, 23);
        for polygon in SHAPES {
            let masked = Masks::new([polygon.to_vec()]).apply(&picture(PixelFormat::Nv12, size));
            for y in 0..size.height as usize {
                for x in 0..size.width as usize {
                    let steps = || (0..=40).map(|step| f64::from(step).mul_add(0.024, 0.02));
                    let hit = steps().any(|v| steps().any(|u| inside(polygon, x as f64 + u, y as f64 + v)));
                    let black = masked.plane(0)[y * masked.strides[0] + x] == 16;
                    assert!(!hit || black, "{polygon:?}: {x},{y} shows through");
                    if black && !hit {
                        // Touched by less than the grid sees: then an edge must be near.
                        let near = |x1: f64, y1: f64| {
                            let around = [-0.06, 0.0, 0.06];
                            around.iter().any(|u| around.iter().any(|v| inside(polygon, x1 + u, y1 + v)))
                        };
                        let fine = || (0..=50).map(|step| f64::from(step) * 0.02);
                        let grazed = fine().any(|v| fine().any(|u| near(x as f64 + u, y as f64 + v)));
                        assert!(grazed, "{polygon:?}: {x},{y} is black for nothing");
                    }
                }
            }
        }
    }

    #[test]
    fn whole_pixels_stay_whole() {
        let size = Size::new(33, 23);
        let masked = Masks::new([SHAPES[1].to_vec()]).apply(&picture(PixelFormat::Nv12, size));
        let black = masked.plane(0).iter().filter(|&&byte| byte == 16).count();
        assert_eq!(black, 16 * 8);
        // Chroma: 8 × 4 samples and one around them.
        assert_eq!(masked.plane(1).iter().filter(|&&byte| byte == 128).count(), 10 * 6 * 2);
    }

    #[test]
    fn no_colour_is_left_over_a_masked_pixel_in_any_format() {
        let size = Size::new(33, 23);
        for format in [PixelFormat::Nv12, PixelFormat::I420, PixelFormat::P010] {
            for polygon in SHAPES {
                let original = picture(format, size);
                let masked = Masks::new([polygon.to_vec()]).apply(&original);
                assert_eq!(masked.strides, original.strides);
                let sample = |plane: usize, x: usize, y: usize| {
                    let row = &masked.plane(plane)[y * masked.strides[plane]..];
                    if format == PixelFormat::P010 { row[2 * x + 1] } else { row[x] }
                };
                let mut changed = 0;
                for y in 0..size.height as usize {
                    for x in 0..size.width as usize {
                        if sample(0, x, y) != 16 {
                            continue;
                        }
                        changed += 1;
                        let (cx, cy) = (x / 2, y / 2);
                        let colours = match format {
                            PixelFormat::I420 => [sample(1, cx, cy), sample(2, cx, cy)],
                            _ => [sample(1, 2 * cx, cy), sample(1, 2 * cx + 1, cy)],
                        };
                        assert_eq!(colours, [128, 128], "{format:?} {polygon:?} at {x},{y}");
                    }
                }
                assert!(changed > 10, "{format:?} {polygon:?}: {changed}");
                // The padding and the shared original are untouched.
                assert!(original.plane(0).iter().all(|&byte| byte == 200));
            }
        }
    }

    #[test]
    fn buffers_come_back_and_a_new_size_is_noticed() {
        let mut masks = Masks::new([SHAPES[0].to_vec(), vec![[f32::NAN, 0.0]]]);
        let small = masks.apply(&picture(PixelFormat::Nv12, Size::new(33, 23)));
        let place = small.plane(0).as_ptr();
        drop(small);
        let again = masks.apply(&picture(PixelFormat::Nv12, Size::new(33, 23)));
        assert_eq!(again.plane(0).as_ptr(), place);
        let large = masks.apply(&picture(PixelFormat::I420, Size::new(64, 48)));
        assert_eq!(large.plane(0)[10 * 67 + 16], 16);
        assert!(Masks::new([]).is_empty());
    }
}
