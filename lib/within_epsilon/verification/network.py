"""A network read from its layers: what all bounds of this package run on."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from within_epsilon.models import Layer, Normalize, read_layers
from within_epsilon.verification.nodes import Network
from within_epsilon.verification.places import (
    ConcatRule,
    DifferenceRule,
    FlattenRule,
    LargerRule,
    PickRule,
    RepeatRule,
    SumRule,
)
from within_epsilon.verification.rules import (
    AverageRule,
    ConvRule,
    LinearRule,
    Pair,
    ReLURule,
    Rule,
    ScaleRule,
)


def read_network(model: nn.Module, shape: Sequence[int]) -> Network:
    """Read a network for bounds.

    Parameters
    ----------
    model : nn.Module
        A `Classifier`, `Sequential` or another that `models.read_layers` can read, in eval
        mode, in float32 or float64.
    shape : sequence of int
        Of one input: (C, H, W), or (D,).

    Returns
    -------
    Network
        With copies of the weights in float64. Max-pooling becomes differences and ReLUs, by
        max(a, b) = a + ReLU(b - a), and where it follows a ReLU it goes first, which changes
        nothing.

    Raises
    ------
    TypeError, ValueError
        If a layer cannot be read, or has settings that no rule here covers; the message names
        it. If the network does not take inputs of that shape, or returns no logits (N, k).
    """
    network = Network()
    network.add("input", FlattenRule(torch.Size(shape)), shape=shape)
    with torch.no_grad():
        last = _add_all(network, list(read_layers(model)), 0)
    if len(network.nodes[last].shape) != 1:
        raise ValueError(
            f"model: expected logits of shape (N, k), received (N, "
            f"{', '.join(map(str, network.nodes[last].shape))}); end it with Flatten and Linear"
        )
    return network


def _add_all(network: Network, layers: Sequence[Layer], source: int) -> int:
    """Add layers one after the other; return the number of the last one's node."""
    layers = list(layers)
    for place, (one, other) in enumerate(pairwise(layers)):
        # A maximum of ReLUs is the ReLU of a maximum, with fewer kinks.
        if one.kind in ("relu", "leaky_relu") and other.kind == "max_pool":
            layers[place], layers[place + 1] = other, one
    for layer in layers:
        source = _add(network, layer, source)
    return source


def _add(network: Network, layer: Layer, source: int) -> int:
    name, kind, module, branches = layer
    shape = network.nodes[source].shape
    if kind in ("concat", "sum"):
        ends = [_add_all(network, branch, source) for branch in branches]
        shapes = [network.nodes[end].shape for end in ends]
        if kind == "sum":
            if len(set(shapes)) > 1:
                _refuse(layer, f"branches of shapes {[tuple(s) for s in shapes]}, which broadcast")
            return network.add(name, SumRule(len(ends)), *ends, shape=shapes[0])
        channels = [s[0] for s in shapes]
        return network.add(name, ConcatRule(channels), *ends, shape=(sum(channels), *shapes[0][1:]))
    if kind == "max_pool":
        return _add_maxima(network, layer, source)
    if kind in ("relu", "leaky_relu"):
        return network.add(name, _relu(layer), source, shape=shape)
    if kind == "flatten":
        return network.add(name, FlattenRule(shape), source, shape=(shape.numel(),))
    if isinstance(module, Normalize) and not module.mean.any() and bool((module.std == 1).all()):
        return source
    out = _shape_after(layer, shape)
    return network.add(name, _affine_rule(layer, shape, out), source, shape=out)


def _affine_rule(layer: Layer, shape: torch.Size, out: torch.Size) -> Rule:
    module = layer.module
    if isinstance(module, nn.Linear):
        if len(shape) != 1:
            _refuse(layer, f"inputs of shape (N, {', '.join(map(str, shape))}); flatten them")
        return LinearRule(_wide(module.weight), None if module.bias is None else _wide(module.bias))
    if isinstance(module, nn.Conv2d):
        return _convolution(layer, module, shape, out)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _batch_norm(module, out)
    if isinstance(module, Normalize):
        mean, std = (_wide(b).view(-1, *[1] * (len(out) - 1)) for b in (module.mean, module.std))
        return ScaleRule(1 / std, (-mean / std).expand(out), (mean.abs() / std).expand(out), 2)
    if layer.kind in ("avg_pool", "mean") and len(shape) != 3:
        _refuse(layer, "inputs that are no images (N, C, H, W)")
    if isinstance(module, nn.AvgPool2d):
        _require(layer, padding=(0, 0), ceil_mode=False, divisor_override=None)
        kernel = _pair(module.kernel_size)
        return AverageRule(kernel, _pair(module.stride), (shape, out))
    return AverageRule((shape[1], shape[2]), (1, 1), (shape, out))


