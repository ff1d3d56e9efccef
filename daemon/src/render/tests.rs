//! The renderer against a slow reference that computes every sample in floating point.

use std::sync::Arc;

use super::*;
use crate::flow::{Colorimetry, Matrix, Range, Severity, Shape, ShapeKind};

const HD: Colorimetry = Colorimetry { matrix: Matrix::Bt709, range: Range::Limited };

/// A picture with structure and noise in all planes, with padding behind each row.
pub(super) fn picture(format: PixelFormat, size: Size, smooth: bool) -> Picture {
    let mut state = 7u32;
    let mut sample = |x: usize, y: usize, plane: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wave = ((x as f32 * 0.11 + plane as f32).sin() + (y as f32 * 0.07).cos()) * 45.0 + 128.0;
        let noise = if smooth { 0.0 } else { (state >> 24) as f32 * 0.15 };
        (wave + noise).clamp(0.0, 255.0)
    };
    let chroma = Size::new(size.width.div_ceil(2), size.height.div_ceil(2));
    let (wide, interleaved) = match format {
        PixelFormat::Nv12 => (1, 2),
        PixelFormat::I420 => (1, 1),
        PixelFormat::P010 => (2, 2),
    };
    let mut strides = [0; 3];
    let planes: Vec<Vec<u8>> = (0..format.planes())
        .map(|plane| {
            let (width, height, kinds) = match plane {
                0 => (size.width as usize, size.height as usize, 1),
                _ => (chroma.width as usize, chroma.height as usize, interleaved),
            };
            strides[plane] = width * kinds * wide + 5 * plane + 10;
            let mut bytes = vec![255u8; strides[plane] * height];
            for y in 0..height {
                for x in 0..width {
                    for kind in 0..kinds {
                        let value = sample(x, y, plane + kind);
                        let at = y * strides[plane] + (x * kinds + kind) * wide;
                        if wide == 2 {
                            let ten = ((value * 4.0) as u16).min(1023) << 6;
                            bytes[at..at + 2].copy_from_slice(&ten.to_le_bytes());
                        } else {
                            bytes[at] = value as u8;
                        }
                    }
                }
            }
            bytes
        })
        .collect();
    Picture::new(format, size, strides, HD, Arc::new(planes))
}

/// One sample of a plane, 0 to 255; the edge repeats outside.
fn sample(picture: &Picture, kind: usize, x: i64, y: i64) -> f64 {
    let size = if kind == 0 { picture.size } else { picture.chroma_size() };
    let x = x.clamp(0, i64::from(size.width) - 1) as usize;
    let y = y.clamp(0, i64::from(size.height) - 1) as usize;
    let (plane, column) = match (picture.format, kind) {
        (_, 0) => (0, x),
        (PixelFormat::I420, kind) => (kind, x),
        (_, kind) => (1, 2 * x + kind - 1),
    };
    let row = &picture.plane(plane)[y * picture.strides[plane]..];
    match picture.format {
        PixelFormat::P010 => f64::from(u16::from_le_bytes([row[2 * column], row[2 * column + 1]])) / 256.0,
        _ => f64::from(row[column]),
    }
}

/// The mean over a box, in floating point.
fn reference(picture: &Picture, kind: usize, center: (f64, f64), step: (f64, f64)) -> f64 {
    let weights = |center: f64, step: f64| {
        let width = step.max(1.0);
        let (from, to) = (center - width / 2.0, center + width / 2.0);
        let overlap = move |i: i64| ((i + 1) as f64).min(to) - (i as f64).max(from);
        (from.floor() as i64..to.ceil() as i64).map(move |i| (i, overlap(i) / width)).collect::<Vec<_>>()
    };
    let across = weights(center.0, step.0);
    let mut sum = 0.0;
    for (y, wy) in weights(center.1, step.1) {
        for &(x, wx) in &across {
            sum += wx * wy * sample(picture, kind, x, y);
        }
    }
    sum
}

