"""The ε converter: one ε in pixels, in levels of 255, after normalising, and in a file."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import traitlets

from within_epsilon.widgets import scale
from within_epsilon.widgets.base import WithStops, state

LEVELS = 255
UNITS = ("pixels", "normalised")
# Names of the channels and their standard deviations, as the usual loaders divide by them.
SCALES: dict[str, dict[str, float]] = {
    "ImageNet": {"red": 0.229, "green": 0.224, "blue": 0.225},
    "CIFAR-10": {"red": 0.247, "green": 0.2435, "blue": 0.2616},
    "MNIST": {"grey": 0.3081},
}
_STOPS = tuple(
    level / LEVELS
    for level in (0.25, 0.4, 0.5, 0.6, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 76.5)
)


class Reading(NamedTuple):
    """How far a channel moves."""

    pixels: float  # in units of [0, 1]
    levels: float  # of 255
    normalised: float  # after division by the standard deviation
    stored: int  # whole levels in an 8-bit file


class EpsilonConverter(WithStops):
    """Slide ε and read it on every scale; say which scale an attack took it for.

    Parameters
    ----------
    epsilon : float
        The number to start from, > 0; becomes a stop of the slider if it is none.
    unit : {"pixels", "normalised"}
        What the attack adds ε to: pixels in [0, 1], or the result of normalising.
    data : {"ImageNet", "CIFAR-10", "MNIST"}
        Whose standard deviations to divide by, in the start.
    scales : mapping from str to mapping from str to float, optional
        Other data sets: name -> channel -> standard deviation of pixels in [0, 1].
    epsilons : sequence of float, optional
        Stops, > 0; by default from a quarter of a level of 255 to 0.3.

    Raises
    ------
    traitlets.TraitError
        If unit or data is anything else.
    ValueError
        If a standard deviation or a stop is not positive.

    Notes
    -----
    With a kernel, `epsilon`, `unit` and `data` can be read, set and observed; an epsilon between
    two stops goes to the nearer one.
    """

    kind = "converter"

    readouts = state(traitlets.List(traitlets.Unicode()))
    scales = state(traitlets.List())
    epsilon = state(traitlets.Float())
    unit = state(traitlets.Enum(UNITS, default_value="pixels"))
    data = state(traitlets.Unicode())

    def __init__(
        self,
        epsilon: float = 8 / 255,
        unit: str = "pixels",
        data: str = "ImageNet",
        *,
        scales: Mapping[str, Mapping[str, float]] | None = None,
        epsilons: Sequence[float] = _STOPS,
    ) -> None:
        tables = {name: dict(channels) for name, channels in (scales or SCALES).items()}
        for name, channels in tables.items():
            if not channels or min(channels.values()) <= 0:
                raise ValueError(
                    f"scales: expected positive standard deviations, received {channels} for "
                    f"{name}; they are in units of pixels from 0 to 1, 0.229 say"
                )
        stops = sorted({float(epsilon), *map(float, epsilons)})
        if not all(0 < stop < math.inf for stop in stops):
            raise ValueError(f"epsilon, epsilons: expected numbers > 0, received {stops}")
        super().__init__(
            scales=[[name, list(map(list, rows.items()))] for name, rows in tables.items()],
            epsilons=stops,
            readouts=[scale.readout(stop) for stop in stops],
            epsilon=float(epsilon),
            unit=unit,
            data=data,
        )

    @traitlets.validate("data")  # type: ignore[untyped-decorator]
    def _known(self, proposal: dict[str, str]) -> str:
        names = [name for name, _ in self.scales]
        if proposal["value"] not in names:
            known = ", ".join(names)
            raise traitlets.TraitError(f"data: expected one of {known}")
        return proposal["value"]

    def readings(self) -> dict[str, Reading]:
        """Return, for every channel, how far it moves."""
        channels = dict(self.scales)[self.data]
        return {name: read(self.epsilon, deviation, self.unit) for name, deviation in channels}

    def summary(self) -> str:
        """Return number, unit and data set."""
        return f"{scale.readout(self.epsilon)}, unit={self.unit!r}, data={self.data!r}"

    def still(self) -> str:
        """Return a table of the readings."""
        heads = ("channel", "pixels from 0 to 1", "levels of 255", "normalised", "in a file")
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{one.pixels:.4f}</td><td>{one.levels:.2f}</td>"
            f"<td>{one.normalised:.4f}</td><td>{one.stored}</td></tr>"
            for name, one in self.readings().items()
        )
        head = "".join(f"<th>{text}</th>" for text in heads)
        caption = html.escape(f"{scale.readout(self.epsilon)}, added to {_ADDED_TO[self.unit]}")
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{rows}</table>"


_ADDED_TO = {"pixels": "pixels in [0, 1]", "normalised": "normalised pixels"}


def read(epsilon: float, deviation: float, unit: str) -> Reading:
    """Convert one ε.

    Parameters
    ----------
    epsilon : float
        The number.
    deviation : float
        The channel's standard deviation, in units of pixels.
    unit : {"pixels", "normalised"}
        What the number counts.

    Returns
    -------
    Reading
        The change of a pixel on every scale; in a file, of a pixel that was a whole level,
        halves rounding up.
    """
    pixels = epsilon if unit == "pixels" else epsilon * deviation
    levels = pixels * LEVELS
    # A stop such as 0.5 / 255 must not fall short of the half it stands for.
    stored = int(levels + 0.5 + 1e-9)
    return Reading(pixels, levels, pixels / deviation, stored)
