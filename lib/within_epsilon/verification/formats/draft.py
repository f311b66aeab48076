"""A network while it is read: layers, sums, and which takes what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from within_epsilon.models import Residual


@dataclass(frozen=True, eq=False)
class Value:
    """A value that depends on the network's input.

    Parameters
    ----------
    node : int
        Which step of the network returns it; 0 is the input.
    shape : tuple of int
        As the file has it, with a batch of 1 where it has a batch.
    """

    node: int
    shape: tuple[int, ...]


@dataclass(eq=False)
class Draft:
    """A network while it is read: each node is a layer of one node, or a sum of several.

    Parameters
    ----------
    layers : list of Module or None
        None is a sum, or the input.
    sources : list of tuple of int
        The nodes that each takes.
    shapes : list of tuple of int, or None
        Of each node's output in torch, for one example; None while the input's is open.
    dtype : torch.dtype
        Of the weights.
    """

    layers: list[nn.Module | None] = field(default_factory=lambda: [None])
    sources: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    shapes: list[tuple[int, ...] | None] = field(default_factory=lambda: [None])
    dtype: torch.dtype = torch.float32

    def add(self, layer: nn.Module | None, shape: tuple[int, ...], *sources: int) -> int:
        """Append a node."""
        self.layers.append(layer)
        self.sources.append(sources)
        self.shapes.append(shape)
        return len(self.layers) - 1

    def flat(self, value: Value) -> int:
        """Return the node that has a value's numbers in one line."""
        size = math.prod(value.shape)
        if self.shapes[value.node] == (size,):
            return value.node
        if self.shapes[value.node] is None:
            self.shapes[value.node] = value.shape[1:] if value.shape[:1] == (1,) else value.shape
        return self.add(nn.Flatten(), (size,), value.node)

    def image(self, value: Value) -> int | None:
        """Return the node that has a value as an image; None if nothing has."""
        if value.shape[:1] != (1,) or len(value.shape) != 4:
            return None
        if self.shapes[value.node] is None:
            self.shapes[value.node] = value.shape[1:]
        return value.node if self.shapes[value.node] == value.shape[1:] else None

    def chain(self, end: int, start: int) -> list[nn.Module]:
        """Return the layers from one node to another."""
        layers: list[nn.Module] = []
        while end != start:
            sources, layer = self.sources[end], self.layers[end]
            if layer is not None:
                layers.insert(0, layer)
                (end,) = sources
                continue
            meeting = self._meeting(sources)
            branches = [nn.Sequential(*self.chain(one, meeting)) for one in sources]
            joined: nn.Module = branches[0]
            for branch in branches[1:]:
                joined = Residual(joined, branch)
            layers.insert(0, joined)
            end = meeting
        return layers

    def _meeting(self, nodes: Sequence[int]) -> int:
        """Return the last node that everything on the way to all of these passes."""
        front = set(nodes)
        while len(front) > 1:
            latest = max(front)
            front.remove(latest)
            front.update(self.sources[latest])
        return front.pop()
