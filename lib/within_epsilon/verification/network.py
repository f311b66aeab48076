"""A network read from its layers: what all bounds of this package run on."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from within_epsilon.models import Layer, Normalize, read_layers
from within_epsilon.verification.affine import (
    Read,
    affine_rule,
    pair,
    refuse,
    relu_rule,
    require,
)
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
from within_epsilon.verification.rules import ReLURule, Rule


def read_network(model: nn.Module, shape: Sequence[int], *, like: Tensor | None = None) -> Network:
    """Read a network for bounds.

    Parameters
    ----------
    model : nn.Module
        A `Classifier`, `Sequential` or another that `models.read_layers` can read, in eval
        mode, in float32 or float64.
    shape : sequence of int
        Of one input: (C, H, W), or (D,).
    like : Tensor, optional
        Of the dtype and on the device to compute in, with the model's own weights, through which
        gradients pass: bounds for training, which prove nothing. By default bounds compute with
        copies of the weights in float64.

    Returns
    -------
    Network
        Max-pooling becomes differences and ReLUs, by
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
    read: Read = _wide if like is None else lambda weight: weight.to(like)
    with torch.set_grad_enabled(like is not None and torch.is_grad_enabled()):
        last = _add_all(network, list(read_layers(model)), 0, read)
    if len(network.nodes[last].shape) != 1:
        raise ValueError(
            f"model: expected logits of shape (N, k), received (N, "
            f"{', '.join(map(str, network.nodes[last].shape))}); end it with Flatten and Linear"
        )
    return network


def _add_all(network: Network, layers: Sequence[Layer], source: int, read: Read) -> int:
    """Add layers one after the other; return the number of the last one's node."""
    layers = list(layers)
    for place, (one, other) in enumerate(pairwise(layers)):
        # A maximum of ReLUs is the ReLU of a maximum, with fewer kinks.
        if one.kind in ("relu", "leaky_relu") and other.kind == "max_pool":
            layers[place], layers[place + 1] = other, one
    for layer in layers:
        source = _add(network, layer, source, read)
    return source


def _add(network: Network, layer: Layer, source: int, read: Read) -> int:
    name, kind, module, branches = layer
    shape = network.nodes[source].shape
    if kind in ("concat", "sum"):
        ends = [_add_all(network, branch, source, read) for branch in branches]
        shapes = [network.nodes[end].shape for end in ends]
        if kind == "sum":
            if len(set(shapes)) > 1:
                refuse(layer, f"branches of shapes {[tuple(s) for s in shapes]}, which broadcast")
            return network.add(name, SumRule(len(ends)), *ends, shape=shapes[0])
        channels = [s[0] for s in shapes]
        return network.add(name, ConcatRule(channels), *ends, shape=(sum(channels), *shapes[0][1:]))
    if kind == "max_pool":
        return _add_maxima(network, layer, source)
    if kind in ("relu", "leaky_relu"):
        return network.add(name, relu_rule(layer), source, shape=shape)
    if kind == "flatten":
        return network.add(name, FlattenRule(shape), source, shape=(shape.numel(),))
    if isinstance(module, Normalize) and not module.mean.any() and bool((module.std == 1).all()):
        return source
    out = _shape_after(layer, shape)
    return network.add(name, affine_rule(layer, shape, out, read), source, shape=out)


def _add_maxima(network: Network, layer: Layer, source: int) -> int:
    """Add max-pooling: the maxima of each window's rows, and then of those."""
    require(layer, return_indices=False)
    module = cast(nn.MaxPool2d, layer.module)
    out = _shape_after(layer, network.nodes[source].shape)
    kernel, stride, padding, dilation = (
        pair(setting)
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
        refuse(layer, "a dilation and windows beyond the edge")
    return RepeatRule(dim, torch.tensor(places).clamp(0, shape[dim] - 1), shape)


def _shape_after(layer: Layer, shape: torch.Size) -> torch.Size:
    module = layer.module
    if isinstance(module, nn.Linear) and shape[-1:] == (module.in_features,):
        return torch.Size((*shape[:-1], module.out_features))
    example = torch.zeros(1, *shape)
    for tensor in (*layer.module.parameters(), *layer.module.buffers()):
        if tensor.is_floating_point():
            example = example.to(tensor)
    try:
        with torch.no_grad():
            result: Tensor = layer.module(example)
        return result.shape[1:]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"model: expected one that takes inputs of the given shape, but {layer.name} "
            f"({type(layer.module).__name__}) received {tuple(shape)}: {error}"
        ) from error


def _wide(weight: Tensor) -> Tensor:
    return weight.detach().cpu().double()
