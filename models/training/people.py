"""The detector: network, label assignment, loss, batches, training, ONNX export.

In: scenes made by `scenes.py`. Out: `models/people/model.onnx`, whose output is YOLOX's raw encoding: N, A, 5 + 2 with
x, y (offsets from the cell's corner, in strides), log w, log h (in strides), objectness and class probabilities, cells
of strides 8, 16, 32 in this order, row by row.

After: Z. Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv:2107.08430 (anchor-free head, SimOTA).
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import loop
import onnxfile
import scenes
from parts import conv, random_scale, uniform, warp

WIDTH, HEIGHT = scenes.PEOPLE_SIZE
STRIDES = (8, 16, 32)
CLASSES, BALL = 2, 1
# Weight of a ball's cells against a person's: it is one among many people.
BALL_WEIGHT = 4.0
# A ball is a few pixels wide: its boxes are compared as if so many pixels larger, else a pixel off is a miss.
BALL_SLACK = 8.0
MEAN, STD = 114.0, 64.0
SHOWN, HIDDEN = 0.2, 0.06


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3 up, added to what came in."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels))

    def forward(self, x):
        return x + self.body(x)


class People(nn.Module):
    """Input N, 3, H, W (normalised); output N, A, 7."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 6, 2), conv(16, 32, 3, 2), Bottleneck(32))
        self.stem[0][0].padding = (2, 2)
        self.to8 = nn.Sequential(conv(32, 64, 3, 2), Bottleneck(64), Bottleneck(64))
        self.to16 = nn.Sequential(conv(64, 96, 3, 2), Bottleneck(96), Bottleneck(96))
        self.to32 = nn.Sequential(conv(96, 128, 3, 2), Bottleneck(128))
        self.wide = conv(256, 96, 1)
        self.mix16 = conv(96, 96)
        self.down8 = conv(96, 64, 1)
        self.mix8 = conv(64, 64)
        self.heads = nn.ModuleList(conv(c, 64) for c in (64, 96, 96))
        self.outs = nn.ModuleList(nn.Conv2d(64, 5 + CLASSES, 1) for _ in STRIDES)
        for out in self.outs:
            nn.init.normal_(out.weight, std=0.01)
            nn.init.zeros_(out.bias)
            out.bias.data[4] = -4.0
        self.probabilities = False

    def forward(self, x):
        c8 = self.to8(self.stem(x))
        c16 = self.to16(c8)
        c32 = self.to32(c16)
        p32 = self.wide(torch.cat([c32, F.max_pool2d(c32, 5, 1, 2)], 1))
        p16 = self.mix16(c16 + F.interpolate(p32, scale_factor=2.0, mode="nearest"))
        p8 = self.mix8(c8 + F.interpolate(self.down8(p16), scale_factor=2.0, mode="nearest"))
        rows = []
        for head, out, level in zip(self.heads, self.outs, (p8, p16, p32)):
            seen = head(level)
            with torch.autocast("cpu", enabled=False):
                rows.append(out(seen.float()).flatten(2))
        y = torch.cat(rows, 2).transpose(1, 2)
        if self.probabilities:
            y = torch.cat([y[..., :4], y[..., 4:].sigmoid()], 2)
        return y


