"""Coefficients on their way back through a network, and what they have cost so far."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from within_epsilon.verification.rounding import DOUBLE, gamma
from within_epsilon.verification.windows import Rows, add, dot, mirrored, shape_of, sizes_of


class Flow:
    """Linear functions of a node, written more and more in terms of nodes before it.

    Parameters
    ----------
    start : int
        The node's number.
    rows : Tensor of shape (B, S, ...), float64, or Windows
        S functions' coefficients.
    both : bool
        Bound minus these functions, too. Up to the first ReLU they differ in signs alone.

    Attributes
    ----------
    pending : dict from int to Tensor or Windows
        Coefficients of nodes that were not looked at yet.
    parts : list of Tensor of shape (1 or N, S)
        What the constants are the sum of.
    paid : set of int
        Nodes whose shift and rounding are in the constants already.
    shape : torch.Size
        (B, S).
    """

    def __init__(self, start: int, rows: Rows, *, both: bool = False) -> None:
        self.pending: dict[int, Rows] = {start: rows}
        self.parts: list[Tensor] = []
        self.paid: set[int] = set()
        # Of minus the functions, as long as they are not in `parts`.
        self.negated: list[Tensor] | None = [] if both else None
        self.shape = shape_of(rows)

    def pay(self, found: Rows, shift: Tensor | None, noise: Tensor | None) -> None:
        """Add what a layer adds, and subtract what it may be off by."""
        if noise is not None:
            allowance = -dot(sizes_of(found), noise)
            self.parts.append(allowance)
            if self.negated is not None:
                self.negated.append(allowance)
        if shift is not None:
            added = dot(found, shift.unsqueeze(0))
            self.parts.append(added)
            if self.negated is not None:
                self.negated.append(-added)

    def send(self, nodes: Iterable[int], rows: Iterable[Rows | None]) -> None:
        """Add coefficients to those of nodes before."""
        for node, part in zip(nodes, rows, strict=True):
            if part is not None:
                self.pending[node] = add(self.pending.get(node), part)

    def divide(self, found: Rows) -> Rows:
        """Go on with the functions and minus the functions apart, if that was asked for."""
        if self.negated is None:
            return found
        self.parts = [torch.cat(pair, dim=1) for pair in zip(self.parts, self.negated, strict=True)]
        self.negated = None
        self.pending = {node: mirrored(rows) for node, rows in self.pending.items()}
        return mirrored(found)

    def total(self, like: Tensor) -> Tensor:
        """Return less than the sum of all parts, (1 or N, S), whatever rounding does.

        Without any it is 0, of the dtype of `like`.
        """
        if not self.parts:
            return like.new_zeros(self.shape)
        # One step for all: of few numbers, each step costs as much as of many.
        parts = torch.stack(torch.broadcast_tensors(*self.parts))
        share = 2 * gamma(len(parts) + 4, DOUBLE)
        return torch.sub(parts.sum(dim=0), parts.abs().sum(dim=0), alpha=share)
