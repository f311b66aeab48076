"""The training explorer: train a small network in the page against an adversary."""

from __future__ import annotations

import html
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import traitlets
from matplotlib.axes import Axes

from within_epsilon import plots
from within_epsilon.data import Split, digits
from within_epsilon.models import Classifier, digits_classifier, small_cnn
from within_epsilon.plots.style import STYLE, ink
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.digit_lab import DigitLab
from within_epsilon.widgets.engine import describe
from within_epsilon.widgets.pictures import chart, digits_as_text
from within_epsilon.wording import percent, radius

RUNS = Path(__file__).with_name("training_runs.json")
STARTS = ("clean", "random", "noise")
INNER_STEPS = (0, 1, 2, 3, 5, 7)
EPSILONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)

_WATCHED = 5
_LESSONS = 48  # training digits in the chart's place before there is a chart
_ON_PAPER = ((1, "clean"), (3, "random"))  # steps and start of the runs in the still picture
_CURVES = (
    ("clean", plots.TRUE, "-"),
    ("FGSM", plots.DIRECTION, ":"),
    ("PGD", plots.ADVERSARY, "--"),
)


class TrainingExplorer(Explorer):
    """Train a small network on real digits against an adversary, in the page.

    In the page everything is computed by its engine: minibatches of the 1,197 training digits, the
    adversary's steps, the gradient in the weights, Adam. After every epoch it counts how many of
    the 200 validation digits the network reads right as they are, after FGSM and after PGD. Runs
    can be paused, and two compared; the digit lab attacks what was trained. Beside a kernel, and
    where the page's engine cannot be had, it plays runs that were recorded with that engine.

    Parameters
    ----------
    epsilon : float
        Radius of the l-infinity ball for training and for counting, in pixel units: a multiple of
        0.05 up to 0.3.
    steps : {0, 1, 2, 3, 5, 7}
        Steps of the adversary inside training; 0 is training on clean digits.
    start : {"clean", "random", "noise"}
        Where its steps start: at the digit; at a random point of the ball; or at such a point,
        but with no ball to bound the steps after this noise (N-FGSM with k = 1).
    epochs : int
        Passes over the training digits.
    seed : int
        Seed of the weights, the minibatches and the adversary.

    Raises
    ------
    traitlets.TraitError
        If a setting is none of these, at the start or later.

    Notes
    -----
    The network is `small_cnn` with weights drawn as torch draws them; Adam with step size 2e-3,
    minibatches of 64, the mean cross-entropy. One step of the adversary is epsilon long, from a
    random point 1.25 epsilon; n steps are 2.5 epsilon / n, after noise epsilon / n. PGD that counts
    has 20 steps of 2.5 epsilon / 20 from a random start, and wins if any of its points is misread.
    N-FGSM's authors take k = 2, noise from twice the ball, after which this network often comes
    to one answer for all digits at epsilon = 0.3.

    References
    ----------
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018. Wong,
    Rice, Kolter, "Fast is better than free", ICLR 2020. De Jorge et al., "Make Some Noise:
    Reliable and Efficient Single-Step Adversarial Training", NeurIPS 2022.
    """

    kind = "training"

    epsilon = state(traitlets.Enum(EPSILONS, default_value=0.3))
    steps = state(traitlets.Enum(INNER_STEPS, default_value=1))
    start = state(traitlets.Enum(STARTS, default_value="clean"))
    epochs = state(traitlets.Int(60, min=1, max=200))
    seed = state(traitlets.Int(0, min=0, max=1000))
    epsilons = state(traitlets.List(traitlets.Float()))
    held_out = state(traitlets.Int())
    digits = state(traitlets.List(traitlets.Dict()))
    lessons = state(traitlets.Unicode())
    learned = state(traitlets.Int())
    network = state(traitlets.Dict())
    runs = state(traitlets.List(traitlets.Dict()))
    lab = state(traitlets.Dict())

    def __init__(
        self,
        *,
        epsilon: float = 0.3,
        steps: int = 1,
        start: str = "clean",
        epochs: int = 60,
        seed: int = 0,
    ) -> None:
        train, validation, _ = digits()
        super().__init__(
            epsilon=epsilon,
            steps=steps,
            start=start,
            epochs=epochs,
            seed=seed,
            epsilons=list(EPSILONS),
            held_out=len(validation),
            digits=_shown(validation),
            lessons="".join(digits_as_text(train.images[:_LESSONS])),
            learned=len(train),
            network=network(),
            runs=json.loads(RUNS.read_text(encoding="utf-8")),
            lab=_lab(),
        )

    def summary(self) -> str:
        """Return the threat model and the adversary of the run to come."""
        return f"ε = {radius(self.epsilon)}, {self.steps} steps, {self.start} start"

    def still(self) -> str:
        """Return the curves of two recorded runs side by side, and their ends in words."""
        shown = [run for run in self.runs if (run["steps"], run["start"]) in _ON_PAPER]
        with plt.style.context(STYLE):
            figure, panels = plt.subplots(1, len(shown), figsize=(7, 2.8), layout="constrained")
            for axes, run in zip(panels, shown, strict=True):
                self._draw(axes, run)
        plt.close(figure)
        panels[0].set_ylabel(f"read right, of {self.held_out}")
        said = ". ".join(self._said(run) for run in shown) + "."
        alt = f"Accuracy on held-out digits over the epochs of two runs. {said}"
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"

    def _draw(self, axes: Axes, run: dict[str, Any]) -> None:
        for place, (name, colour, dashes) in enumerate(_CURVES):
            values = [point[place] for point in run["points"]]
            axes.plot(values, color=colour, linestyle=dashes)
            axes.text(len(values), values[-1], f" {name}", color=ink(colour), va="center")
        axes.set_title(f"trained against {words(run)}", loc="left")
        axes.set(xlim=(0, 1.25 * len(run["points"])), ylim=(0, self.held_out), xlabel="epoch")

    def _said(self, run: dict[str, Any]) -> str:
        shares = (percent(hits / self.held_out) for hits in run["points"][-1])
        pairs = zip(_CURVES, shares, strict=True)
        seen = ", ".join(f"{name} {share}" for (name, *_), share in pairs)
        threat = f"ℓ∞ ε = {run['epsilon']:g}, trained against {words(run)}"
        return f"{seen} of {self.held_out} held-out digits, {threat}"


