//! What kernels are given: the structs of `kernels/*.cu`, field for field.
//!
//! In: numbers and device addresses (`u64`, 0 for none). Out: structs of C's layout, whose sizes are asserted here and in
//! the .cu files. Plain data without padding; the .cu files say what each field means. Nothing fails.

pub use crate::flow::DevicePicture;

/// Declares structs of C's layout, with their sizes.
macro_rules! mirror {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy, PartialEq, Default)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }
            // The second: without padding, so that all bytes are set.
            const _: () = assert!(size_of::<$name>() == $size);
            const _: () = assert!(0 $(+ size_of::<$type>())* == $size);
            impl super::block::sealed::Sealed for $name {}
            impl super::block::Plain for $name {}
        )*
    };
}

mirror! {
    /// Samples and weights of each pixel along an axis: tensor.cu.
    Axis, 24 {
        /// Address of the first samples (i32).
        first: u64,
        /// Address of the weights (f32).
        weights: u64,
        /// Weights of a pixel.
        taps: i32,
        /// Last sample of the plane.
        last: i32,
    }

    /// One channel's conversion: tensor.cu, and `preprocess::color`.
    Fold, 28 {
        /// Factor of Y.
        y: f32,
        /// Factor of Cb.
        u: f32,
        /// Factor of Cr.
        v: f32,
        /// Added.
        offset: f32,
        /// Least value.
        low: f32,
        /// Largest value.
        high: f32,
        /// Padding.
        pad: f32,
    }

    /// One rectangle of one picture: tensor.cu.
    Job, 240 {
        /// Address of the luma plane.
        luma: u64,
        /// Address of the chroma plane.
        chroma: u64,
        /// Bytes between rows.
        luma_pitch: i32,
        /// Bytes between rows.
        chroma_pitch: i32,
        /// Bytes of a sample.
        bytes: i32,
        /// 1: fixed point with two taps.
        fixed: i32,
        /// First column of the picture in the input.
        left: i32,
        /// First row.
        top: i32,
        /// Columns.
        width: i32,
        /// Rows.
        height: i32,
        /// Batch entry.
        entry: i32,
        /// 0.
        reserved: i32,
        /// Luma's columns.
        luma_x: Axis,
        /// Luma's rows.
        luma_y: Axis,
        /// Chroma's columns.
        chroma_x: Axis,
        /// Chroma's rows.
        chroma_y: Axis,
        /// Channels in tensor order; a gray tensor uses the first.
        folds: [Fold; 3],
        /// 0.
        end: i32,
    }

    /// A model's input: tensor.cu.
    Geometry, 16 {
        /// Columns.
        width: i32,
        /// Rows.
        height: i32,
        /// 3 or 1.
        channels: i32,
        /// 1: N H W C.
        interleaved: i32,
    }

    /// Samples and weights of each output sample along an axis: view.cu.
    ViewAxis, 24 {
        /// Address of the first samples (i32).
        first: u64,
        /// Address of the weights (i16).
        weights: u64,
        /// Weights of an output sample.
        taps: i32,
        /// 0.
        reserved: i32,
    }

    /// An NV12 picture that is written: view.cu, draw.cu.
    Canvas, 32 {
        /// Address of the luma plane.
        luma: u64,
        /// Address of the chroma plane.
        chroma: u64,
        /// Bytes between rows.
        luma_pitch: i32,
        /// Bytes between rows.
        chroma_pitch: i32,
        /// Pixels across.
        width: i32,
        /// Pixels down.
        height: i32,
    }

    /// Part of a picture at an output's size: view.cu.
    View, 176 {
        /// Address of the luma plane.
        luma: u64,
        /// Address of the chroma plane.
        chroma: u64,
        /// Bytes between rows.
        luma_pitch: i32,
        /// Bytes between rows.
        chroma_pitch: i32,
        /// Bytes of a sample.
        bytes: i32,
        /// Luma of the bars.
        black: i32,
        /// First column of the source in the output.
        left: i32,
        /// First row.
        top: i32,
        /// Columns.
        width: i32,
        /// Rows.
        height: i32,
        /// Where the output goes.
        out: Canvas,
        /// Luma's columns.
        luma_x: ViewAxis,
        /// Luma's rows.
        luma_y: ViewAxis,
        /// Chroma's columns.
        chroma_x: ViewAxis,
        /// Chroma's rows.
        chroma_y: ViewAxis,
    }

    /// Something drawn: draw.cu.
    Mark, 64 {
        /// First column it may touch.
        left: i32,
        /// First row.
        top: i32,
        /// One past the last column.
        right: i32,
        /// One past the last row.
        bottom: i32,
        /// Y, Cb, Cr and the kind, one of [`Mark::EVEN`], [`Mark::LINE`], [`Mark::GLYPH`].
        color: [u8; 4],
        /// Coverage of an even mark, 0 to 256.
        alpha: i32,
        /// First column of a glyph's cell.
        cell_left: i32,
        /// First row of a glyph's cell.
        cell_top: i32,
        /// Columns of a glyph's cell.
        columns: i32,
        /// A glyph's first number in the covers.
        first: i32,
        /// Where a line begins.
        from: [f32; 2],
        /// From there to its end.
        way: [f32; 2],
        /// The way's length squared.
        length2: f32,
        /// Half the width and half a pixel.
        reach: f32,
    }

    /// A square of 32 × 32 pixels with something to draw: draw.cu.
    Tile, 12 {
        /// Tiles from the left.
        column: u16,
        /// Tiles from the top.
        row: u16,
        /// Where its marks begin in the order.
        first: i32,
        /// How many.
        count: i32,
    }

    /// The lists of one picture: draw.cu.
    Marks, 40 {
        /// Address of the [`Mark`]s.
        marks: u64,
        /// Address of the numbers of the tiles' marks (i32).
        order: u64,
        /// Address of the [`Tile`]s.
        tiles: u64,
        /// Address of the glyphs' coverage (u16).
        covers: u64,
        /// Tiles.
        count: i32,
        /// 0.
        reserved: i32,
    }

    /// Two planes that become one of pairs: planes.cu.
    Join, 40 {
        /// Address of the Cb plane.
        cb: u64,
        /// Address of the Cr plane.
        cr: u64,
        /// Address of the pairs.
        pairs: u64,
        /// Bytes between rows of the planes.
        pitch: i32,
        /// Bytes between rows of the pairs.
        pairs_pitch: i32,
        /// Samples across.
        width: i32,
        /// Samples down.
        height: i32,
    }

    /// Samples of a row: draw.cu.
    Span, 8 {
        /// First.
        begin: i32,
        /// One past the last.
        end: i32,
    }

    /// The spans of one plane: draw.cu.
    MaskPlane, 48 {
        /// Address of the plane.
        samples: u64,
        /// Address of where each row's spans begin (i32), one more than rows.
        starts: u64,
        /// Address of the [`Span`]s.
        spans: u64,
        /// Bytes between rows.
        pitch: i32,
        /// Rows.
        rows: i32,
        /// Numbers of a sample.
        kinds: i32,
        /// Bytes of each.
        bytes: i32,
        /// Black.
        value: i32,
        /// 0.
        reserved: i32,
    }

    /// The spans of a picture: draw.cu.
    Mask, 96 {
        /// Luma and chroma.
        planes: [MaskPlane; 2],
    }

    /// A grid of luma samples: grid.cu.
    Samples, 48 {
        /// Address of the luma plane.
        luma: u64,
        /// Where the samples go.
        out: u64,
        /// Bytes between rows.
        pitch: i32,
        /// Bytes of a sample.
        bytes: i32,
        /// Pixels across.
        width: i32,
        /// Pixels down.
        height: i32,
        /// Samples across.
        columns: i32,
        /// Samples down.
        rows: i32,
        /// 1: of limited range.
        limited: i32,
        /// 0.
        reserved: i32,
    }

    /// Where candidates go: boxes.cu.
    Sink, 40 {
        /// Address of the counters (i32), one for each batch entry.
        counters: u64,
        /// Address of the records (u32).
        records: u64,
        /// Address of a byte for each class: whether it is kept.
        kept: u64,
        /// Records of a batch entry.
        capacity: i32,
        /// Numbers of a box.
        values: i32,
        /// Classes.
        classes: i32,
        /// Least score.
        threshold: f32,
    }

    /// Anchors one after another: boxes.cu.
    Rows, 16 {
        /// Address of the output (f32).
        output: u64,
        /// Anchors.
        anchors: i32,
        /// Values of an anchor.
        step: i32,
    }

    /// Values one after another: boxes.cu.
    Columns, 16 {
        /// Address of the output (f32).
        output: u64,
        /// Anchors.
        anchors: i32,
        /// 0.
        reserved: i32,
    }

    /// The anchors of one stride: boxes.cu.
    Grid, 40 {
        /// Address of the first anchor's class scores (f32).
        scores: u64,
        /// Address of the first anchor's distances (f32).
        distances: u64,
        /// Floats from one anchor to the next.
        score_step: i32,
        /// Floats from one anchor to the next.
        distance_step: i32,
        /// Floats from one batch entry to the next.
        score_entry: i32,
        /// Floats from one batch entry to the next.
        distance_entry: i32,
        /// Anchors.
        anchors: i32,
        /// 0.
        reserved: i32,
    }

    /// All strides: boxes.cu.
    Grids, 328 {
        /// The first `count` of them are in use.
        grids: [Grid; 8],
        /// Strides.
        count: i32,
        /// 0.
        reserved: i32,
    }
}

const _: () = assert!(std::mem::offset_of!(Job, luma_x) == 56 && std::mem::offset_of!(Job, folds) == 152);
const _: () = assert!(std::mem::offset_of!(View, out) == 48 && std::mem::offset_of!(View, luma_x) == 80);

impl Mark {
    /// Even coverage.
    pub const EVEN: u8 = 0;
    /// A line with round ends.
    pub const LINE: u8 = 1;
    /// A glyph.
    pub const GLYPH: u8 = 2;
}

impl Tile {
    /// Pixels along a side.
    pub const SIDE: i32 = 32;
    /// Threads of a tile.
    pub const THREADS: u32 = 256;
}

impl Mask {
    /// Threads that share a row.
    pub const LANES: u32 = 64;
}

impl Grids {
    /// Strides there is room for.
    pub const MOST: usize = 8;
}