fn check(format: PixelFormat, source: (u32, u32), view: Rect, output: (u32, u32)) {
    let source = picture(format, Size::new(source.0, source.1), false);
    let output = Size::new(output.0, output.1);
    let out = Renderer::new(output).render(&source, view, None);
    assert_eq!((out.format, out.size, out.color), (PixelFormat::Nv12, output, HD));
    let placement = Placement::new(source.size, view, output);
    let (step_x, step_y) = placement.step();
    let inner = placement.inner;
    let (mut worst, mut total, mut count) = (0.0f64, 0.0, 0.0);
    let mut compare = |kind: usize, x: u32, y: u32, center: (f64, f64), inside: bool| {
        let expected = match (inside, kind) {
            (true, _) => reference(&source, kind, center, (step_x, step_y)),
            (false, 0) => 16.0,
            (false, _) => 128.0,
        };
        let off = sample(&out, kind, i64::from(x), i64::from(y)) - expected;
        worst = worst.max(off.abs());
        total += off;
        count += 1.0;
        let limit = if inside { 1.6 } else { 0.0 };
        assert!(off.abs() <= limit, "{format:?} {view:?} kind {kind} at {x},{y}: off by {off}");
    };
    let within = |x: u32, y: u32| {
        (inner.left..inner.right).contains(&(x as i32)) && (inner.top..inner.bottom).contains(&(y as i32))
    };
    for y in 0..output.height {
        for x in 0..output.width {
            let (u, v) = (f64::from(x) - f64::from(inner.left), f64::from(y) - f64::from(inner.top));
            let center = (placement.x + (u + 0.5) * step_x, placement.y + (v + 0.5) * step_y);
            compare(0, x, y, center, within(x, y));
            if x % 2 == 0 && y % 2 == 0 {
                // Left-sited: over the middle of the even luma column, between two luma rows.
                let luma = (placement.x + (u + 0.5) * step_x, placement.y + (v + 1.0) * step_y);
                let center = ((luma.0 - 0.5) / 2.0 + 0.5, luma.1 / 2.0);
                for kind in [1, 2] {
                    compare(kind, x / 2, y / 2, center, within(x, y));
                }
            }
        }
    }
    // Rounding quarters (10 bits to 8) up at one half makes an eighth.
    let bias = total / count;
    assert!(bias.abs() < 0.14, "{format:?} {view:?}: brighter by {bias} on average");
}

#[test]
fn crops_and_scales_as_the_reference_does() {
    for format in [PixelFormat::Nv12, PixelFormat::I420, PixelFormat::P010] {
        check(format, (192, 108), Rect::new(0.0, 0.0, 192.0, 108.0), (128, 72));
        check(format, (192, 108), Rect::new(31.3, 17.8, 64.5, 36.3), (160, 90));
        check(format, (192, 108), Rect::new(12.0, 8.0, 96.0, 54.0), (96, 54));
        check(format, (192, 108), Rect::new(12.25, 8.5, 96.0, 54.0), (96, 54));
        check(format, (193, 107), Rect::new(0.0, 0.0, 193.0, 107.0), (49, 27));
        check(format, (193, 107), Rect::new(150.0, 80.0, 43.0, 27.0), (86, 54));
        check(format, (640, 360), Rect::new(0.0, 0.0, 640.0, 360.0), (24, 14));
        check(format, (64, 128), Rect::new(0.0, 0.0, 64.0, 128.0), (128, 72));
        check(format, (128, 32), Rect::new(3.7, 1.2, 100.0, 20.0), (64, 64));
        check(format, (3, 3), Rect::new(0.0, 0.0, 3.0, 3.0), (20, 20));
    }
}

#[test]
fn the_whole_of_an_nv12_picture_is_passed_through() {
    let size = Size::new(64, 36);
    let source = picture(PixelFormat::Nv12, size, false);
    let mut renderer = Renderer::new(size);
    let same = renderer.render(&source, Rect::of_size(size), None);
    assert_eq!(same.plane(0).as_ptr(), source.plane(0).as_ptr());
    let empty = renderer.render(&source, Rect::of_size(size), Some(&Overlay::default()));
    assert_eq!(empty.plane(0).as_ptr(), source.plane(0).as_ptr());
    // Other layouts at the same size keep every sample.
    let planar = picture(PixelFormat::I420, size, false);
    let out = renderer.render(&planar, Rect::of_size(size), None);
    for y in 0..36 {
        for x in 0..64 {
            assert_eq!(sample(&out, 0, x, y), sample(&planar, 0, x, y));
            assert_eq!(sample(&out, 2, x / 2, y / 2), sample(&planar, 2, x / 2, y / 2));
        }
    }
}

