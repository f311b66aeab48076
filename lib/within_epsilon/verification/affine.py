"""Layers as rules: with which weights, and whether their settings are among those covered."""

from collections.abc import Callable, Iterable
from typing import NoReturn, cast

import torch
from torch import Tensor, nn

from within_epsilon.models import Layer, Normalize
from within_epsilon.verification.rules import (
    AverageRule,
    ConvRule,
    LinearRule,
    ReLURule,
    Rule,
    ScaleRule,
)
from within_epsilon.verification.windows import Pair

Read = Callable[[Tensor], Tensor]


def affine_rule(layer: Layer, shape: torch.Size, out: torch.Size, read: Read) -> Rule:
    """Return the rule of an affine layer.

    Parameters
    ----------
    layer : Layer
        A "linear", "conv", "batch_norm", "normalize", "avg_pool" or "mean".
    shape, out : torch.Size
        Of one input and one output.
    read : callable
        Takes a weight, returns it as bounds are to compute with it.

    Raises
    ------
    ValueError
        If the layer has settings that no rule covers.
    """
    module = layer.module
    if isinstance(module, nn.Linear):
        if len(shape) != 1:
            refuse(layer, f"inputs of shape (N, {', '.join(map(str, shape))}); flatten them")
        return LinearRule(read(module.weight), None if module.bias is None else read(module.bias))
    if isinstance(module, nn.Conv2d):
        return _convolution(layer, module, (shape, out), read)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _batch_norm(module, out, read)
    if isinstance(module, Normalize):
        mean, std = (read(b).view(-1, *[1] * (len(out) - 1)) for b in (module.mean, module.std))
        return ScaleRule(1 / std, (-mean / std).expand(out), (mean.abs() / std).expand(out), 2)
    if layer.kind in ("avg_pool", "mean") and len(shape) != 3:
        refuse(layer, "inputs that are no images (N, C, H, W)")
    if isinstance(module, nn.AvgPool2d):
        require(layer, padding=(0, 0), ceil_mode=False, divisor_override=None)
        kernel = pair(module.kernel_size)
        return AverageRule(_shares(kernel, shape, read), pair(module.stride), (shape, out))
    kernel = (shape[1], shape[2])
    return AverageRule(_shares(kernel, shape, read), (1, 1), (shape, out))


def _convolution(
    layer: Layer, module: nn.Conv2d, shapes: tuple[torch.Size, torch.Size], read: Read
) -> Rule:
    require(layer, padding_mode="zeros")
    padding, dilation = module.padding, pair(module.dilation)
    if padding == "same":
        sides = [d * (k - 1) for d, k in zip(dilation, module.kernel_size, strict=True)]
        if any(side % 2 for side in sides):
            refuse(layer, "padding='same' and an even kernel, which pads one side more")
        padding = (sides[0] // 2, sides[1] // 2)
    return ConvRule(
        read(module.weight),
        None if module.bias is None else read(module.bias),
        pair(module.stride),
        (0, 0) if padding == "valid" else pair(cast(Pair, padding)),
        dilation,
        module.groups,
        shapes,
    )


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, out: torch.Size, read: Read) -> Rule:
    assert module.running_mean is not None
    assert module.running_var is not None
    mean, scale = read(module.running_mean), 1 / (read(module.running_var) + module.eps).sqrt()
    shift = torch.zeros_like(mean)
    if module.weight is not None:
        scale, shift = scale * read(module.weight), read(module.bias)
    to = (-1, *[1] * (len(out) - 1))
    constant, size = shift - mean * scale, shift.abs() + (mean * scale).abs()
    # Sum, root, division, product, difference, product, sum: torch's kernels take seven steps.
    return ScaleRule(scale.view(to), constant.view(to).expand(out), size.view(to).expand(out), 8)


def _shares(kernel: Pair, shape: torch.Size, read: Read) -> Tensor:
    share = 1 / (kernel[0] * kernel[1])
    return read(torch.full((shape[0], 1, *kernel), share, dtype=torch.float64))


def relu_rule(layer: Layer) -> ReLURule:
    """Return the rule of ReLU, or of Leaky ReLU."""
    slope = float(getattr(layer.module, "negative_slope", 0.0))
    if not 0 <= slope < 1:
        refuse(layer, f"negative_slope={slope}; it can be 0 or more and below 1")
    return ReLURule(slope)


def pair(value: int | Iterable[int]) -> Pair:
    """Return a setting for height and width."""
    first, second = (value, value) if isinstance(value, int) else value
    return first, second


def require(layer: Layer, **settings: object) -> None:
    """Refuse a layer whose settings are others."""
    for name, wanted in settings.items():
        value = getattr(layer.module, name)
        if value not in (wanted, wanted[0] if isinstance(wanted, tuple) else wanted):
            refuse(layer, f"{name}={value!r}; it can be {wanted!r} only")


def refuse(layer: Layer, what: str) -> NoReturn:
    """Say which layer, and what about it, no rule covers."""
    raise ValueError(
        f"model: expected layers that bounds can pass, received {layer.name or 'its top'} "
        f"({type(layer.module).__name__}) with {what}"
    )
