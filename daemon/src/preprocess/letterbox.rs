//! Geometry: which part of a picture goes where in a model's input.
//!
//! In: the picture's size, a rectangle of it, the input's size, the fit. Out: a [`Letterbox`] whose target lies
//! on whole input pixels. `None` where the rectangle has nothing in common with the picture.

use crate::config::manifest::Fit;
use crate::flow::{Letterbox, Rect, Size};

/// Places `rect`, clipped to the picture, into an input of `input` pixels.
///
/// The scaled size of a letterbox is rounded to whole pixels, and an odd rest of the padding goes right and
/// below. `None`: less than a hundredth of a pixel of `rect` lies in the picture, or it is not finite.
#[must_use]
pub fn place(picture: Size, rect: &Rect, input: Size, fit: Fit) -> Option<Letterbox> {
    if !rect.is_valid() {
        return None;
    }
    let source = rect.intersect(&Rect::of_size(picture));
    if source.width < 0.01 || source.height < 0.01 || input.width == 0 || input.height == 0 {
        return None;
    }
    let (width, height) = (input.width as f32, input.height as f32);
    let all = Rect::new(0.0, 0.0, width, height);
    let (x_scale, y_scale) = (width / source.width, height / source.height);
    Some(match fit {
        Fit::Stretch => Letterbox { source, target: all },
        Fit::Letterbox | Fit::LetterboxCorner => {
            let scale = x_scale.min(y_scale);
            let scaled_width = (source.width * scale).round().clamp(1.0, width);
            let scaled_height = (source.height * scale).round().clamp(1.0, height);
            let (x, y) = match fit {
                Fit::Letterbox => {
                    (((width - scaled_width) / 2.0).floor(), ((height - scaled_height) / 2.0).floor())
                }
                _ => (0.0, 0.0),
            };
            Letterbox { source, target: Rect::new(x, y, scaled_width, scaled_height) }
        }
        Fit::Crop => {
            let scale = x_scale.max(y_scale);
            let kept_width = (width / scale).min(source.width);
            let kept_height = (height / scale).min(source.height);
            let kept = Rect::new(
                source.x + (source.width - kept_width) / 2.0,
                source.y + (source.height - kept_height) / 2.0,
                kept_width,
                kept_height,
            );
            Letterbox { source: kept, target: all }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HD: Size = Size::new(1920, 1080);
    const SQUARE: Size = Size::new(640, 640);

    fn whole(fit: Fit) -> Letterbox {
        place(HD, &Rect::of_size(HD), SQUARE, fit).unwrap()
    }

    #[test]
    fn letterbox_is_centred() {
        assert_eq!(whole(Fit::Letterbox).target, Rect::new(0.0, 140.0, 640.0, 360.0));
        assert_eq!(whole(Fit::Letterbox).source, Rect::of_size(HD));
    }

    #[test]
    fn corner_letterbox_starts_at_the_origin() {
        assert_eq!(whole(Fit::LetterboxCorner).target, Rect::new(0.0, 0.0, 640.0, 360.0));
    }

    #[test]
    fn stretch_fills() {
        assert_eq!(whole(Fit::Stretch).target, Rect::of_size(SQUARE));
    }

    #[test]
    fn crop_cuts_both_sides() {
        let crop = whole(Fit::Crop);
        assert_eq!(crop.target, Rect::of_size(SQUARE));
        assert_eq!(crop.source, Rect::new(420.0, 0.0, 1080.0, 1080.0));
    }

    #[test]
    fn scaled_sizes_are_rounded_and_padding_is_uneven_at_the_far_side() {
        let size = Size::new(1000, 333);
        let letterbox = place(size, &Rect::of_size(size), Size::new(416, 416), Fit::Letterbox).unwrap();
        assert_eq!(letterbox.target, Rect::new(0.0, 138.0, 416.0, 139.0));
    }

    #[test]
    fn rectangles_are_clipped_and_empty_ones_refused() {
        let outside = Rect::new(-50.0, 1000.0, 100.0, 200.0);
        let letterbox = place(HD, &outside, SQUARE, Fit::Stretch).unwrap();
        assert_eq!(letterbox.source, Rect::new(0.0, 1000.0, 50.0, 80.0));
        assert_eq!(place(HD, &Rect::new(1920.0, 0.0, 10.0, 10.0), SQUARE, Fit::Stretch), None);
        assert_eq!(place(HD, &Rect::new(f32::NAN, 0.0, 10.0, 10.0), SQUARE, Fit::Stretch), None);
        assert_eq!(place(HD, &Rect::new(5.0, 5.0, 0.0, 10.0), SQUARE, Fit::Letterbox), None);
    }

    #[test]
    fn a_sliver_keeps_a_pixel() {
        let letterbox = place(HD, &Rect::new(0.0, 0.0, 1920.0, 0.5), SQUARE, Fit::Letterbox).unwrap();
        assert_eq!(letterbox.target.height, 1.0);
    }
}
