"""The clip model: network, labels, batches, loss, training, calibration, ONNX export.

In: scenes made by `scenes.py`. Out: `models/violence/model.onnx`: a window of 16 luma pictures (N, 16, 1, H, W) to two
values for `no fight` and `fight`, whose softmax is the probability.

A fight is a matter of a few dozen pixels in a large picture, and most of what looks like one (a hug, a dance, somebody
running past) is elsewhere in the same picture. So the network keeps its map to the end: pictures and their differences
go through the same small convolutions, then along time, then every place gets a value of its own; the window's value is
the strongest place's. Training knows where the fights are and teaches every place.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import loop
import onnxfile
import scenes
from parts import conv, random_scale, uniform, warp

WIDTH, HEIGHT = scenes.CLIP_SIZE
FRAMES = 16
MEAN, STD = 114.0, 64.0
CELL = 8
# Width of the part of a window that one training step sees.
PART = 96
# Share of a window's frames with a fight: from `FIGHT` it is one, below `CALM` none, between it is not judged.
FIGHT, CALM = 0.3, 0.1


def along(inputs, outputs, size, stride):
    """Convolution along time on N, C, T, places."""
    return conv(inputs, outputs, (size, 1), (stride, 1))


class Violence(nn.Module):
    """Input N, 16, 1, H, W (normalised); output the map of logits N, H/8, W/8, or the two classes' values."""

    def __init__(self):
        super().__init__()
        self.picture = nn.Sequential(conv(2, 16, 3, 2), conv(16, 24, 3, 2), conv(24, 48, 3, 2))
        self.look = nn.Sequential(conv(48, 24, 1), conv(24, 48, 3))
        self.move1 = along(48, 48, 5, 2)
        self.move2 = along(48, 64, 3, 2)
        self.whole = conv(256, 64, 1)
        self.around = nn.Sequential(conv(64, 64), conv(64, 64))
        self.around[1][0].dilation = (2, 2)
        self.around[1][0].padding = (2, 2)
        self.place = nn.Conv2d(64, 1, 1)
        nn.init.constant_(self.place.bias, -3.0)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self.classes = False

    def forward(self, x):
        frames, (height, width) = FRAMES, ((HEIGHT, WIDTH) if self.classes else x.shape[-2:])
        x = x.reshape(-1, frames, height, width)
        before = torch.cat([x[:, :1], x[:, :-1]], 1)
        pair = torch.stack([x, x - before], 2).reshape(-1, 2, height, width)
        y = self.picture(pair)
        y = y + self.look(y)
        h, w = height // CELL, width // CELL
        y = y.reshape(-1, frames, 48, h * w).transpose(1, 2)
        y = self.move2(self.move1(y))
        y = self.whole(y.reshape(-1, 256, h, w))
        y = y + self.around(y)
        with torch.autocast("cpu", enabled=False):
            y = self.place(y.float()).squeeze(1)
        if not self.classes:
            return y
        value = self.calibration[0] * strongest(y) + self.calibration[1]
        return torch.stack([-value / 2, value / 2], 1)


def strongest(places):
    """The window's logit: the strongest place, averaged over 2 x 2 so that one cell alone is not enough."""
    return F.avg_pool2d(places.unsqueeze(1), 2, 1).flatten(1).amax(1)