def words(run: Mapping[str, Any]) -> str:
    """Return a run's adversary in words: "FGSM", "PGD, 3 steps"."""
    steps, start = run["steps"], run["start"]
    if steps == 0:
        return "no adversary"
    if steps == 1:
        return {"clean": "FGSM", "random": "one step from a random point", "noise": "N-FGSM"}[start]
    if start == "noise":
        return f"noise and {steps} steps"
    return f"PGD, {steps} steps" + (" from the clean digit" if start == "clean" else "")


def network() -> dict[str, Any]:
    """Describe the network that the page trains, for its engine."""
    with torch.random.fork_rng(devices=[]):  # the weights are drawn in the page
        return describe(Classifier(small_cnn(), categories="0123456789").eval(), (1, 8, 8))


def pack_digits() -> bytes:
    """Return the training and validation digits as the page's engine reads them.

    Two counts of two bytes, the labels, 64 levels from 0 to 16 for each digit; all deflated.
    """
    splits = digits()[:2]
    counts = b"".join(len(split).to_bytes(2, "little") for split in splits)
    labels = b"".join(split.labels.to(torch.uint8).numpy().tobytes() for split in splits)
    levels = b"".join(
        (split.images * 16).round().to(torch.uint8).numpy().tobytes() for split in splits
    )
    return zlib.compress(counts + labels + levels, 9)


def _shown(split: Split) -> list[dict[str, Any]]:
    """Return the first few held-out digits, a character for each pixel."""
    images, labels = split[:_WATCHED]
    return [
        {"label": int(label), "pixels": pixels}
        for label, pixels in zip(labels, digits_as_text(images), strict=True)
    ]


def _lab() -> dict[str, Any]:
    """Return the state of a digit lab, without the networks that are yet to be trained."""
    lab = DigitLab(digits_classifier(), epsilon=0.1, attack="pgd")
    names = set(lab.trait_names(page=True)) - {"networks"}
    return {name: getattr(lab, name) for name in sorted(names)}
