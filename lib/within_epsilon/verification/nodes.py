"""A network as nodes with rules."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

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
    nodes : list of Node
        The nodes.
    uses : list of int
        How often each node's output is taken by another.
    """

    nodes: list[Node] = field(default_factory=list)
    uses: list[int] = field(default_factory=list)

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
        for i in inputs:
            self.uses[i] += 1
        self.uses.append(0)
        self.nodes.append(Node(name, rule, inputs, torch.Size(shape), affine, separate, tight))
        return len(self.nodes) - 1

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Compute every node, (N, ...) each."""
        values = [inputs]
        for node in self.nodes[1:]:
            values.append(node.rule.forward(*(values[i] for i in node.inputs)))
        return values
