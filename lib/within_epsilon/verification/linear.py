"""Linear bounds: CROWN, with slopes fixed or optimised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.threat import Ball
from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.network import read_network
from within_epsilon.verification.objective import objective_rows
from within_epsilon.verification.passes import Bounds, LowerSlope, add_safely
from within_epsilon.verification.rounding import arithmetic_of
from within_epsilon.verification.slopes import optimise
from within_epsilon.verification.tightening import bound_all, in_parts


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """Linear functions of the input that stay below a network's margins.

    Parameters
    ----------
    coefficients : Tensor of shape (N, S, ...), float64
        a: for every input x that the threat model allows, the network's own margin s is at
        least a[s] · x + constants[s].
    constants : Tensor of shape (N, S), float64
        What is added.
    lower : Tensor of shape (N, S), float64
        The margins' lower bounds: the least value of the linear functions, or the bound of
        intervals where that is higher.
    arithmetic : str
        "float32" or "float64": as torch runs the network; "real": without its rounding.
    """

    coefficients: Tensor
    constants: Tensor
    lower: Tensor
    arithmetic: str

    @property
    def certified(self) -> Tensor:
        """Which problems have positive bounds throughout, (N,), bool."""
        return (self.lower > 0).all(dim=1)


def crown(
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor | None,
    ball: Ball | None = None,
    *,
    lower_slope: LowerSlope = "adaptive",
    steps: int = 0,
    intermediate: Literal["linear", "interval"] = "linear",
    meet: bool = True,
    arithmetic: str | None = None,
) -> LinearBounds:
    r"""Bound margins from below by linear functions of the input.

    From the last layer backward, coefficients pass affine layers by multiplication with their
    weights. At a ReLU that may be on or off, a negative coefficient takes the line above its
    triangle and a positive one a line below, so that what is left is a bound. Its least value
    over the ball is known in closed form.

    Parameters
    ----------
    model : nn.Module
        Takes inputs, returns logits (N, k); see `read_network` for the layers it may have.
    images : Tensor of shape (N, ...), or Box
        Clean pixels in [0, 1], or the inputs themselves.
    labels : Tensor of shape (N,), int64; or (S, k) or (N, S, k), floating point; or None
        The true classes: all margins z_y - z_j are bounded. Or coefficients of other linear
        functions of the logits; None for the logits themselves.
    ball : Ball, optional
        The threat model around images, of any norm; None with a box.
    lower_slope : {"adaptive", "zero", "one", "same"}
        The line below: 1 or 0, whichever leaves the smaller area; or always 0, 1, or the
        slope of the line above.
    steps : int
        Steps of Adam on the slopes of the lines below, which start from `lower_slope`; 0 is
        CROWN, 20 or more are called α-CROWN. Every margin has slopes of its own, and every
        hidden number too, where there are not too many.
    intermediate : {"linear", "interval"}
        How hidden numbers are bounded.
    meet : bool
        Cut every linear bound with the interval's, without which it is sometimes looser.
        False is CROWN as published.
    arithmetic : {None, "real"}
        None: bounds hold for the network as torch runs it on a CPU, in its own float32 or
        float64, for every input that `Ball.admits`; see `rounding` for the argument. "real":
        for real arithmetic and the ball itself.

    Returns
    -------
    LinearBounds
        S = k - 1 rivals in the order of their numbers, or what `labels` asks for.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, or an argument is none of these.

    References
    ----------
    Zhang et al., "Efficient Neural Network Robustness Certification with General Activation
    Functions", NeurIPS 2018. Optimised slopes: Xu et al., "Fast and Complete", ICLR 2021.
    """
    way = arithmetic_of(model, arithmetic)
    domain = domain_of(images, ball, exactly=arithmetic == "real")
    network = read_network(model, domain.lower.shape[1:])
    rows = objective_rows(labels, len(domain), network.nodes[-1].shape[0])
    parts = []
    for some in in_parts(network, len(domain), 1 + 3 * (steps > 0)):
        own = rows if len(rows) == 1 else rows[some]
        bounds = Bounds(network, domain[some], way, lower_slope)
        tightened = bound_all(bounds, linear=intermediate == "linear", meet=meet)
        slopes = optimise(bounds, tightened, own, steps) if steps else None
        parts.append(_last(bounds, own, slopes, meet=meet))
    coefficients, constants, lower = (torch.cat(part) for part in zip(*parts, strict=True))
    return LinearBounds(coefficients, constants, lower, way.name)


@torch.no_grad()
def _last(
    bounds: Bounds, rows: Tensor, slopes: Mapping[int, Tensor] | None, *, meet: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return coefficients, constants and lower bounds of linear functions of the logits."""
    last, n = len(bounds.network.nodes) - 1, len(bounds.domain)
    coefficients, constants = bounds.backward(last, rows, slopes)
    lower = add_safely(bounds.domain.least(coefficients), constants)
    if meet:
        lower = torch.maximum(lower, bounds.least(last, rows, through=False))
    coefficients = coefficients.expand(n, *coefficients.shape[1:])
    return coefficients, constants.expand(n, -1), lower
