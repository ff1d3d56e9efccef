//! THE seam: a lane is where pixels live.
//!
//! A lane names its pixels and tensor, and how a frame becomes a tensor and a picture becomes another.
//! The lane of a stream is chosen once, when it is built; a CPU frame offered to a CUDA stage does not compile.

use crate::config::manifest::Input;
use crate::flow::{ElementType, Rect};

/// Where pixels live.
pub trait Lane: Send + Sync + 'static {
    /// A frame's pixels; cheap to clone.
    type Pixels: Clone + Send + Sync + 'static;
    /// A tensor ready for the models of this lane.
    type Tensor: Send + 'static;
    /// What goes wrong in preprocessing.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Name in status and metrics.
    const NAME: &'static str;

    /// The rectangles of a frame as one tensor, one batch entry each.
    ///
    /// # Errors
    /// Where a rectangle is empty or the input names something that this lane cannot do.
    fn preprocess(
        pixels: &Self::Pixels,
        rects: &[Rect],
        input: &Input,
        element: ElementType,
    ) -> Result<Self::Tensor, Self::Error>;
}