fn overlay() -> Overlay {
    let boxes = vec![
        BoxMark::object(Rect::new(300.0, 300.0, 200.0, 450.0), "person", 0, 0.87, 12),
        BoxMark::object(Rect::new(560.0, 340.0, 180.0, 420.0), "person", 0, 0.91, 13),
        BoxMark::object(Rect::new(900.0, -40.0, 220.0, 400.0), "person", 0, 0.55, 9004),
        BoxMark::object(Rect::new(1800.0, 500.0, 300.0, 420.0), "person", 0, 0.42, 15),
        BoxMark::object(Rect::new(1150.0, 700.0, 60.0, 60.0), "ball", 1, 0.66, 0),
    ];
    let zone = Shape {
        kind: ShapeKind::Polygon,
        points: vec![(1300.0, 400.0), (1700.0, 480.0), (1600.0, 900.0), (1250.0, 800.0)],
        text: String::new(),
        color: 0x00FF_D000,
    };
    let name = Shape { kind: ShapeKind::Text, text: "Zone Nord-Ost äöü Ж".into(), ..zone.clone() };
    Overlay {
        boxes,
        shapes: vec![zone, name],
        banners: vec![Banner::incident("violence", Severity::High)],
        caption: Some("entrance  2026-11-21 09:30:12".into()),
    }
}

#[test]
fn overlays_are_drawn_at_every_size_and_stay_inside() {
    let source = picture(PixelFormat::Nv12, Size::new(1920, 1080), true);
    for (width, height) in [(320, 180), (640, 360), (1280, 720), (1920, 1080), (7, 5), (1, 1), (333, 999)] {
        let size = Size::new(width, height);
        let mut renderer = Renderer::new(size);
        let view = Rect::of_size(source.size);
        let plain = renderer.render(&source, view, None);
        let drawn = renderer.render(&source, view, Some(&overlay()));
        let changed = plain.plane(0).iter().zip(drawn.plane(0)).filter(|(a, b)| a != b).count();
        assert!(changed * 50 > plain.plane(0).len(), "{size}: only {changed} pixels drawn");
        if let Some(folder) = std::env::var_os("WATCHPOST_RENDER_PICTURES") {
            let path = std::path::Path::new(&folder).join(format!("overlay_{size}.nv12"));
            std::fs::write(path, [drawn.plane(0), drawn.plane(1)].concat()).unwrap();
        }
    }
}

#[test]
fn a_box_lies_where_the_object_is_and_has_its_colour() {
    let size = Size::new(640, 360);
    let grey = Picture::nv12(size, HD, vec![100; 640 * 360], vec![128; 640 * 180]);
    let mark =
        BoxMark { bounds: Rect::new(100.0, 100.0, 200.0, 160.0), label: String::new(), color: 0xFF0000 };
    let overlay = Overlay { boxes: vec![mark], ..Overlay::default() };
    let out = Renderer::new(Size::new(1280, 720)).render(&grey, Rect::of_size(size), Some(&overlay));
    let at = |x: i64, y: i64| [0, 1, 2].map(|kind| sample(&out, kind, x >> kind.min(1), y >> kind.min(1)));
    for (x, y) in [(201, 300), (598, 400), (400, 201), (400, 518)] {
        assert_eq!(at(x, y), [63.0, 102.0, 240.0], "{x},{y}");
    }
    for (x, y) in [(190, 300), (300, 300), (610, 400), (400, 190), (400, 530)] {
        assert_eq!(at(x, y), [100.0, 128.0, 128.0], "{x},{y}");
    }
}

