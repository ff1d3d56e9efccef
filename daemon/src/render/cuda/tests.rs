//! The view, overlay and mask kernels, compiled for the host, against the CPU lane: equal, sample by sample.

use super::*;
use crate::flow::{Matrix, Picture, Range, Severity, Shape, ShapeKind};
use crate::gpu::host::{argument, launch};
use crate::gpu::kernels;
use crate::render::{Banner, BoxMark, Renderer};

/// A picture with the planes where the kernel may write, and rows as a device has them: even pitches.
struct Device {
    planes: [Vec<u8>; 2],
    picture: DevicePicture,
}

impl Device {
    fn new(source: &Picture) -> Self {
        let bytes = if source.format == PixelFormat::P010 { 2 } else { 1 };
        let chroma = source.chroma_size();
        let rows = [(source.size.width, source.size.height), (chroma.width * 2, chroma.height)];
        let mut pitches = [0; 2];
        let planes = [0, 1].map(|plane| {
            let (width, height) = (rows[plane].0 as usize * bytes, rows[plane].1 as usize);
            let pitch = width.next_multiple_of(2) + 14;
            pitches[plane] = pitch as i32;
            let mut copy = vec![0xa5u8; pitch * height];
            for (to, from) in
                copy.chunks_exact_mut(pitch).zip(source.plane(plane).chunks(source.strides[plane]))
            {
                to[..width].copy_from_slice(&from[..width]);
            }
            copy
        });
        let picture = DevicePicture {
            format: source.format,
            size: source.size,
            color: source.color,
            luma: planes[0].as_ptr() as u64,
            chroma: planes[1].as_ptr() as u64,
            luma_pitch: pitches[0],
            chroma_pitch: pitches[1],
        };
        Self { planes, picture }
    }

    /// An NV12 picture to write.
    fn empty(size: Size, color: Colorimetry) -> Self {
        let chroma = (size.width.div_ceil(2) * 2 * size.height.div_ceil(2)) as usize;
        let luma = vec![0xa5; (size.width * size.height) as usize];
        Self::new(&Picture::nv12(size, color, luma, vec![0xa5; chroma]))
    }

    fn canvas(&mut self) -> Canvas {
        Canvas {
            luma: self.planes[0].as_mut_ptr() as u64,
            chroma: self.planes[1].as_mut_ptr() as u64,
            luma_pitch: self.picture.luma_pitch,
            chroma_pitch: self.picture.chroma_pitch,
            width: self.picture.size.width as i32,
            height: self.picture.size.height as i32,
        }
    }

    /// Every sample is the other's, and nothing behind the rows was touched.
    fn assert_equal(&self, other: &Picture, what: &str) {
        let pitches = [self.picture.luma_pitch, self.picture.chroma_pitch].map(|pitch| pitch as usize);
        let widths = [other.size.width, other.chroma_size().width * 2];
        for plane in 0..2 {
            let width = widths[plane] as usize * self.picture.bytes() as usize;
            let rows = self.planes[plane].chunks_exact(pitches[plane]);
            let others = other.plane(plane).chunks(other.strides[plane]);
            for (y, (mine, other)) in rows.zip(others).enumerate() {
                assert_eq!(mine[..width], other[..width], "{what}: plane {plane}, row {y}");
                assert!(
                    mine[width..].iter().all(|&byte| byte == 0xa5),
                    "{what}: plane {plane}, row {y}, behind"
                );
            }
        }
    }
}

fn render(drafter: &mut Drafter, source: &Device, view: Rect, overlay: Option<&Overlay>, out: &mut Device) {
    let canvas = out.canvas();
    let tables = drafter.view(source.picture.size, view);
    let arguments = tables.view(tables.bytes().as_ptr() as u64, &source.picture, canvas);
    let [x, y] = ViewTables::threads(&canvas).map(|threads| threads as usize);
    launch(kernels::VIEW_NV12, [x, y, 1], &[argument(&arguments)]);
    let color = source.picture.color;
    let drawing = overlay.and_then(|overlay| drafter.overlay(source.picture.size, view, color, overlay));
    if let Some(drawing) = drawing {
        let covers = drafter.covers().0.as_ptr() as u64;
        let marks = drawing.marks(drawing.bytes().as_ptr() as u64, covers);
        launch(
            kernels::DRAW_NV12,
            [drawing.threads() as usize, 1, 1],
            &[argument(&marks), argument(&canvas)],
        );
    }
}