def _convolution(layer: Layer, module: nn.Conv2d, shape: torch.Size, out: torch.Size) -> Rule:
    _require(layer, padding_mode="zeros")
    padding, dilation = module.padding, _pair(module.dilation)
    if padding == "same":
        sides = [d * (k - 1) for d, k in zip(dilation, module.kernel_size, strict=True)]
        if any(side % 2 for side in sides):
            _refuse(layer, "padding='same' and an even kernel, which pads one side more")
        padding = (sides[0] // 2, sides[1] // 2)
    return ConvRule(
        _wide(module.weight),
        None if module.bias is None else _wide(module.bias),
        _pair(module.stride),
        (0, 0) if padding == "valid" else _pair(cast(Pair, padding)),
        dilation,
        module.groups,
        (shape, out),
    )


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, out: torch.Size) -> Rule:
    assert module.running_mean is not None
    assert module.running_var is not None
    mean, scale = _wide(module.running_mean), 1 / (_wide(module.running_var) + module.eps).sqrt()
    shift = torch.zeros_like(mean)
    if module.weight is not None:
        scale, shift = scale * _wide(module.weight), _wide(module.bias)
    to = (-1, *[1] * (len(out) - 1))
    constant, size = shift - mean * scale, shift.abs() + (mean * scale).abs()
    # Sum, root, division, product, difference, product, sum: torch's kernels take seven steps.
    return ScaleRule(scale.view(to), constant.view(to).expand(out), size.view(to).expand(out), 8)


def _relu(layer: Layer) -> ReLURule:
    slope = float(getattr(layer.module, "negative_slope", 0.0))
    if not 0 <= slope < 1:
        _refuse(layer, f"negative_slope={slope}; it can be 0 or more and below 1")
    return ReLURule(slope)


def _add_maxima(network: Network, layer: Layer, source: int) -> int:
    """Add max-pooling: the maxima of each window's rows, and then of those."""
    _require(layer, return_indices=False)
    module = cast(nn.MaxPool2d, layer.module)
    out = _shape_after(layer, network.nodes[source].shape)
    kernel, stride, padding, dilation = (
        _pair(setting)
        for setting in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    for axis, dim in ((1, -1), (0, -2)):
        shape = network.nodes[source].shape
        fewer = list(shape)
        fewer[dim] = out[dim]
        picks = []
        for i in range(kernel[axis]):
            first = i * dilation[axis] - padding[axis]
            rule = _pick(layer, dim, range(first, first + out[dim] * stride[axis], stride[axis]),
                         shape, plain=dilation[axis] == 1)  # fmt: skip
            picks.append(network.add(layer.name, rule, source, shape=fewer))
        source = picks[0]
        for pick in picks[1:]:
            gap = network.add(layer.name, DifferenceRule(), pick, source, shape=fewer)
            gain = network.add(layer.name, ReLURule(), gap, shape=fewer)
            source = network.add(layer.name, LargerRule(), source, gain, pick, shape=fewer)
    return source


def _pick(layer: Layer, dim: int, places: range, shape: torch.Size, *, plain: bool) -> Rule:
    """Return one place of each window of a max-pooling."""
    if places[0] >= 0 and places[-1] < shape[dim]:
        return PickRule(dim, places[0], places.step, (shape, len(places)))
    if not plain:
        _refuse(layer, "a dilation and windows beyond the edge")
    return RepeatRule(dim, torch.tensor(places).clamp(0, shape[dim] - 1), shape)


def _shape_after(layer: Layer, shape: torch.Size) -> torch.Size:
    example = torch.zeros(1, *shape)
    for tensor in (*layer.module.parameters(), *layer.module.buffers()):
        if tensor.is_floating_point():
            example = example.to(tensor)
    try:
        result: Tensor = layer.module(example)
        return result.shape[1:]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"model: expected one that takes inputs of the given shape, but {layer.name} "
            f"({type(layer.module).__name__}) received {tuple(shape)}: {error}"
        ) from error


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _pair(value: int | Iterable[int]) -> Pair:
    first, second = (value, value) if isinstance(value, int) else value
    return first, second


def _require(layer: Layer, **settings: object) -> None:
    """Refuse a layer whose settings are others."""
    for name, wanted in settings.items():
        value = getattr(layer.module, name)
        if value not in (wanted, wanted[0] if isinstance(wanted, tuple) else wanted):
            _refuse(layer, f"{name}={value!r}; it can be {wanted!r} only")


def _refuse(layer: Layer, what: str) -> None:
    raise ValueError(
        f"model: expected layers that bounds can pass, received {layer.name or 'its top'} "
        f"({type(layer.module).__name__}) with {what}"
    )
