//! Text: the public-domain 8 × 8 bitmap font, smoothed to any height.
//!
//! In: characters, a height in pixels. Out: coverage of each pixel of a glyph. Owned by a renderer, which keeps
//! the glyphs it has made. A character outside the font becomes the replacement glyph.

use std::collections::HashMap;

use font8x8::{
    BASIC_FONTS, BLOCK_FONTS, BOX_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, MISC_FONTS, UnicodeFonts,
};

/// What stands for a character that the font does not have: a hollow box.
const REPLACEMENT: [u8; 8] = [0x7F, 0x41, 0x41, 0x41, 0x41, 0x41, 0x7F, 0x00];

/// Coverage of one glyph, row by row.
pub(super) struct Glyph {
    /// 0 to 256 for each pixel of the cell.
    pub cover: Vec<u16>,
}

/// Glyphs of one height.
pub(super) struct Font {
    /// Pixels from the top of a capital with its ascent to the bottom of a descender.
    pub height: i32,
    /// Pixels from one character to the next.
    pub advance: i32,
    glyphs: HashMap<char, Glyph>,
}

impl Font {
    /// A font of this height, at least 8 pixels.
    pub(super) fn new(height: u32) -> Self {
        let height = height.max(8) as i32;
        // The bitmap's cells are square with a column of space at the right: narrower reads as well and
        // leaves more room, but never fewer than the bitmap's own columns.
        let advance = (height * 3 / 4).max(8);
        Self { height, advance, glyphs: HashMap::new() }
    }

    /// Pixels that a text takes across.
    pub(super) fn width(&self, text: &str) -> i32 {
        text.chars().count() as i32 * self.advance
    }

    /// The coverage of a character, `advance` × `height` pixels.
    pub(super) fn glyph(&mut self, character: char) -> &Glyph {
        let (width, height) = (self.advance as usize, self.height as usize);
        // A text with ever new characters must not grow the cache without end.
        if self.glyphs.len() > 1024 {
            self.glyphs.clear();
        }
        self.glyphs.entry(character).or_insert_with(|| smooth(bitmap(character), width, height))
    }
}

/// The bitmap of a character; the lowest bit of each row is its leftmost pixel.
fn bitmap(character: char) -> [u8; 8] {
    let plain = match character {
        '—' | '–' | '‐' | '‑' | '−' => '-',
        '‘' | '’' => '\'',
        '“' | '”' | '„' => '"',
        '…' => '.',
        '\t' | '\u{2009}' | '\u{202F}' => ' ',
        other => other,
    };
    let fonts: [&dyn Fn(char) -> Option<[u8; 8]>; 7] = [
        &|c| BASIC_FONTS.get(c),
        &|c| LATIN_FONTS.get(c),
        &|c| GREEK_FONTS.get(c),
        &|c| MISC_FONTS.get(c),
        &|c| BOX_FONTS.get(c),
        &|c| BLOCK_FONTS.get(c),
        &|c| HIRAGANA_FONTS.get(c),
    ];
    if plain.is_control() {
        return REPLACEMENT;
    }
    fonts.iter().find_map(|font| font(plain)).unwrap_or(REPLACEMENT)
}

/// A bitmap at another size: interpolated, then sharpened to an edge about a pixel wide, which rounds the
/// steps off instead of blurring them.
fn smooth(bitmap: [u8; 8], width: usize, height: usize) -> Glyph {
    let bit = |x: i32, y: i32| {
        let inside = (0..8).contains(&x) && (0..8).contains(&y);
        if inside && bitmap[y as usize] >> x & 1 == 1 { 1.0f32 } else { 0.0 }
    };
    let (scale_x, scale_y) = (8.0 / width as f32, 8.0 / height as f32);
    let sharpness = (height as f32 / 8.0).max(1.0);
    let mut cover = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = ((x as f32 + 0.5) * scale_x - 0.5, (y as f32 + 0.5) * scale_y - 0.5);
            let (left, top) = (u.floor(), v.floor());
            let (fx, fy) = (u - left, v - top);
            let (left, top) = (left as i32, top as i32);
            let upper = bit(left, top) * (1.0 - fx) + bit(left + 1, top) * fx;
            let lower = bit(left, top + 1) * (1.0 - fx) + bit(left + 1, top + 1) * fx;
            let value = upper * (1.0 - fy) + lower * fy;
            let sharp = ((value - 0.42) * sharpness + 0.5).clamp(0.0, 1.0);
            cover.push((sharp * 256.0) as u16);
        }
    }
    Glyph { cover }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters_have_glyphs_and_unknown_ones_the_replacement() {
        for character in ('!'..='~').chain("äöüßéñÅøαΩ°—…".chars()) {
            assert_ne!(bitmap(character), REPLACEMENT, "{character}");
            assert_ne!(bitmap(character), [0; 8], "{character}");
        }
        for character in ['漢', 'Ж', '🙂', '\n', '\u{7}'] {
            assert_eq!(bitmap(character), REPLACEMENT, "{character:?}");
        }
        assert_eq!(bitmap(' '), [0; 8]);
    }

    #[test]
    fn natural_size_is_the_bitmap() {
        let glyph = smooth(bitmap('A'), 8, 8);
        for (index, &cover) in glyph.cover.iter().enumerate() {
            let set = bitmap('A')[index / 8] >> (index % 8) & 1 == 1;
            assert_eq!(cover, if set { 256 } else { (0.08 * 256.0) as u16 }, "pixel {index}");
        }
    }

    #[test]
    fn ink_keeps_its_share_at_every_height() {
        for height in [10, 11, 16, 21, 32, 65] {
            let mut font = Font::new(height);
            for character in ['A', 'g', '8', '#'] {
                let cells = (font.advance * font.height) as f32;
                let ink =
                    font.glyph(character).cover.iter().map(|&c| f32::from(c)).sum::<f32>() / 256.0 / cells;
                let bits = bitmap(character).iter().map(|row| row.count_ones()).sum::<u32>() as f32 / 64.0;
                assert!((ink - bits).abs() < 0.12, "{character} at {height}: {ink} of {bits}");
            }
        }
    }
}
