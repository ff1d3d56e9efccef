//! A plan: the tables for one rectangle of pictures of one size, and the cache that keeps the recent ones.
//!
//! In: sizes, rectangle, fit, filter. Out: a [`Plan`]. Owned by a [`super::Preprocessor`]. A rectangle outside
//! the picture has no plan.

use super::axis::{Lerp, RowPair, Span, Taps, row_pairs};
use super::letterbox::place;
use crate::config::manifest::{Filter, Fit};
use crate::flow::{Letterbox, Rect, Size};

/// Plans kept beside the newest one. A whole frame and the people in it fit; a plan for 640 pixels takes 20 kB.
const KEPT: usize = 16;

/// Tables of one plane.
#[derive(Debug)]
pub enum Plane {
    /// Two neighbours along each axis.
    Lerp {
        /// Columns.
        x: Lerp,
        /// Rows.
        y: Vec<RowPair>,
    },
    /// Any number of neighbours along each axis.
    Taps {
        /// Columns.
        x: Taps,
        /// Rows.
        y: Taps,
    },
}

/// The tables for one rectangle of pictures of one size.
#[derive(Debug)]
pub struct Plan {
    picture: Size,
    rect: Rect,
    /// Input columns left of the picture.
    pub left: usize,
    /// Input rows above it.
    pub top: usize,
    /// Input columns that show it.
    pub width: usize,
    /// Input rows that show it.
    pub height: usize,
    /// Tables of the luma plane.
    pub luma: Plane,
    /// Tables of a chroma plane; of the same kind as the luma's.
    pub chroma: Plane,
}

impl Plan {
    /// A plan, or `None` where the rectangle has nothing in common with the picture.
    #[must_use]
    pub fn new(picture: Size, rect: Rect, input: Size, fit: Fit, filter: Filter) -> Option<Self> {
        let Letterbox { source, target } = place(picture, &rect, input, fit)?;
        let (width, height) = (target.width as usize, target.height as usize);
        let span = |origin: f32, samples: f32, count: usize, len: u32| Span {
            origin: f64::from(origin),
            step: f64::from(samples) / count as f64,
            count,
            len: len as usize,
        };
        let x = span(source.x, source.width, width, picture.width);
        let y = span(source.y, source.height, height, picture.height);
        let chroma_x = x.chroma(x.len.div_ceil(2));
        let chroma_y = y.chroma(y.len.div_ceil(2));
        let shrinks = x.step > 1.0 || y.step > 1.0;
        let (luma, chroma) = if filter == Filter::Area && shrinks {
            (
                Plane::Taps { x: Taps::area(&x), y: Taps::area(&y) },
                Plane::Taps { x: Taps::area(&chroma_x), y: Taps::area(&chroma_y) },
            )
        } else {
            (
                Plane::Lerp { x: Lerp::new(&x, filter, false), y: row_pairs(&y, filter, false) },
                Plane::Lerp { x: Lerp::new(&chroma_x, filter, true), y: row_pairs(&chroma_y, filter, true) },
            )
        };
        let (left, top) = (target.x as usize, target.y as usize);
        Some(Self { picture, rect, left, top, width, height, luma, chroma })
    }
}

/// The recent plans of one input, the newest first.
#[derive(Debug)]
pub struct Cache {
    input: Size,
    fit: Fit,
    filter: Filter,
    plans: Vec<Plan>,
}

impl Cache {
    /// An empty cache for an input.
    #[must_use]
    pub fn new(input: Size, fit: Fit, filter: Filter) -> Self {
        Self { input, fit, filter, plans: Vec::with_capacity(KEPT) }
    }

    /// The plan for a rectangle, from the cache or new.
    pub fn plan(&mut self, picture: Size, rect: &Rect) -> Option<&Plan> {
        let known = self.plans.iter().position(|plan| plan.picture == picture && plan.rect == *rect);
        match known {
            Some(index) => self.plans[..=index].rotate_right(1),
            None => {
                let plan = Plan::new(picture, *rect, self.input, self.fit, self.filter)?;
                self.plans.truncate(KEPT - 1);
                self.plans.insert(0, plan);
            }
        }
        self.plans.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_recent_plans_and_no_more() {
        let size = Size::new(64, 48);
        let mut cache = Cache::new(Size::new(32, 32), Fit::Letterbox, Filter::Bilinear);
        let whole = Rect::of_size(size);
        for step in 0..100 {
            assert!(cache.plan(size, &Rect::new(step as f32 * 0.1, 0.0, 20.0, 20.0)).is_some());
            assert_eq!(cache.plan(size, &whole).unwrap().rect, whole);
        }
        assert_eq!(cache.plans.len(), KEPT);
        assert!(cache.plan(size, &Rect::new(64.0, 0.0, 5.0, 5.0)).is_none());
        assert_eq!(cache.plans[0].rect, whole);
    }
}
