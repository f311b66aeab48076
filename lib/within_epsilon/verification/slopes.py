"""Slopes of the lines below ReLUs, optimised: what turns CROWN into α-CROWN."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from within_epsilon.verification.ascent import Adam
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.tightening import MEMORY, Target, refined

Slopes = dict[int, Tensor]


def optimise(
    bounds: Bounds, targets: Sequence[Target], rows: Tensor, steps: int, step_size: float = 0.1
) -> Slopes:
    """Raise lower bounds by their slopes, and tighten the hidden numbers' on the way.

    Parameters
    ----------
    bounds : Bounds
        Of all nodes; the intervals of hidden numbers are replaced by tighter ones.
    targets : sequence of Target
        Hidden numbers that have slopes of their own.
    rows : Tensor of shape (1 or N, S, k), float64
        The functions of the logits whose lower bounds are to rise.
    steps : int
        Steps of Adam.
    step_size : float
        Of Adam.

    Returns
    -------
    dict from int to Tensor of shape (N, S, ...)
        For each ReLU the best slopes found, for `rows`.

    Notes
    -----
    Any slopes between the ReLU's own two give a bound that holds, so the best of all steps is
    kept, number by number. They are brought back between them after each step, under no_grad:
    a clamp in the graph has no gradient at its ends since torch 2.14, where CROWN's slopes
    start, and would leave them there.
    """
    last = len(bounds.network.nodes) - 1
    chosen = [t for t in targets if _fits(bounds, t)]
    own = {t.node: start_slopes(bounds, t.node, 2 * len(t.places)) for t in chosen}
    own[last] = start_slopes(bounds, last, rows.shape[1])
    free = [slopes for group in own.values() for slopes in group.values()]
    best = {i: slopes.detach().clone() for i, slopes in own[last].items()}
    record = torch.full((len(bounds.domain), rows.shape[1]), -torch.inf, dtype=torch.float64)
    tightest = {t.node: bounds.intervals[t.node] for t in chosen}
    adam = Adam(free, step_size) if free else None
    for step in range(steps + 1 if free else 0):
        trial = bounds.copy()
        for target in chosen:
            trial.replace(target.node, refined(trial, target, own[target.node]))
        lower = trial.least(last, rows, own[last])
        with torch.no_grad():
            better = lower > record
            record = torch.where(better, lower, record)
            for i, slopes in own[last].items():
                wide = better.view(*better.shape, *[1] * (slopes.ndim - 2))
                best[i] = torch.where(wide, slopes, best[i])
            for node in tightest:
                tightest[node] = tightest[node].meet(*trial.intervals[node])
        if adam is not None and step < steps:
            adam.step(lower)
            project(bounds, own.values())
    for node, interval in tightest.items():
        bounds.replace(node, interval)
    return best


def start_slopes(bounds: Bounds, node: int, number: int) -> Slopes:
    """Return slopes to optimise for functions of a node, as the lines below have them."""
    found = {}
    for i in bounds.network.activations:
        if i < node:
            lower = bounds.lines(i).lower.detach()
            wide = lower.unsqueeze(1).expand(-1, number, *lower.shape[1:])
            found[i] = wide.clone().requires_grad_()
    return found


@torch.no_grad()
def project(bounds: Bounds, groups: Iterable[Slopes]) -> None:
    """Bring slopes back between the ReLU's own two."""
    for group in groups:
        for i, slopes in group.items():
            rule = bounds.network.nodes[i].rule
            assert isinstance(rule, ReLURule)
            slopes.clamp_(rule.slope, 1)


def _fits(bounds: Bounds, target: Target) -> bool:
    """Tell whether slopes for each of these numbers fit into memory."""
    before = sum(
        bounds.network.nodes[i].shape.numel() for i in bounds.network.activations if i < target.node
    )
    return len(bounds.domain) * 2 * len(target.places) * before <= MEMORY // 8