const FORMATS: [PixelFormat; 2] = [PixelFormat::Nv12, PixelFormat::P010];

#[test]
fn views_are_those_of_the_cpu_lane() {
    let whole = Rect::new(0.0, 0.0, 1e6, 1e6);
    let views = [
        whole,
        Rect::new(13.25, 7.5, 50.0, 40.0),
        Rect::new(2.0, 2.0, 2.0, 2.0),
        Rect::new(60.0, 1.0, 4.5, 70.0),
    ];
    let sizes = [Size::new(160, 90), Size::new(97, 83), Size::new(1, 1), Size::new(7, 301)];
    let outputs =
        [Size::new(160, 90), Size::new(64, 36), Size::new(201, 111), Size::new(97, 83), Size::new(1, 3)];
    for format in FORMATS {
        for size in sizes {
            let host = crate::render::tests::picture(format, size, false);
            let device = Device::new(&host);
            for output in outputs {
                let (mut renderer, mut drafter) = (Renderer::new(output), Drafter::new(output));
                for view in views {
                    let mut out = Device::empty(output, host.color);
                    render(&mut drafter, &device, view, None, &mut out);
                    let expected = renderer.render(&host, view, None);
                    out.assert_equal(&expected, &format!("{format:?} {size} {view:?} to {output}"));
                    let passed = std::ptr::eq(expected.plane(0).as_ptr(), host.plane(0).as_ptr());
                    assert_eq!(drafter.passes(&device.picture, view, None), passed);
                }
            }
        }
    }
}

#[test]
fn tables_are_made_anew_only_for_another_view() {
    let mut drafter = Drafter::new(Size::new(64, 36));
    let size = Size::new(160, 90);
    let first = drafter.view(size, Rect::of_size(size)).generation();
    assert_eq!(drafter.view(size, Rect::of_size(size)).generation(), first);
    assert_ne!(drafter.view(size, Rect::new(0.0, 0.0, 80.0, 45.0)).generation(), first);
    // Tables of another size never reach out of the planes.
    let small = Device::empty(Size::new(8, 8), Colorimetry { matrix: Matrix::Bt709, range: Range::Full });
    let view = drafter.view(size, Rect::of_size(size)).view(0, &small.picture, Canvas::default());
    assert_eq!((view.width, view.height), (0, 0));
}

/// Everything that can be drawn, much of it over the edges and over each other.
fn overlay(step: usize) -> Overlay {
    let shape = |kind, points: &[(f32, f32)], text: &str, color| Shape {
        kind,
        points: points.to_vec(),
        text: text.into(),
        color,
    };
    let boxes = (0..12)
        .map(|index| {
            let place = index as f32 * 11.3 - 20.0;
            let bounds = Rect::new(place, place * 0.6, 30.0 + index as f32 * 3.0, 24.0);
            BoxMark::object(bounds, "person", index, 0.07 * index as f32, u64::from(index % 5))
        })
        .collect();
    let shapes = vec![
        shape(
            ShapeKind::Polyline,
            &[(-40.0, 3.0), (77.7, 60.1), (78.0, 61.0), (200.0, -9.0)],
            "",
            0x00FF_8000,
        ),
        shape(ShapeKind::Polygon, &[(10.0, 10.0), (150.0, 12.5), (90.0, 85.0)], "", 0x0010_C0FF),
        shape(ShapeKind::Rectangle, &[(30.5, 20.25), (120.0, 70.0)], "", 0x00FF_FFFF),
        shape(ShapeKind::Polyline, &[(50.0, 0.0), (50.0, 90.0)], "", 0),
        shape(ShapeKind::Polyline, &[(5.0, 40.0), (5.0, 40.0)], "", 0x0000_FF00),
        shape(ShapeKind::Text, &[(140.0, 80.0)], "Größe №5", 0x00FF_0000),
        shape(ShapeKind::Polyline, &[(f32::NAN, 0.0), (1.0, 1.0)], "", 0),
    ];
    let banners =
        vec![Banner::incident("violence", Severity::High), Banner::incident("crowd", Severity::Info)];
    let all = Overlay { boxes, shapes, banners, caption: Some("entrance 12:00:01".into()) };
    match step {
        0 => all,
        1 => Overlay { boxes: all.boxes, ..Overlay::default() },
        2 => Overlay { shapes: all.shapes, ..Overlay::default() },
        _ => Overlay { caption: Some("A".into()), ..Overlay::default() },
    }
}

