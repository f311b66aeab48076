"""The branching explorer: branch and bound, one split at a time."""

from __future__ import annotations

import html
from collections.abc import Sequence

import torch
import traitlets
from torch import Tensor, nn

from within_epsilon import plots
from within_epsilon.plots.style import canvas
from within_epsilon.verification import Box, crown
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart
from within_epsilon.widgets.proof_networks import disc_network, layers_of
from within_epsilon.wording import lower_bound

RADII = tuple(round(0.05 * step, 2) for step in range(4, 15))
SPLITS, QUESTIONS = ("relus", "inputs"), ("sign", "least")
GAP = 1e-3


class BranchingExplorer(Explorer):
    """Split a proof that fails into cases, and watch the bracket of the least margin close.

    A square of inputs shall keep its class. One linear bound of the whole square does not
    suffice; the next split takes the worst case and makes two of it: by the sign of one ReLU's
    input, whose kink is a line across the square, or by halving the square.

    Parameters
    ----------
    model : nn.Module, optional
        `Linear`, `ReLU`, `Linear`, with 2 inputs, 1 to 8 ReLUs and at least two logits;
        `disc_network` by default.
    centre : two float
        The middle of the square.
    radius : float
        Half its side: the inputs are those within linf of this radius, and need not be pixels.
    radii : sequence of float
        Stops of the slider.
    split : {"relus", "inputs"}
        What cases are told apart by.
    question : {"sign", "least"}
        When a case is closed: when its margin is proved positive; or when its bound is within
        0.001 of the least margin that was found, so that the bracket of the least margin closes.
    splits : int
        How many splits have been done.

    Raises
    ------
    TypeError, ValueError
        If the model is another one, or the centre is not two finite numbers, or a tie.
    traitlets.TraitError
        If another setting makes no sense.

    Notes
    -----
    With a kernel, `radius`, `split`, `question` and `splits` can be read, set and observed. The
    page's bounds are those of real arithmetic: CROWN's lines met with intervals, minimised over the
    part of the square that a case is about, with the rounding of the page subtracted.
    `problem` hands the same question to `branch_and_bound`.

    References
    ----------
    Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", JMLR 2020.
    """

    kind = "branching"

    layers = state(traitlets.List(traitlets.Dict()))
    centre = state(traitlets.List(traitlets.Float()))
    label = state(traitlets.Int())
    radii = state(traitlets.List(traitlets.Float()))
    radius = state(traitlets.Float())
    split = state(traitlets.Enum(SPLITS, default_value="relus"))
    question = state(traitlets.Enum(QUESTIONS, default_value="sign"))
    splits = state(traitlets.Int(0, min=0, max=200))

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        centre: Sequence[float] = (0.0, 0.0),
        radius: float = 0.5,
        radii: Sequence[float] = RADII,
        split: str = "relus",
        question: str = "sign",
        splits: int = 0,
    ) -> None:
        self.model = disc_network() if model is None else model
        layers = layers_of(self.model, 2)
        hidden = next(part for part in self.model.modules() if isinstance(part, nn.Linear))
        if len(layers) != 2 or not 1 <= hidden.out_features <= 8:
            raise ValueError(
                f"model: expected Linear, ReLU, Linear with 1 to 8 ReLUs, received {len(layers)} "
                f"Linear layers, the first with {hidden.out_features} outputs"
            )
        point = torch.tensor([list(centre)], dtype=torch.float32)
        if point.shape != (1, 2) or not point.isfinite().all():
            raise ValueError(f"centre: expected two finite numbers, received {centre}")
        if not radii or min(radii) <= 0 or radius not in radii:
            raise ValueError(
                f"radius, radii: expected one of some positive numbers, received {radius} "
                f"and {list(radii)}"
            )
        with torch.no_grad():
            logits = self.model(point)[0]
        if len(logits) < 2:
            raise ValueError("model: expected at least two logits, received one")
        first, second = logits.topk(2).values.tolist()
        if first == second:
            raise ValueError(
                f"centre: expected a point with one largest logit, received {centre}, where two "
                f"are {first:g}; move it"
            )
        super().__init__(
            layers=layers,
            centre=point[0].tolist(),
            label=int(logits.argmax()),
            radii=list(radii),
            radius=radius,
            split=split,
            question=question,
            splits=splits,
        )

    def problem(self) -> tuple[nn.Module, Box, Tensor]:
        """Return what verifiers of the library take: model, box and label."""
        centre = torch.tensor([self.centre], dtype=torch.float64)
        return (
            self.model,
            Box(centre - self.radius, centre + self.radius),
            torch.tensor([self.label]),
        )

    def summary(self) -> str:
        """Return the square and how far the search is."""
        return f"centre {self.centre}, ε = {self.radius:g}, {self.splits} splits by {self.split}"

    def still(self) -> str:
        """Return the square with the bound of the whole, before any split."""
        model, box, labels = self.problem()
        lower = float(crown(model, box, labels, arithmetic="real").lower.min())
        figure, axes = canvas(4, 3.6)
        (x, y), r = self.centre, self.radius
        colour = plots.PROVED if lower > 0 else plots.UNKNOWN
        axes.fill(
            [x - r, x + r, x + r, x - r], [y - r, y - r, y + r, y + r], color=colour, alpha=0.3
        )
        axes.plot(x, y, "o", color=plots.TRUE)
        axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        axes.set(xlim=(x - 1.3 * r, x + 1.3 * r), ylim=(y - 1.3 * r, y + 1.3 * r))
        verdict = "proved" if lower > 0 else "not enough, so the square is split into cases"
        said = (
            f"Every input within ℓ∞ ε = {r:g} of ({x:g}, {y:g}) shall be class {self.label}. One "
            "linear bound of the whole square says that the margin is at least "
            f"{lower_bound(lower)}: {verdict}."
        )
        alt = f"A square of inputs around a point. {said}"
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"
