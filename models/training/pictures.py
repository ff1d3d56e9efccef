"""From a decoded NV12 picture to a model's input, with numpy alone.

In: the bytes of an NV12 picture (8 bit, limited range, BT.601 below 720 lines, else BT.709) and the fit that a
`model.toml` asks for. Out: the input tensor, and the geometry that leads boxes back to source pixels.

Written independently of the daemon's preprocessing and by the same definition: resize by the mean over the covered
area (OpenCV's INTER_AREA for shrinking), letterbox in the centre, padding 114. That way `evaluate` also tells
whether the daemon and the training see the same thing.
"""

import numpy as np

PAD = 114.0


def split_nv12(data, width, height):
    """The luma plane (H, W) and the chroma plane (H/2, W/2, 2) of one tightly packed picture of even size."""
    luma = data[: width * height].reshape(height, width)
    chroma = data[width * height : width * height * 3 // 2].reshape(height // 2, width // 2, 2)
    return luma, chroma


def area(plane, size, axis):
    """Resizes one axis by the mean over the covered area, by differences of the interpolated running sum."""
    old = plane.shape[axis]
    if old == size:
        return plane.astype(np.float32)
    plane = np.moveaxis(plane, axis, 0)
    if old % size == 0:
        factor = old // size
        out = plane.reshape(size, factor, *plane.shape[1:]).mean(axis=1, dtype=np.float32)
        return np.moveaxis(out, 0, axis)
    total = np.zeros((old + 1, *plane.shape[1:]), np.float64)
    np.cumsum(plane, axis=0, dtype=np.float64, out=total[1:])
    edges = np.arange(size + 1) * (old / size)
    whole = np.minimum(edges.astype(int), old - 1)
    part = (edges - whole).reshape(-1, *([1] * (plane.ndim - 1)))
    at_edges = total[whole] * (1 - part) + total[whole + 1] * part
    out = (np.diff(at_edges, axis=0) * (size / old)).astype(np.float32)
    return np.moveaxis(out, 0, axis)


def resize(plane, width, height):
    """Area resize of a plane (H, W, ...)."""
    return area(area(plane, height, 0), width, 1)


class Letterbox:
    """Aspect kept, centred, padded: `source = (input - offset) / scale`."""

    def __init__(self, width, height, out_width, out_height):
        scale = min(out_width / width, out_height / height)
        self.inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        self.out = (out_width, out_height)
        self.offset = ((out_width - self.inner[0]) // 2, (out_height - self.inner[1]) // 2)
        self.scale = (self.inner[0] / width, self.inner[1] / height)

    def to_input(self, boxes):
        """Boxes x, y, w, h from source pixels to input pixels."""
        factor = np.array([*self.scale, *self.scale], np.float32)
        return np.asarray(boxes, np.float32).reshape(-1, 4) * factor + np.array([*self.offset, 0, 0], np.float32)

    def to_source(self, boxes):
        """Boxes x, y, w, h from input pixels to source pixels."""
        factor = np.array([*self.scale, *self.scale], np.float32)
        return (np.asarray(boxes, np.float32).reshape(-1, 4) - np.array([*self.offset, 0, 0], np.float32)) / factor

    def pad(self, picture):
        """Pastes a picture (h, w, ...) of the inner size into the padded one."""
        full = np.full((self.out[1], self.out[0], *picture.shape[2:]), PAD, np.float32)
        x, y = self.offset
        full[y : y + self.inner[1], x : x + self.inner[0]] = picture
        return full


def rgb_input(data, width, height, out_width, out_height):
    """The letterboxed RGB picture (3, H, W) as bytes, and its geometry."""
    luma, chroma = split_nv12(data, width, height)
    box = Letterbox(width, height, out_width, out_height)
    y = (resize(luma, *box.inner) - 16.0) * (255.0 / 219.0)
    c = (resize(chroma, *box.inner) - 128.0) * (255.0 / 224.0) if _shrinks(chroma, box) else _upsampled(chroma, box)
    kr, kb = (0.299, 0.114) if height < 720 else (0.2126, 0.0722)
    kg = 1 - kr - kb
    cb, cr = c[..., 0], c[..., 1]
    red = y + 2 * (1 - kr) * cr
    blue = y + 2 * (1 - kb) * cb
    green = y - (2 * (1 - kr) * kr / kg) * cr - (2 * (1 - kb) * kb / kg) * cb
    picture = box.pad(np.stack([red, green, blue], axis=-1))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8).transpose(2, 0, 1), box


def _shrinks(chroma, box):
    return chroma.shape[1] >= box.inner[0] and chroma.shape[0] >= box.inner[1]


def _upsampled(chroma, box):
    """Chroma that is smaller than the input: doubled first, as its samples cover two by two pixels."""
    doubled = chroma.repeat(2, axis=0).repeat(2, axis=1)
    return (resize(doubled, *box.inner) - 128.0) * (255.0 / 224.0)


def gray_input(data, width, height, out_width, out_height):
    """The letterboxed luma (H, W), expanded to 0-255, as bytes, and its geometry."""
    luma, _ = split_nv12(data, width, height)
    box = Letterbox(width, height, out_width, out_height)
    picture = box.pad((resize(luma, *box.inner) - 16.0) * (255.0 / 219.0))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), box
