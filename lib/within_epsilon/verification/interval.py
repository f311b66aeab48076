"""Interval bound propagation: every layer's box from the last one's."""

import torch
from torch import Tensor, nn

from within_epsilon.threat import Ball
from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.network import read_network
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.rounding import arithmetic_of
from within_epsilon.verification.values import Interval


@torch.no_grad()
def ibp(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor | None,
    ball: Ball | None = None,
    *,
    arithmetic: str | None = None,
) -> Interval:
    r"""Bound margins by intervals, layer by layer.

    An affine layer maps the box of centre c and radius r into the box of centre W c + b and
    radius :math:`|W| r`; ReLU maps ends to ends.

    Parameters
    ----------
    model, images, labels, ball, arithmetic
        As for `crown`.

    Returns
    -------
    Interval of shape (N, S), float64
        S = k - 1 rivals in the order of their numbers, or what `labels` asks for.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, or an argument is none of these.

    References
    ----------
    Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably
    Robust Models", arXiv 1810.12715, sections 3 and 4: the last layer's weights are merged
    with the margin's.
    """
    way = arithmetic_of(model, arithmetic)
    domain = domain_of(images, ball, exactly=arithmetic == "real")
    network = read_network(model, domain.lower.shape[1:])
    bounds = Bounds(network, domain, way)
    bounds.extend_all()
    last = len(network.nodes) - 1
    rows = objective_rows(labels, len(domain), network.nodes[last].shape[0])
    both = bounds.least(last, torch.cat([rows, -rows], dim=1), through=False)
    lower, upper = both.chunk(2, dim=1)
    return Interval(lower, -upper)
