"""Branch and bound: cases of ReLUs on and off, each closed by a linear bound of its own."""

import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_counts, check_labels
from within_epsilon.threat import Ball
from within_epsilon.verification.certificate import Certificate, conclude
from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.falsify import Reach, falsify, reach_of, some_of
from within_epsilon.verification.input_splitting import ByInput
from within_epsilon.verification.network import read_network
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.relu_splitting import ByReLU
from within_epsilon.verification.rounding import arithmetic_of, dtype_of
from within_epsilon.verification.search import Progress


def branch_and_bound(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None = None,
    *,
    split: Literal["relus", "inputs"] | None = None,
    gap: float | None = None,
    time_limit: float = 60.0,
    steps: int = 10,
    batch: int = 64,
    refine: bool | None = None,
    arithmetic: str | None = None,
    callback: Callable[[int, Progress], None] | None = None,
) -> list[Certificate]:
    """Certify images or refute them, by splitting into cases until every case is settled.

    Parameters
    ----------
    model, images, ball
        As for `crown`.
    labels : Tensor of shape (N,), int64
        The true classes.
    split : {"relus", "inputs"}, optional
        Cases take ReLUs to be on or off, or are parts of the region. By default the latter up
        to 10 inputs.
    gap : float, optional
        Go on until the bracket of the least margin is no wider. By default only its sign is
        asked for.
    time_limit : float
        Seconds for each image.
    steps : int
        Steps of Adam on slopes and multipliers of each case.
    batch : int
        Cases bounded together.
    refine : bool, optional
        Bound hidden numbers anew in every case: fewer cases, each of which takes longer. By
        default where a network is small.
    arithmetic : {None, "real"}
        None: certificates hold for the network as torch runs it on a CPU; see `crown`.
    callback : function, optional
        Called with an image's number and a `Progress` after every batch of cases.

    Returns
    -------
    list of N Certificate
        What is known when all cases are closed, or when the time is over. No solver is
        trusted: where every ReLU is decided and the linear bound does not suffice, a linear
        program's prices make one that does.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, or an argument is none of these.

    Notes
    -----
    A case takes some ReLUs to be on (z >= 0) and others off (z <= 0), where z is the network's
    own float; 0 belongs to both. What it says of z is used twice: the interval of z ends at 0,
    so that the ReLU is a line; and a multiplier times z is added to the linear bound.

    References
    ----------
    Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", JMLR
    2020; Wang et al., "Beta-CROWN", NeurIPS 2021.
    """
    check_counts(batch=batch)
    way = arithmetic_of(model, arithmetic)
    domain = domain_of(images, ball, exactly=arithmetic == "real")
    network = read_network(model, domain.lower.shape[1:])
    check_labels(labels, len(domain), network.nodes[-1].shape[0])
    rows = objective_rows(labels, len(domain), network.nodes[-1].shape[0])
    if split is None:
        split = "inputs" if network.nodes[0].shape.numel() <= 10 else "relus"
    certificates = []
    for i in range(len(domain)):
        start, one = time.perf_counter(), slice(i, i + 1)
        kind = ByInput if split == "inputs" else ByReLU
        tree = kind(
            model,
            Bounds(network, domain[one], way),
            partial(_reach, *some_of(images, ball, one), dtype_of(model)),
            rows[one],
            start + time_limit,
            gap,
        )
        tree.batch = batch
        if isinstance(tree, ByReLU):
            tree.steps, tree.refine = steps, refine
        tree.begin(partial(falsify, model, *some_of(images, ball, one), rows[one]))
        while not tree.over():
            tree.advance()
            if callback is not None:
                callback(i, tree.progress(time.perf_counter() - start))
        certificates.append(
            conclude(
                tree.lower,
                tree.worst,
                "branch_and_bound",
                way.name,
                time.perf_counter() - start,
                tree.lower > 0,
            )
        )
    return certificates


def _reach(images: Tensor | Box, ball: Ball | None, dtype: torch.dtype, copies: int) -> Reach:
    """Return what is allowed around one image, for a batch of points."""
    return reach_of(images, ball, dtype, torch.zeros(copies, dtype=torch.int64))
