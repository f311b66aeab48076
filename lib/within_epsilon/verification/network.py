"""A network as nodes with rules, read from its layers: what all bounds of this package run on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
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
from within_epsilon.verification.places import (
    ConcatRule,
    DifferenceRule,
    FlattenRule,
    LargerRule,
    PickRule,
    SumRule,
)
from within_epsilon.verification.rules import ReLURule, Rule


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a network.

    Parameters
    ----------
    name : str
        The layer it comes from.
    rule : Rule
        How bounds pass through it.
    inputs : tuple of int
        The nodes that it takes, by number; 0 is the network's input.
    shape : torch.Size
        Of its output, for one example.
    affine : bool
        Whether it is an affine function of the network's input.
    separate : bool
        Whether each of its numbers depends on one number of the input alone.
    tight : bool
        Whether intervals of it are exact where the input lies in a box.
    """

    name: str
    rule: Rule
    inputs: tuple[int, ...]
    shape: torch.Size
    affine: bool = True
    separate: bool = True
    tight: bool = True


@dataclass(eq=False)
class Network:
    """A network's nodes in the order in which they run; the last one returns the logits.

    Parameters
    ----------
    read : callable
        Takes a weight of the model, returns it as the rules compute with it.
    nodes : list of Node
        What has been read.
    """

    read: Read
    nodes: list[Node] = field(default_factory=list)

    @property
    def activations(self) -> list[int]:
        """The numbers of the ReLU nodes."""
        return [i for i, node in enumerate(self.nodes) if isinstance(node.rule, ReLURule)]

    @property
    def taken(self) -> list[int]:
        """The numbers of the nodes that ReLUs take, in their order."""
        return sorted({self.nodes[i].inputs[0] for i in self.activations})

    def add(self, name: str, rule: Rule, *inputs: int, shape: Sequence[int]) -> int:
        """Append a node, and return its number."""
        sources = [self.nodes[i] for i in inputs]
        affine = not isinstance(rule, ReLURule) and all(node.affine for node in sources)
        separate = affine and all(node.separate for node in sources)
        tight = affine and len(sources) < 2 and all(node.tight for node in sources)
        if rule.mixes:
            separate, tight = False, tight and separate
        self.nodes.append(Node(name, rule, inputs, torch.Size(shape), affine, separate, tight))
        return len(self.nodes) - 1

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Compute every node, (N, ...) each."""
        values = [inputs]
        for node in self.nodes[1:]:
            values.append(node.rule.forward(*(values[i] for i in node.inputs)))
        return values


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
        it. If the network does not take inputs of that shape, or returns no logits (N, K).
    """
    network = Network(_wide if like is None else lambda weight: weight.to(like))
    network.add("input", FlattenRule(torch.Size(shape)), shape=shape)
    with torch.set_grad_enabled(like is not None and torch.is_grad_enabled()):
        last = _add_all(network, list(read_layers(model)), 0)
    if len(network.nodes[last].shape) != 1:
        raise ValueError(
            f"model: expected logits of shape (N, K), received (N, "
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
    return network.add(name, affine_rule(layer, shape, out, network.read), source, shape=out)


def _add_maxima(network: Network, layer: Layer, source: int) -> int:
    """Add max-pooling: the maxima of each window's rows, and then of those."""
    require(layer, padding=(0, 0), dilation=(1, 1), return_indices=False)
    module = cast(nn.MaxPool2d, layer.module)
    out = _shape_after(layer, network.nodes[source].shape)
    kernel, stride = pair(module.kernel_size), pair(module.stride)
    for axis, dim in ((1, -1), (0, -2)):
        shape = network.nodes[source].shape
        if (out[dim] - 1) * stride[axis] + kernel[axis] > shape[dim]:
            refuse(layer, "ceil_mode=True and windows beyond the edge")
        fewer = list(shape)
        fewer[dim] = out[dim]
        picks = [
            network.add(
                layer.name, PickRule(dim, i, stride[axis], (shape, out[dim])), source, shape=fewer
            )
            for i in range(kernel[axis])
        ]
        source = picks[0]
        for pick in picks[1:]:
            gap = network.add(layer.name, DifferenceRule(), pick, source, shape=fewer)
            gain = network.add(layer.name, ReLURule(), gap, shape=fewer)
            source = network.add(layer.name, LargerRule(), source, gain, pick, shape=fewer)
    return source


def _shape_after(layer: Layer, shape: torch.Size) -> torch.Size:
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