#[test]
fn overlays_are_those_of_the_cpu_lane() {
    let size = Size::new(160, 90);
    let views = [Rect::of_size(size), Rect::new(40.0, 20.0, 64.0, 36.0), Rect::new(0.0, 0.0, 160.0, 20.0)];
    for range in [Range::Limited, Range::Full] {
        let mut host = crate::render::tests::picture(PixelFormat::Nv12, size, true);
        host.color = Colorimetry { matrix: Matrix::Bt601, range };
        let device = Device::new(&host);
        for output in [size, Size::new(639, 361), Size::new(320, 320), Size::new(31, 17)] {
            let (mut renderer, mut drafter) = (Renderer::new(output), Drafter::new(output));
            for view in views {
                for step in 0..4 {
                    let overlay = overlay(step);
                    let mut out = Device::empty(output, host.color);
                    render(&mut drafter, &device, view, Some(&overlay), &mut out);
                    let expected = renderer.render(&host, view, Some(&overlay));
                    out.assert_equal(&expected, &format!("{output} {view:?} overlay {step}"));
                }
            }
        }
    }
}

#[test]
fn nothing_drawn_is_no_drawing_and_glyphs_are_sent_once() {
    let (size, color) = (Size::new(640, 360), Colorimetry { matrix: Matrix::Bt709, range: Range::Limited });
    let mut drafter = Drafter::new(size);
    let view = Rect::of_size(size);
    let outside = Overlay {
        boxes: vec![BoxMark { bounds: Rect::new(5000.0, 0.0, 10.0, 10.0), label: String::new(), color: 0 }],
        ..Overlay::default()
    };
    assert!(drafter.overlay(size, view, color, &outside).is_none());
    let caption = |text: &str| Overlay { caption: Some(text.into()), ..Overlay::default() };
    let drawing = drafter.overlay(size, view, color, &caption("abba")).unwrap();
    // A caption touches few of the 240 tiles.
    assert!(drawing.threads() < 20 * 256, "{}", drawing.threads());
    let (covers, first) = drafter.covers();
    let two = covers.len();
    drafter.overlay(size, view, color, &caption("baba")).unwrap();
    assert_eq!((drafter.covers().0.len(), drafter.covers().1), (two, first));
    drafter.overlay(size, view, color, &caption("abc")).unwrap();
    assert_eq!((drafter.covers().0.len(), drafter.covers().1), (two / 2 * 3, first + 1));
    // Ever new characters: the sheet starts over.
    for start in 0..20u32 {
        let text: String = (0..100).filter_map(|step| char::from_u32(0x4e00 + start * 100 + step)).collect();
        let tall = Size::new(640, 360);
        drafter.overlay(tall, view, color, &caption(&text)).unwrap();
    }
    assert!(drafter.covers().0.len() < 1200 * two / 2);
}

#[test]
fn masks_are_those_of_the_cpu_lane() {
    let shapes: [&[[f32; 2]]; 4] = [
        &[[3.2, 2.7], [89.9, 5.1], [47.3, 60.6]],
        &[[16.0, 0.0], [84.0, 71.0], [1.0, 8.0], [91.0, 8.0], [7.0, 71.0]],
        &[[-50.0, -10.0], [12.5, 9.5], [-3.0, 170.0]],
        &[[96.0, 82.0], [300.0, 82.0], [300.0, 200.0], [96.0, 200.0]],
    ];
    for format in FORMATS {
        for size in [Size::new(97, 83), Size::new(640, 90), Size::new(1, 1)] {
            for count in 1..=shapes.len() {
                let host = crate::render::tests::picture(format, size, false);
                let mut device = Device::new(&host);
                let mut masks = Masks::new(shapes[..count].iter().map(|shape| shape.to_vec()));
                let lists = masks.lists(size);
                let mut picture = device.picture;
                let canvas = device.canvas();
                (picture.luma, picture.chroma) = (canvas.luma, canvas.chroma);
                let mask = lists.mask(lists.bytes().as_ptr() as u64, &picture).unwrap();
                launch(kernels::MASK_PLANES, lists.threads().map(|n| n as usize), &[argument(&mask)]);
                device.assert_equal(&masks.apply(&host), &format!("{format:?} {size} {count}"));
                let other = DevicePicture { size: Size::new(8, 8), ..picture };
                assert!(lists.mask(0, &other).is_none());
            }
        }
    }
}
