"""The smoothing explorer: noise, votes and confidence against the radius that they certify."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import traitlets

from within_epsilon import plots
from within_epsilon.data import digits
from within_epsilon.verification import Smoothed
from within_epsilon.verification.smoothing import judge
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart, digits_as_text

VOTES = Path(__file__).with_name("smoothing_votes.json")
SHOWN = (0, 16, 25, 17, 36, 3)  # digits of the test split: easy ones, doubtful ones, a wrong one
SIGMAS = (0.125, 0.25, 0.5, 1.0)
COUNTS = (100, 1_000, 10_000, 100_000)
ALPHAS = (0.1, 0.01, 0.001, 0.000001)

_REACH = 1.2  # the longest radius on the axis
_STEPS = 120


class SmoothingExplorer(Explorer):
    """Choose noise, number of votes and alpha; see what radius they certify, and at what cost.

    The votes are recorded: of 100 digits of the test split, by networks that were each trained
    under the noise that they vote under. Of 100,100 votes on a digit the first 100 choose a class;
    n votes are the first n of the others. The page computes bounds and radii from the counts.

    Parameters
    ----------
    sigma : {0.125, 0.25, 0.5, 1}
        Standard deviation of the noise, in units of pixels.
    n : {100, 1000, 10000, 100000}
        Votes that are counted.
    alpha : {0.1, 0.01, 0.001, 0.000001}
        The chance that a statement is wrong, for each digit.
    digit : int
        Which of six digits is shown with its votes.

    Raises
    ------
    traitlets.TraitError
        If a setting is none of these, at the start or later.

    References
    ----------
    Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
    ICML 2019, algorithm CERTIFY.
    """

    kind = "smoothing"

    sigma = state(traitlets.Enum(SIGMAS, default_value=0.25))
    n = state(traitlets.Enum(COUNTS, default_value=100))
    alpha = state(traitlets.Enum(ALPHAS, default_value=0.001))
    digit = state(traitlets.Int(0, min=0, max=len(SHOWN) - 1))
    alphas = state(traitlets.List(traitlets.Float()))
    votes = state(traitlets.Dict())
    shown = state(traitlets.List(traitlets.Dict()))

    def __init__(
        self, *, sigma: float = 0.25, n: int = 100, alpha: float = 0.001, digit: int = 0
    ) -> None:
        super().__init__(
            sigma=sigma,
            n=n,
            alpha=alpha,
            digit=digit,
            alphas=list(ALPHAS),
            votes=json.loads(VOTES.read_text(encoding="utf-8")),
            shown=_shown(),
        )

    def certificates(self) -> list[Smoothed]:
        """Return what the votes on each of the 100 digits certify as it is set now."""
        level = self.votes["levels"][SIGMAS.index(self.sigma)]
        place = COUNTS.index(self.n)
        return [
            judge(counts[place], self.n, winner, self.sigma, self.alpha)
            for winner, counts in zip(level["winners"], level["votes"], strict=True)
        ]

    def certified(self, radius: float) -> int:
        """Count the digits that are right and certified at a radius; abstentions are not."""
        pairs = zip(self.certificates(), self.votes["labels"], strict=True)
        return sum(one.category == label and one.radius >= radius for one, label in pairs)

    def summary(self) -> str:
        """Return the settings."""
        return f"σ = {self.sigma:g}, n = {self.n:,}, α = {self.alpha:g}"

    def still(self) -> str:
        """Return the curve, and in words what is certified."""
        radii = [_REACH * i / _STEPS for i in range(_STEPS + 1)]
        counts = [self.certified(radius) for radius in radii]
        figure = plots.lines(
            radii,
            {"certified": counts},
            xlabel="radius (ℓ2)",
            ylabel="right and certified, of 100",
            title=self.summary(),
            colours={"certified": plots.PROVED},
        )
        found = self.certificates()
        abstained = sum(one.abstained for one in found)
        said = (
            f"{self.summary()}: {self.certified(0)} of {len(found)} digits are right and "
            f"certified at some ℓ2 radius, {self.certified(0.25)} at 0.25; {abstained} "
            "abstentions, which count as wrong. Each statement is wrong with probability "
            f"{self.alpha:g} at most."
        )
        alt = f"A falling curve of digits certified against the radius. {said}"
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"


def _shown() -> list[dict[str, Any]]:
    """Return the digits that are shown, a character for each pixel."""
    test = digits().test
    return [
        {"place": place, "label": int(test.labels[place]), "pixels": pixels}
        for place, pixels in zip(SHOWN, digits_as_text(test.images[list(SHOWN)]), strict=True)
    ]