def grid():
    """Cells in the tensor's order: corner x, corner y (in cells) and stride, A x 3."""
    rows = []
    for stride in STRIDES:
        ys, xs = torch.meshgrid(torch.arange(HEIGHT // stride), torch.arange(WIDTH // stride), indexing="ij")
        rows.append(torch.stack([xs.flatten(), ys.flatten(), torch.full((xs.numel(),), stride)], 1))
    return torch.cat(rows).float()


def decode(raw, cells):
    """Raw x, y, log w, log h to centre x, y, width, height in input pixels."""
    stride = cells[:, 2:3]
    centre = (raw[..., :2] + cells[:, :2]) * stride
    return torch.cat([centre, raw[..., 2:4].clamp(max=6.0).exp() * stride], -1)


def overlaps(a, b):
    """IoU of every box of a (.., n, 4) with every box of b (.., m, 4), both centre x, y, width, height."""
    a, b = a.unsqueeze(-2), b.unsqueeze(-3)
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    inner = (high - low).clamp(min=0).prod(-1)
    return inner / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - inner + 1e-6)


def assign(raw, boxes, cells, truth):
    """SimOTA on one picture: for every cell the row of `truth` it answers for, or -1; and cells that count nowhere.

    truth: rows class, centre x, y, w, h, visible.
    """
    count = len(cells)
    answer = torch.full((count,), -1, dtype=torch.long)
    ignore = torch.zeros(count, dtype=torch.bool)
    if not len(truth):
        return answer, ignore
    middle = (cells[:, :2] + 0.5) * cells[:, 2:3]
    away = (middle.unsqueeze(0) - truth[:, None, 1:3]).abs()
    # A ball is smaller than a cell: every object claims at least the cells around its centre.
    inside = (away < torch.maximum(truth[:, None, 3:5] / 2, 0.6 * cells[None, :, 2:3])).all(-1)
    near = (away < 1.5 * cells[None, :, 2:3]).all(-1)
    # Coarser cells do not see a ball, and it has so few that all around it are taken.
    ball = truth[:, 0] == BALL
    near &= ~(ball[:, None] & (cells[None, :, 2] > STRIDES[0]))
    weak = truth[:, 5] < SHOWN
    ignore |= ((inside & near) & weak[:, None]).any(0)
    iou = overlaps(truth[:, 1:5], boxes)
    if ball.any():
        slack = boxes.new_tensor([0.0, 0.0, BALL_SLACK, BALL_SLACK])
        iou[ball] = overlaps(truth[ball, 1:5] + slack, boxes + slack)
    obj = raw[:, 4].sigmoid()
    cls = raw[:, 5:].sigmoid()[:, truth[:, 0].long()].T
    score_cost = -(torch.sqrt(obj[None] * cls) + 1e-4).log()
    cost = score_cost + 3.0 * -(iou + 1e-6).log() + 1e5 * ~(inside & near)
    cost[weak] = 1e9
    best, _ = iou.topk(8, dim=1)
    wanted = torch.where(ball, 4, best.sum(1).int().clamp(1, 6))
    matched = torch.zeros_like(cost, dtype=torch.bool)
    for row in range(len(truth)):
        if not weak[row]:
            _, index = cost[row].topk(int(wanted[row]), largest=False)
            matched[row, index[cost[row, index] < 0.9e5]] = True
    shared = matched.sum(0) > 1
    if shared.any():
        winner = cost[:, shared].argmin(0)
        matched[:, shared] = False
        matched[winner, shared.nonzero().squeeze(1)] = True
    taken = matched.any(0)
    answer[taken] = matched[:, taken].float().argmax(0)
    return answer, ignore & ~taken


def loss_of(raw, truths, cells):
    """Mean loss over a batch: boxes (1 - IoU and log size), objectness, class (IoU-aware)."""
    boxes = decode(raw, cells)
    total_box = total_obj = total_cls = total_l1 = raw.new_zeros(())
    positives = 0
    for index, truth in enumerate(truths):
        with torch.no_grad():
            answer, ignore = assign(raw[index].detach(), boxes[index].detach(), cells, truth)
        taken = answer >= 0
        target = taken.float()
        obj = F.binary_cross_entropy_with_logits(raw[index, :, 4], target, reduction="none")
        if not taken.any():
            total_obj = total_obj + obj[~ignore].sum()
            continue
        rows = truth[answer[taken]]
        worth = 1 + (BALL_WEIGHT - 1) * (rows[:, 0] == BALL).float()
        total_obj = total_obj + obj[~ignore & ~taken].sum() + (obj[taken] * worth).sum()
        slack = torch.outer((rows[:, 0] == BALL).float(), boxes.new_tensor([0.0, 0.0, BALL_SLACK, BALL_SLACK]))
        mine, real = boxes[index, taken] + slack, rows[:, 1:5] + slack
        low = torch.maximum(mine[:, :2] - mine[:, 2:] / 2, real[:, :2] - real[:, 2:] / 2)
        high = torch.minimum(mine[:, :2] + mine[:, 2:] / 2, real[:, :2] + real[:, 2:] / 2)
        inner = (high - low).clamp(min=0).prod(1)
        overlap = inner / (mine[:, 2:].prod(1) + real[:, 2:].prod(1) - inner + 1e-6)
        stride = cells[taken, 2:3]
        wanted = torch.cat([rows[:, 1:3] / stride - cells[taken, :2], (rows[:, 3:5] / stride).log()], 1)
        total_l1 = total_l1 + _sum(F.smooth_l1_loss(raw[index, taken, :4], wanted, reduction="none", beta=0.1), worth)
        total_box = total_box + ((1 - overlap * overlap) * worth).sum()
        label = F.one_hot(rows[:, 0].long(), CLASSES) * overlap.detach().clamp(0, 1).sqrt()[:, None]
        total_cls = total_cls + _sum(F.binary_cross_entropy_with_logits(raw[index, taken, 5:], label, reduction="none"), worth)
        positives += int(taken.sum())
    scale = 1 / max(positives, 1)
    return (4 * total_box + total_obj + total_cls + 1.0 * total_l1) * scale, total_box * scale


def _sum(values, worth):
    return (values.sum(1) * worth).sum()


class Batches:
    """Random batches of training pictures, mirrored, zoomed, brightened and made noisy."""

    def __init__(self, work, seed):
        self.work, self.scenes = work, []
        self.rng = np.random.default_rng(seed)
        self.refresh()

    def refresh(self):
        """Takes up scenes that came since."""
        known = {scene["seed"] for scene in self.scenes}
        self.scenes += scenes.load(self.work, "train", ["pictures", "objects"], known=known)
        self.entries = [(n, i) for n, scene in enumerate(self.scenes) for i in range(len(scene["pictures"]))]
        # Pictures with a ball are shown three times as often.
        self.entries += 2 * [(n, i) for n, i in self.entries if (self.scenes[n]["objects"][i][:, 0] == BALL).any()]
        if len(self.scenes) > len(known):
            print(f"{len(self.entries)} pictures of {len(self.scenes)} scenes", flush=True)

    def next(self, size):
        """Pictures (normalised) and, for each, rows class, centre x, y, w, h, visible."""
        chosen = [self.entries[i] for i in self.rng.integers(0, len(self.entries), size)]
        pictures = np.stack([self.scenes[n]["pictures"][i] for n, i in chosen])
        objects = np.stack([self.scenes[n]["objects"][i] for n, i in chosen])
        x = torch.from_numpy(pictures).float()
        rows = [torch.from_numpy(r[r[:, 0] >= 0][:, :6].copy()) for r in objects]
        for r in rows:
            r[:, 1:3] += r[:, 3:5] / 2
        gain = uniform(self.rng, 0.75, 1.25, size, 3)
        gain = 0.7 * gain.mean(1, keepdim=True) + 0.3 * gain
        shift, noise = uniform(self.rng, -16, 16, size), uniform(self.rng, 0, 5, size)
        x = (x - MEAN) * gain + shift + torch.randn_like(x[:, :1]) * noise
        mirrored = self.rng.random(size) < 0.5
        for i in np.nonzero(mirrored)[0]:
            x[i] = x[i].flip(-1)
            rows[i][:, 1] = WIDTH - rows[i][:, 1]
        x = x / STD
        if self.rng.random() < 0.6:
            x, rows = self.zoom(x, rows)
        return x, [r[(r[:, 5] >= HIDDEN) & (r[:, 3] > 1) & (r[:, 4] > 1)] for r in rows]

    def zoom(self, x, rows):
        """The same random scale and shift on every picture of the batch."""
        scale = random_scale(self.rng, 0.75, 1.35)
        dx, dy = (self.rng.uniform(-0.5, 0.5, 2) * abs(scale - 1) * np.array([WIDTH, HEIGHT])).tolist()
        x = warp(x, [[1 / scale, 0, -2 * dx / WIDTH / scale], [0, 1 / scale, -2 * dy / HEIGHT / scale]])
        moved = []
        for r in rows:
            r = r.clone()
            low = (r[:, 1:3] - r[:, 3:5] / 2 - torch.tensor([WIDTH / 2, HEIGHT / 2])) * scale
            high = (r[:, 1:3] + r[:, 3:5] / 2 - torch.tensor([WIDTH / 2, HEIGHT / 2])) * scale
            to = torch.tensor([WIDTH / 2 + dx, HEIGHT / 2 + dy])
            edge = torch.tensor([float(WIDTH), float(HEIGHT)])
            low, high = low + to, high + to
            cut_low, cut_high = low.clamp(min=0).minimum(edge), high.clamp(min=0).minimum(edge)
            left = (cut_high - cut_low).prod(1) / ((high - low).prod(1) + 1e-6)
            r[:, 1:3], r[:, 3:5] = (cut_low + cut_high) / 2, cut_high - cut_low
            r[:, 5] *= left
            moved.append(r[left > 0.02])
        return x, moved


def train(work, out, minutes, start=None, batch=16, seed=0, rate=2.5e-3):
    """Trains for so many minutes; writes out/people.pt at the end of each tenth. How: `loop.train`."""
    loop.train(
        People,
        Batches(work, seed),
        partial(loss_of, cells=grid()),
        lambda box, truths: {"box": float(box)},
        out / "people.pt",
        minutes,
        start=start,
        batch=batch,
        seed=seed,
        rate=rate,
        decay=0.02,
        clip=10.0,
        layout=torch.channels_last,
    )


def to_onnx(weights, path):
    """Writes the ONNX file: `images` N, 3, H, W to `output`, with probabilities instead of their logits."""
    model = People()
    model.probabilities = True
    onnxfile.write(model, weights, path, torch.zeros(2, 3, HEIGHT, WIDTH), "images", "output")
