//! What walks the corridor: the types that rooms hand to each other.
//!
//! In: nothing. Out: nothing. Plain data without I/O and without a GPU; every room may use it.
//! Nothing here fails; the constructors state what they require.

mod device;
mod frame;
mod letterbox;
mod object;
mod output;
mod packet;
mod picture;
mod rect;
mod spares;
mod tensor;
mod thumbnail;

pub use device::{Decoded, DeviceFrame, DevicePicture};
pub use frame::{Frame, FrameMeta};
pub use letterbox::Letterbox;
pub use object::{Objects, Run, Score};
pub use output::{Change, Event, Output, Severity, Shape, ShapeKind, State, View};
pub use packet::{Codec, Packet, PacketKind, Packets, Part, StreamInfo, Track};
pub use picture::{Colorimetry, Matrix, Picture, PixelFormat, Planes, Range};
pub use rect::{Rect, Size};
pub use spares::{Lent, Recycle, Spares};
pub use tensor::{ElementType, Padding, Tensor, TensorData, TensorView};
pub use thumbnail::Thumbnail;
