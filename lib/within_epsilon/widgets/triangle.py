"""The triangle explorer: what stands for a ReLU of which only an interval is known."""

from __future__ import annotations

import html
from typing import NamedTuple

import torch
import traitlets
from matplotlib.axes import Axes

from within_epsilon import plots
from within_epsilon.plots.style import canvas, ink
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.values import Interval
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart

REACH = 3.0


class Relaxation(NamedTuple):
    """Two lines with ReLU between them, for l <= z <= u.

    Parameters
    ----------
    slope, height : float
        The upper line, slope * z + height.
    lower : float
        Slope of the lower line, which passes through 0.
    area : float
        Between the lines, from l to u.
    """

    slope: float
    height: float
    lower: float
    area: float


def relax(lower: float, upper: float, slope: float) -> Relaxation:
    """Return the lines that linear bounds put in the place of a ReLU.

    Parameters
    ----------
    lower, upper : float
        The neuron's input z lies between them.
    slope : float
        Of the line below, 0 to 1; not looked at where the neuron is stable.

    Returns
    -------
    Relaxation
        Where the neuron is stable both lines are ReLU itself, and there is no area.
    """
    ends = (torch.tensor([end], dtype=torch.float64) for end in (lower, upper))
    steep, height = (float(part) for part in ReLURule().chord(Interval(*ends)))
    if height == 0:
        return Relaxation(steep, 0.0, steep, 0.0)
    area = upper * (upper - lower) / 2 - slope * (upper**2 - lower**2) / 2
    return Relaxation(steep, height, slope, area)


class TriangleExplorer(Explorer):
    """Drag the ends of a neuron's interval and the line below its ReLU.

    Parameters
    ----------
    lower, upper : float
        Between -3 and 3: what is known of the neuron's input z.
    slope : float
        Of the line below, 0 to 1.

    Raises
    ------
    ValueError
        If the lower end is above the upper one.
    traitlets.TraitError
        If a number is beyond its limits.

    Notes
    -----
    With a kernel, `lower`, `upper` and `slope` can be read, set and observed; `relaxation`
    computes what the page shows.

    References
    ----------
    Zhang et al., "Efficient Neural Network Robustness Certification with General Activation
    Functions", NeurIPS 2018: the slope 1 or 0 that leaves the smaller area.
    """

    kind = "triangle"

    lower = state(traitlets.Float(-1.0, min=-REACH, max=REACH))
    upper = state(traitlets.Float(2.0, min=-REACH, max=REACH))
    slope = state(traitlets.Float(0.0, min=0.0, max=1.0))

    def __init__(self, lower: float = -1.0, upper: float = 2.0, slope: float = 0.0) -> None:
        if lower > upper:
            raise ValueError(
                f"lower, upper: expected ends in order, received {lower} and {upper}; exchange them"
            )
        super().__init__(lower=lower, upper=upper, slope=slope)

    def relaxation(self) -> Relaxation:
        """Return the lines and their area as they are now."""
        return relax(self.lower, self.upper, self.slope)

    def summary(self) -> str:
        """Return interval and slope."""
        return f"z in [{self.lower:g}, {self.upper:g}], slope {self.slope:g}"

    def still(self) -> str:
        """Return ReLU between its two lines, with the area below."""
        lines = self.relaxation()
        figure, axes = canvas(6, 3.6)
        self._draw(axes, lines)
        interval = f"z lies between {self.lower:g} and {self.upper:g}"
        if lines.height == 0:
            said = f"{interval}: the neuron is stable, and ReLU is a line there."
        else:
            said = (
                f"{interval}. Upper line {lines.slope:.3g} z + {lines.height:.3g}, lower line "
                f"{lines.lower:.3g} z, area between them {lines.area:.3g}."
            )
        alt = f"The graph of ReLU, and a line above it and one below. {said}"
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"

    def _draw(self, axes: Axes, lines: Relaxation) -> None:
        ends = (self.lower, self.upper)
        above = [lines.slope * z + lines.height for z in ends]
        below = [lines.lower * z for z in ends]
        axes.fill_between(ends, below, above, color=plots.UNKNOWN, alpha=0.3, linewidth=0)
        axes.plot([-REACH, 0, REACH], [0, 0, REACH], color="#222222")
        lowest = min(-1.6, *below) - 0.2
        middle, top = sum(ends) / 2, sum(above) / 2
        for values in (above, below):
            axes.plot(ends, values, color=plots.PROVED, linestyle="--")
        if lines.height > 0:
            colour = ink(plots.PROVED)
            axes.text(middle - 0.1, top + 0.2, "upper line", color=colour, ha="right")
            axes.text(ends[1] + 0.1, below[1] - 0.35, "lower line", color=colour)
        for end, name, side in zip(ends, "lu", ("right", "left"), strict=True):
            axes.axvline(end, color=plots.NEUTRAL, linewidth=0.8)
            axes.text(end, lowest + 0.1, f" {name} ", ha=side, color=ink(plots.NEUTRAL))
        axes.set(xlim=(-REACH - 0.4, REACH + 1.1), ylim=(lowest, REACH + 0.3))
        axes.set(xlabel="z, the neuron's input", ylabel="ReLU(z)")
