"""Writes a network as an ONNX file, and goes on training from one.

The exporter folds each batch normalisation into the convolution before it. To go on (`unfold`), the convolution's
weights and bias are taken from the file, and the normalisation is set so that on the pictures given the network
computes what it did: mean and variance as measured, gain and shift to undo them. From there it trains as any other.
"""

import onnx
import torch
from onnx import numpy_helper
from torch import nn


def write(model, weights, path, example, given, found):
    """Writes `model` with the weights of a `.pt` file; `given` and `found` name its input and output.

    example: an input of the right shape. Its first axis, the batch, may have any length in the file.
    """
    model.eval()
    model.load_state_dict(torch.load(weights))
    torch.onnx.export(
        model,
        example,
        str(path),
        opset_version=13,
        input_names=[given],
        output_names=[found],
        dynamic_axes={given: {0: "batch"}, found: {0: "batch"}},
    )


def convolutions(path):
    """Weight and bias of every convolution of the file, in its order."""
    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [(tensors[n.input[1]], tensors[n.input[2]]) for n in graph.node if n.op_type in ("Conv", "Gemm")]


def unfold(model, path, inputs):
    """Sets `model` (freshly made) to what the file computes; `inputs`: batches to measure the normalisation on.

    Raises ValueError where the file is not of this network.
    """
    calls, hooks = [], []

    def remember(module, *_):
        calls.append(module)

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            hooks.append(module.register_forward_hook(remember))
    inputs = iter(inputs)
    first = next(inputs)
    with torch.no_grad():
        model.eval()(first)
    for hook in hooks:
        hook.remove()
    layers = [m for m in calls if isinstance(m, nn.Conv2d)]
    saved = convolutions(path)
    shapes = [tuple(m.weight.shape) for m in layers]
    if shapes != [w.shape for w, _ in saved]:
        raise ValueError(f"{path}: its convolutions are {[w.shape for w, _ in saved]}, the network's {shapes}")
    norms, sums = [], {}
    for layer, after, (weight, bias) in zip(layers, calls_after(calls), saved):
        layer.weight.data.copy_(torch.from_numpy(weight.copy()))
        bias = torch.from_numpy(bias.copy())
        if after is None:
            layer.bias.data.copy_(bias)
            continue
        # For the measuring pass: only add the bias.
        after.running_mean.zero_()
        after.running_var.fill_(1 - after.eps)
        after.weight.data.fill_(1)
        after.bias.data.copy_(bias)
        sums[after] = [0.0, torch.zeros_like(bias), torch.zeros_like(bias)]
        norms.append(after)
    hooks = [norm.register_forward_pre_hook(measure(sums[norm])) for norm in norms]
    with torch.no_grad():
        model(first)
        for batch in inputs:
            model(batch)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        count, total, squares = sums[norm]
        mean = total / count
        var = (squares / count - mean * mean).clamp(min=1e-4)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        gain = (var + norm.eps).sqrt()
        norm.weight.data.copy_(gain)
        norm.bias.data.add_(mean)
    model.train()


def calls_after(calls):
    """For each convolution in the order of the calls, the normalisation called right after it, or None."""
    for at, module in enumerate(calls):
        if isinstance(module, nn.Conv2d):
            after = calls[at + 1] if at + 1 < len(calls) else None
            yield after if isinstance(after, nn.BatchNorm2d) else None


def measure(sums):
    """A hook that adds up a normalisation's inputs by channel."""

    def hook(_, inputs):
        x = inputs[0].float()
        sums[0] += x.numel() / x.shape[1]
        sums[1] += x.sum((0, 2, 3) if x.ndim == 4 else (0, 2))
        sums[2] += (x * x).sum((0, 2, 3) if x.ndim == 4 else (0, 2))

    return hook
