"""What the two networks and their batches are both made of: the convolution block and the random changes to pictures.

Pictures are tensors N, C, H, W of float32. `rng` is numpy's generator that a run's batches have of their own, so that
the order in which the network draws its first weights does not change them.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def conv(inputs, outputs, size=3, stride=1):
    """Convolution, batch normalisation, ReLU; `size` and `stride` are numbers or pairs (down, across)."""
    down, across = size if isinstance(size, tuple) else (size, size)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (down, across), stride, ((down - 1) // 2, (across - 1) // 2), bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(inplace=True),
    )


def uniform(rng, low, high, size, channels=1):
    """A number between `low` and `high` for each of `size` pictures (or each of its channels): size, channels, 1, 1."""
    return torch.from_numpy(rng.uniform(low, high, (size, channels, 1, 1)).astype(np.float32))


def random_scale(rng, low, high):
    """A factor between `low` and `high`, its logarithm uniform: twice as large is as likely as half as large."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def warp(pictures, theta, mode="bilinear"):
    """Every picture through the same affine map, zeros (the normalised padding) where nothing was.

    theta: 2 x 3, from places in the result to places in the picture, x and y from -1 to 1 across it. As it knows no
    pixels, the same one also warps maps that are coarser than the pictures.
    """
    theta = torch.tensor(theta).float()[None].expand(len(pictures), 2, 3)
    at = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, at, mode=mode, padding_mode="zeros", align_corners=False)
