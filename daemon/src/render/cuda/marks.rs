//! The painter's calls as a list: what is drawn, where, in which order, and which parts of the picture it touches.
//!
//! In: calls of a [`Surface`]. Out: a [`Drawing`]. The glyphs' coverage is kept from picture to picture, so that it goes
//! to the device only when a new character appears. Nothing fails.

use std::collections::HashMap;

use crate::flow::Size;
use crate::gpu::block::Block;
use crate::gpu::params::{Mark, Marks, Tile};
use crate::render::color::Ycc;
use crate::render::font::Glyph;
use crate::render::placement::Area;
use crate::render::surface::Surface;

/// Glyphs kept: a text with ever new characters must not grow the sheet without end.
const KEPT: usize = 1024;

/// The coverage of the glyphs in use.
#[derive(Debug, Default)]
pub(super) struct Glyphs {
    /// Where each begins, by width, height and character.
    places: HashMap<(i32, i32, char), i32>,
    covers: Vec<u16>,
    generation: u64,
}

impl Glyphs {
    /// See [`super::Drafter::covers`].
    pub(super) fn covers(&self) -> (&[u16], u64) {
        (&self.covers, self.generation)
    }

    fn place(&mut self, key: (i32, i32, char), cover: &[u16]) -> i32 {
        let Self { places, covers, generation } = self;
        *places.entry(key).or_insert_with(|| {
            let place = covers.len() as i32;
            covers.extend_from_slice(cover);
            *generation += 1;
            place
        })
    }
}

/// What is drawn over one picture.
#[derive(Debug, Clone)]
pub struct Drawing {
    block: Block,
    /// Addresses count from the block's beginning.
    marks: Marks,
}

impl Drawing {
    /// What to copy to the device, to an address that is a multiple of 16.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes()
    }

    /// The kernel's argument, with the lists at `address` and the glyphs' coverage at `covers`.
    #[must_use]
    pub fn marks(&self, address: u64, covers: u64) -> Marks {
        let Marks { marks, order, tiles, .. } = self.marks;
        Marks { marks: marks + address, order: order + address, tiles: tiles + address, covers, ..self.marks }
    }

    /// Threads that the kernel wants, along x.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.marks.count.cast_unsigned() * Tile::THREADS
    }
}

/// Writes down what is drawn.
pub(super) struct Recorder<'a> {
    size: Size,
    clip: Area,
    marks: Vec<Mark>,
    glyphs: &'a mut Glyphs,
}

impl<'a> Recorder<'a> {
    /// For one picture of this size.
    pub(super) fn new(size: Size, glyphs: &'a mut Glyphs) -> Self {
        if glyphs.places.len() > KEPT {
            glyphs.places.clear();
            glyphs.covers.clear();
            glyphs.generation += 1;
        }
        let clip = Area::new(0, 0, size.width as i32, size.height as i32);
        Self { size, clip, marks: Vec::new(), glyphs }
    }

    /// Adds a mark, cut to the clip, unless nothing of it is left.
    fn add(&mut self, area: Area, color: Ycc, kind: u8, mark: Mark) {
        let area = area.intersect(&self.clip);
        if area.width() > 0 && area.height() > 0 {
            let Area { left, top, right, bottom } = area;
            let color = [color.y, color.cb, color.cr, kind];
            self.marks.push(Mark { left, top, right, bottom, color, ..mark });
        }
    }

    /// The lists; `None` where nothing was drawn.
    pub(super) fn finish(self) -> Option<Drawing> {
        let columns = self.size.width.div_ceil(Tile::SIDE as u32);
        let rows = self.size.height.div_ceil(Tile::SIDE as u32);
        // Counted first and filled in then: each tile's marks lie together, in their order.
        let mut counts = vec![0i32; (columns * rows) as usize];
        for mark in &self.marks {
            touched(mark, columns, |tile| counts[tile] += 1);
        }
        let mut tiles = Vec::new();
        let mut next = vec![0usize; counts.len()];
        let mut total = 0;
        for (index, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (column, row) = (index as u32 % columns, index as u32 / columns);
            tiles.push(Tile { column: column as u16, row: row as u16, first: total, count });
            next[index] = total as usize;
            total += count;
        }
        let mut order = vec![0i32; total as usize];
        for (number, mark) in (0i32..).zip(&self.marks) {
            touched(mark, columns, |tile| {
                order[next[tile]] = number;
                next[tile] += 1;
            });
        }
        let mut block = Block::default();
        let (marks, order) = (block.push(&self.marks), block.push(&order));
        let marks =
            Marks { marks, order, tiles: block.push(&tiles), count: tiles.len() as i32, ..Marks::default() };
        (marks.count > 0).then_some(Drawing { block, marks })
    }
}

/// Calls `each` for every tile that a mark may change.
fn touched(mark: &Mark, columns: u32, mut each: impl FnMut(usize)) {
    for row in mark.top / Tile::SIDE..=(mark.bottom - 1) / Tile::SIDE {
        for column in mark.left / Tile::SIDE..=(mark.right - 1) / Tile::SIDE {
            if mark.color[3] != Mark::LINE || near(mark, column, row) {
                each((row as u32 * columns + column as u32) as usize);
            }
        }
    }
}

/// Whether a line comes near a tile: a slanting one misses most tiles of its bounds.
fn near(mark: &Mark, column: i32, row: i32) -> bool {
    let half = Tile::SIDE as f32 / 2.0;
    let middle = [column, row].map(|tile| (tile * Tile::SIDE) as f32 + half);
    let (px, py) = (middle[0] - mark.from[0], middle[1] - mark.from[1]);
    let [dx, dy] = mark.way;
    let along = if mark.length2 > 0.0 { ((px * dx + py * dy) / mark.length2).clamp(0.0, 1.0) } else { 0.0 };
    // The tile's half diagonal, the line's half width, and a pixel for rounding.
    (px - along * dx).hypot(py - along * dy) <= half * std::f32::consts::SQRT_2 + mark.reach + 1.0
}

impl Surface for Recorder<'_> {
    fn clip(&self) -> Area {
        self.clip
    }

    fn set_clip(&mut self, clip: Area) {
        self.clip = clip;
    }

    fn rectangle(&mut self, area: Area, color: Ycc, alpha: u32) {
        self.add(area, color, Mark::EVEN, Mark { alpha: alpha as i32, ..Mark::default() });
    }

    fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, color: Ycc) {
        // The same numbers, made in the same way, as the canvas makes of them.
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let mark = Mark {
            from: [from.0, from.1],
            way: [dx, dy],
            length2: dx * dx + dy * dy,
            reach: width / 2.0 + 0.5,
            ..Mark::default()
        };
        let reach = width / 2.0 + 1.0;
        let area = Area::new(
            (from.0.min(to.0) - reach).floor() as i32,
            (from.1.min(to.1) - reach).floor() as i32,
            (from.0.max(to.0) + reach).ceil() as i32,
            (from.1.max(to.1) + reach).ceil() as i32,
        );
        self.add(area, color, Mark::LINE, mark);
    }

    fn glyph(&mut self, area: Area, color: Ycc, character: char, glyph: &Glyph) {
        let first = self.glyphs.place((area.width(), area.height(), character), &glyph.cover);
        let mark = Mark {
            cell_left: area.left,
            cell_top: area.top,
            columns: area.width(),
            first,
            ..Mark::default()
        };
        self.add(area, color, Mark::GLYPH, mark);
    }
}