#[test]
fn shapes_that_make_no_sense_are_left_out() {
    let source = picture(PixelFormat::Nv12, Size::new(64, 36), true);
    let far = 3.0e38;
    let shape = |kind, points| Shape { kind, points, text: "x".repeat(5000), color: 0xFFFF_FFFF };
    let shapes = vec![
        shape(ShapeKind::Polyline, vec![(f32::NAN, 1.0), (2.0, 2.0)]),
        shape(ShapeKind::Polyline, vec![(-far, 1.0), (far, 2.0)]),
        shape(ShapeKind::Polygon, vec![]),
        shape(ShapeKind::Rectangle, vec![(1.0, 1.0)]),
        shape(ShapeKind::Text, vec![]),
        shape(ShapeKind::Text, vec![(far, f32::NAN)]),
    ];
    let boxes = vec![
        BoxMark { bounds: Rect::new(f32::NAN, 0.0, 1.0, 1.0), label: "a".into(), color: 1 },
        BoxMark { bounds: Rect::new(-far, -far, far, far), label: "b".repeat(400), color: 2 },
        BoxMark { bounds: Rect::new(5.0, 5.0, 0.0, 0.0), label: "c".into(), color: 3 },
    ];
    let banners = vec![Banner { text: "b".repeat(1000), severity: Severity::Info }; 30];
    let overlay = Overlay { boxes, shapes, banners, caption: Some(String::new()) };
    let out =
        Renderer::new(Size::new(64, 36)).render(&source, Rect::new(0.0, 0.0, 64.0, 36.0), Some(&overlay));
    assert_eq!(out.size, Size::new(64, 36));
}

#[test]
fn labels_keep_clear_of_each_other_and_of_banners() {
    let size = Size::new(640, 360);
    let grey = Picture::nv12(size, HD, vec![100; 640 * 360], vec![128; 640 * 180]);
    let mark = |x: f32, y: f32, color| BoxMark {
        bounds: Rect::new(x, y, 60.0, 120.0),
        label: "person #1 0.87".into(),
        color,
    };
    let colors = [0xFF0000, 0x00FF00, 0x0000FF, 0xFFFF00];
    // Two side by side, one at the top edge under the banner, one at the right edge.
    let boxes = vec![
        mark(100.0, 180.0, colors[0]),
        mark(150.0, 180.0, colors[1]),
        mark(300.0, 0.0, colors[2]),
        mark(600.0, 200.0, colors[3]),
    ];
    let banners = vec![Banner::incident("violence", Severity::High)];
    let overlay = Overlay { boxes, banners, ..Overlay::default() };
    let out = Renderer::new(size).render(&grey, Rect::of_size(size), Some(&overlay));
    // A plate's luma outweighs that of its box's lines by far: all four must be there nearly whole.
    for color in colors {
        let wanted = color::ycc(color, HD);
        let plate = (u32::from(wanted.y) * 225 + 100 * 31 + 128) >> 8;
        let pixels = out.plane(0).iter().filter(|&&luma| u32::from(luma).abs_diff(plate) <= 1).count();
        assert!(pixels > 500, "the label in {color:06X} is covered: {pixels} pixels of its plate");
    }
}

/// Not a test of speed: prints what a frame costs, for `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost_of_a_frame() {
    let source = picture(PixelFormat::Nv12, Size::new(1920, 1080), true);
    for (view, output) in [
        (Rect::new(0.0, 0.0, 1920.0, 1080.0), Size::new(1280, 720)),
        (Rect::new(400.3, 200.7, 960.0, 540.0), Size::new(1280, 720)),
        (Rect::new(0.0, 0.0, 1920.0, 1080.0), Size::new(640, 360)),
        (Rect::new(0.0, 0.0, 1920.0, 1080.0), Size::new(1920, 1080)),
    ] {
        for overlay in [None, Some(overlay())] {
            let mut renderer = Renderer::new(output);
            let mut best = f64::MAX;
            for _ in 0..100 {
                let begin = std::time::Instant::now();
                std::hint::black_box(renderer.render(&source, view, overlay.as_ref()));
                best = best.min(begin.elapsed().as_secs_f64());
            }
            let with = if overlay.is_some() { " with overlay" } else { "" };
            println!("{view:?} of 1920x1080 to {output}{with}: {:.2} ms", best * 1e3);
        }
    }
}
