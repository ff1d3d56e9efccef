"""The training loop of both models, and how a run goes on from earlier weights.

In: a network, its random batches and its loss, as `people.py` and `violence.py` have them. Out: a `.pt` file with the
state dictionary of the weights' running mean, which wavers less than the weights of any one step.

A run lasts so many minutes of wall clock, not so many steps: the learning rate follows the time, so it ends low on a
slow machine too. The forward pass is in bfloat16 where autocast takes it, loss and weights are in float32.

After: AdamW, I. Loshchilov, F. Hutter, arXiv:1711.05101; cosine schedule (one cycle), the same, arXiv:1608.03983;
warm-up, P. Goyal et al., arXiv:1706.02677; clipping of the gradient's norm, R. Pascanu et al., arXiv:1211.5063; running
mean of weights, B. Polyak, A. Juditsky, SIAM J. Control Optim. 30 (1992), its ramp as TensorFlow's
ExponentialMovingAverage.
"""

import math
import time
from collections import deque

import numpy as np
import torch
from torch import nn

import onnxfile

# Steps until the learning rate is at its full height.
WARM_UP = 200
# Steps from one line of progress to the next, which gives the means over them.
SHOWN = 100
# Batches that the normalisation is measured on when training goes on from an ONNX file.
MEASURED = 24
# Layout of an input as the batches make it: row by row.
UNCHANGED = torch.contiguous_format


def train(
    network, batches, loss_of, after, file, minutes, *, start, batch, seed, rate, decay, clip, layout=UNCHANGED
):
    """Trains for so many minutes; writes `file` at the end of each tenth and at the end.

    network: makes the module, without arguments.
    batches: `next(size)` gives the input (first axis `size`, float32, normalised) and then whatever `loss_of` and
        `after` want of the truth; `refresh()` takes up scenes that came since.
    loss_of(output, *truth): the batch's loss (a scalar to descend), then whatever `after` wants to see.
    after(*seen, *truth): called after the step; gives the figures to print beside the loss, by name.
    start: weights to go on from (`.pt` or `.onnx`), or None; batch: inputs a step; rate: highest learning rate;
    decay: AdamW's weight decay; clip: largest norm of the gradient; layout: the input's order in memory.
    """
    torch.manual_seed(seed)
    model, mean = network(), network()
    if start:
        go_on(model, start, (batches.next(batch)[0] for _ in range(MEASURED)))
    mean.load_state_dict(model.state_dict())
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(groups(model, decay), lr=rate)
    began, step, saved, shown = time.time(), 0, 0, deque(maxlen=SHOWN)
    while True:
        share = (time.time() - began) / (60 * minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate_at(rate, step, share)
        x, *truth = batches.next(batch)
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(x.contiguous(memory_format=layout))
        loss, *seen = loss_of(output, *truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        step += 1
        figures = {"loss": float(loss), **after(*seen, *truth)}
        follow(mean, model, step)
        shown.append(list(figures.values()))
        # Rendering may still be under way.
        if step % 100 == 50:
            batches.refresh()
        if step % SHOWN == 0:
            told = " ".join(f"{name} {value:.3f}" for name, value in zip(figures, np.mean(shown, 0)))
            print(f"step {step} share {share:.2f} {told}", flush=True)
        if int(share * 10) > saved:
            saved = int(share * 10)
            torch.save(mean.state_dict(), file)
    torch.save(mean.state_dict(), file)


def go_on(model, start, inputs):
    """Sets a fresh network to earlier weights; `inputs`: batches to measure on, drawn only for an ONNX file."""
    if str(start).endswith(".onnx"):
        onnxfile.unfold(model, start, inputs)
    else:
        model.load_state_dict(torch.load(start))


def groups(model, decay):
    """AdamW's groups: weights decay, biases and the normalisations' gains do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def rate_at(rate, step, share):
    """The learning rate: up over the first steps, down along a cosine to a fiftieth of `rate` as `share` goes to 1."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def follow(mean, model, step):
    """Moves the running mean towards the network's weights, faster at first, when they are worth little."""
    keep = min(0.998, (1 + step) / (10 + step))
    for ours, theirs in zip(mean.state_dict().values(), model.state_dict().values()):
        if ours.dtype.is_floating_point:
            ours.mul_(keep).add_(theirs, alpha=1 - keep)
        else:
            # The normalisations' count of batches.
            ours.copy_(theirs)