class Windows:
    """All windows of a purpose's scenes, their labels, and where the fights are."""

    def __init__(self, work, purpose, limit=None):
        self.work, self.purpose, self.scenes, self.entries = work, purpose, [], []
        self.refresh(limit)

    def refresh(self, limit=None):
        """Takes up scenes that came since; the windows already there keep their indices."""
        known = {scene["seed"] for scene in self.scenes}
        names = ["clip", "clip_objects", "clip_pts"]
        self.scenes += scenes.load(self.work, self.purpose, names, limit, known)
        for number, scene in list(enumerate(self.scenes))[len(known) :]:
            fights = (scene["clip_objects"][:, :, 7] > 0.5).any(1)
            for begin in range(len(fights) - FRAMES + 1):
                share = float(fights[begin : begin + FRAMES].mean())
                label = 1 if share >= FIGHT else 0 if share < CALM else -1
                self.entries.append((number, begin, label, share))
        self.labels = np.array([entry[2] for entry in self.entries])

    def pictures(self, index):
        """The bytes of a window, 16 x H x W."""
        number, begin, _, _ = self.entries[index]
        return self.scenes[number]["clip"][begin : begin + FRAMES]

    def places(self, index):
        """Per cell: 1 where somebody fights, 0 where nobody does, -1 where it is not judged."""
        number, begin, label, share = self.entries[index]
        target = np.zeros((HEIGHT // CELL, WIDTH // CELL), np.float32)
        if share == 0:
            return target
        rows = self.scenes[number]["clip_objects"][begin : begin + FRAMES]
        for frame in rows:
            self.paint(target, frame[frame[:, 7] > 0.5], 1.5, -1)
        if label == 1:
            middle = rows[[t for t in range(FRAMES) if (rows[t, :, 7] > 0.5).any()]]
            self.paint(target, self.pairs(middle[len(middle) // 2]), 0.8, 1)
        return target

    @staticmethod
    def pairs(frame):
        """The box around the fighters of one frame; where they are far apart (two fights at once), each one's own."""
        rows = frame[frame[:, 7] > 0.5]
        low, high = rows[:, 1:3].min(0), (rows[:, 1:3] + rows[:, 3:5]).max(0)
        if (high - low)[0] > 2.5 * rows[:, 4].max():
            return rows
        both = rows[:1].copy()
        both[0, 1:3], both[0, 3:5] = low, high - low
        return both

    @staticmethod
    def paint(target, rows, grow, value):
        """Fills the cells whose centre lies in the boxes, grown by a factor."""
        ys = (np.arange(target.shape[0])[:, None] + 0.5) * CELL
        xs = (np.arange(target.shape[1])[None] + 0.5) * CELL
        for x, y, w, h in rows[:, 1:5]:
            inside = (np.abs(xs - x - w / 2) <= max(w * grow / 2, CELL * 0.6)) & (np.abs(ys - y - h / 2) <= h * grow / 2)
            target[inside] = value


class Batches:
    """Random batches: half fights, the rest other windows, those that fooled the network more often."""

    def __init__(self, work, seed):
        self.windows = Windows(work, "train")
        self.rng = np.random.default_rng(seed)
        self.weights = np.ones(0)
        self.sort()

    def sort(self):
        """Sorts the windows by label; the weights of those already known stay."""
        labels = self.windows.labels
        self.fights, self.others, self.begun = (np.nonzero(labels == label)[0] for label in (1, 0, -1))
        self.weights = np.concatenate([self.weights, np.ones(len(self.others) - len(self.weights))])
        print(f"{len(self.fights)} windows with a fight, {len(self.others)} without", flush=True)

    def refresh(self):
        """Takes up scenes that came since."""
        before = len(self.windows.entries)
        self.windows.refresh()
        if len(self.windows.entries) > before:
            self.sort()

    def next(self, size):
        """Windows (normalised), place targets, window labels (-1: not judged), indices among `others` (-1: none)."""
        fights = self.rng.choice(self.fights, size * 7 // 16)
        begun = self.rng.choice(self.begun, size // 16)
        rest = self.rng.choice(len(self.others), size - len(fights) - len(begun), p=self.weights / self.weights.sum())
        chosen = np.concatenate([fights, begun, self.others[rest]])
        which = np.concatenate([np.full(len(fights) + len(begun), -1), rest])
        cuts = [self.cut(self.windows.pictures(i), self.windows.places(i)) for i in chosen]
        x = torch.from_numpy(np.stack([picture for picture, _ in cuts])).float()
        target = torch.from_numpy(np.stack([places for _, places in cuts]))
        label = torch.from_numpy(self.windows.labels[chosen]).float()
        for i in np.nonzero(self.rng.random(size) < 0.5)[0]:
            x[i], target[i] = x[i].flip(-1), target[i].flip(-1)
        gain, shift = uniform(self.rng, 0.7, 1.3, size), uniform(self.rng, -20, 20, size)
        x = (x - MEAN) * gain + shift + torch.randn_like(x) * uniform(self.rng, 0, 5, size)
        x = x / STD
        if self.rng.random() < 0.6:
            x, target = self.zoom(x, target)
        return x, target, label, which

    def cut(self, pictures, places):
        """An upright part of a window, around its fight where it has one: the network is the same everywhere."""
        columns = np.nonzero((places > 0.5).any(0))[0]
        last = (WIDTH - PART) // CELL
        if len(columns):
            low, high = columns.max() + 1 - PART // CELL, columns.min()
            first = self.rng.integers(min(low, high), max(low, high) + 1)
        else:
            first = self.rng.integers(-2, last + 3)
        first = int(np.clip(first, 0, last))
        return pictures[:, :, first * CELL : first * CELL + PART], places[:, first : first + PART // CELL]

    def zoom(self, x, target):
        """The same random scale and shift on every window of the batch."""
        scale = random_scale(self.rng, 0.8, 1.3)
        dx, dy = self.rng.uniform(-1, 1, 2) * 0.12
        theta = [[1 / scale, 0, dx], [0, 1 / scale, dy]]
        return warp(x, theta), warp(target[:, None], theta, "nearest")[:, 0]

    def weigh(self, which, chance):
        """Others that the network takes for a fight come more often; `which`: as `next` gave them, `chance`: found."""
        self.weights[which[which >= 0]] = 0.1 + 3 * chance[which >= 0]


def loss_of(places, target, label):
    """Places by focal cross entropy, fights and calm weighing the same; windows by smoothed cross entropy."""
    smooth = target.clamp(0.02, 0.98)
    each = F.binary_cross_entropy_with_logits(places, smooth, reduction="none")
    chance = torch.sigmoid(places.detach())
    hard = torch.where(target > 0.5, 1 - chance, chance)
    each = each * hard.pow(1.5)
    positive, negative = (target > 0.5).float(), (target == 0).float()
    place = (each * positive).sum() / (positive.sum() + 1) + 4 * (each * negative).sum() / (positive.sum() + 200)
    judged = label >= 0
    window = strongest(places)
    # A window whose fight has left the picture by the random shift is not judged.
    judged &= (label < 0.5) | (target > 0.5).flatten(1).any(1)
    whole = F.binary_cross_entropy_with_logits(window[judged], label[judged].clamp(0.03, 0.97))
    return place + whole, whole, window


def train(work, out, minutes, start=None, batch=16, seed=0, rate=2.5e-3):
    """Trains for so many minutes; writes out/violence.pt at the end of each tenth. How: `loop.train`."""
    batches = Batches(work, seed)

    def loss(places, target, label, _which):
        return loss_of(places, target, label)

    def after(whole, window, _target, label, which):
        chance = torch.sigmoid(window.detach()).numpy()
        batches.weigh(which, chance)
        judged = label.numpy() >= 0
        right = ((chance > 0.5) == (label.numpy() > 0.5))[judged].mean()
        return {"window": float(whole), "right": right}

    loop.train(
        Violence,
        batches,
        loss,
        after,
        out / "violence.pt",
        minutes,
        start=start,
        batch=batch,
        seed=seed,
        rate=rate,
        decay=0.03,
        clip=5.0,
    )


def values_of(model, windows, every=2, batch=32):
    """The strongest place's logit of every `every`-th window, and the windows' indices."""
    indices = np.arange(0, len(windows.entries), every)
    values = []
    with torch.no_grad():
        for begin in range(0, len(indices), batch):
            chosen = indices[begin : begin + batch]
            x = torch.from_numpy(np.stack([windows.pictures(i) for i in chosen])).float()
            values.append(strongest(model((x - MEAN) / STD)).numpy())
    return np.concatenate(values), indices


def calibrate(work, weights):
    """Fits slope and offset of the probability on the validation scenes and stores them with the weights."""
    model = Violence().eval()
    model.load_state_dict(torch.load(weights))
    windows = Windows(work, "valid")
    values, indices = values_of(model, windows)
    labels = windows.labels[indices]
    x = torch.from_numpy(values[labels >= 0]).double()
    y = torch.from_numpy(labels[labels >= 0]).double()
    # Fights are rare; both classes weigh the same. Smoothed, so that a clean separation does not end in a step.
    weight = torch.where(y > 0.5, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    ab = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([ab], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(ab[0] * x + ab[1], y.clamp(0.01, 0.99), weight=weight)
        loss.backward()
        return loss

    optimizer.step(closure)
    model.calibration.copy_(ab.detach().float())
    print(f"calibration: slope {float(ab[0]):.3f}, offset {float(ab[1]):.3f}")
    torch.save(model.state_dict(), weights)


def to_onnx(weights, path):
    """Writes the ONNX file: `clip` N, 16, 1, H, W to `scores`, the two classes' values."""
    model = Violence()
    model.classes = True
    onnxfile.write(model, weights, path, torch.zeros(2, FRAMES, 1, HEIGHT, WIDTH), "clip", "scores")
