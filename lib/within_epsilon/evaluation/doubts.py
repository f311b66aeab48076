"""What makes an evaluation doubtful: signs of it, counted on the first examples."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import describe, fgsm, input_gradient, noise_control, settings
from within_epsilon.attacks.core.registry import function_of
from within_epsilon.checks import check_logits
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball

# How many of the attacked examples are looked at.
ENOUGH = 64


class DoubtfulEvaluationWarning(UserWarning):
    """The robust accuracy may say less about the model than about the evaluation."""


@dataclass
class Tally:
    """How many of the first attacked examples showed what.

    Parameters
    ----------
    examples : int
        Looked at.
    probabilities : int
        Whose outputs are probabilities.
    wavering : int
        Whose logits differ between two passes.
    flat : int
        Whose gradient is zero.
    no_gradient : str
        Why there is none at all.
    single_step, fooled : int
        Fooled by one step of the fast gradient sign method, and by what was asked for.
    runs, falling : int
        Runs of an iterative attack, and those that ended with a lower loss than they began.
    """

    examples: int = 0
    probabilities: int = 0
    wavering: int = 0
    flat: int = 0
    no_gradient: str = ""
    single_step: int = 0
    fooled: int = 0
    runs: int = 0
    falling: int = 0


class Doubts:
    """Watches an evaluation's first examples, whatever batches they come in.

    Costs one gradient and one forward pass more on at most `ENOUGH` examples, and in the
    batches that hold them what the attack spends on its callback.

    Parameters
    ----------
    model : nn.Module
        The model.
    attacks : list of callable
        What it is attacked with; the loss is the first one's, or else the cross-entropy.
    ball : Ball
        The threat model.
    tally : Tally
        Counts so far, continued in place.
    """

    def __init__(
        self, model: nn.Module, attacks: list[Callable[..., Tensor]], ball: Ball, tally: Tally
    ) -> None:
        self._model, self._attacks, self._ball, self._tally = model, attacks, ball, tally
        loss = settings(attacks[0]).get("loss")
        # An attack of the reader's own may call its losses by names.
        self._loss = loss if callable(loss) else cross_entropy
        self._first = self._last = torch.empty(0)
        self._told = False

    @property
    def settled(self) -> bool:
        """Whether enough examples have been looked at."""
        return self._tally.examples >= ENOUGH

    def before(self, images: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
        """Look at examples that are about to be attacked, and at their clean logits.

        Returns
        -------
        Tensor of shape (N,), bool
            Which of them are watched.
        """
        tally = self._tally
        watched = torch.arange(len(images), device=images.device) < ENOUGH - tally.examples
        images, labels, logits = images[watched], labels[watched], logits[watched]
        tally.examples += len(images)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        allowed = max(1e-3, torch.finfo(logits.dtype).eps / 2)
        sums_to_one = (wide.sum(dim=1) - 1).abs() <= allowed
        tally.probabilities += int(((logits >= 0).all(dim=1) & sums_to_one).sum())
        again: list[Tensor] = []

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            again.append(logits.detach())
            return self._losses(logits, labels)

        try:
            _, gradient = input_gradient(self._model, images, labels, loss)
        except ValueError as error:
            tally.no_gradient = str(error)
            return watched
        tally.wavering += int(_differ(logits, again[0]).sum())
        tally.flat += int((gradient == 0).flatten(1).all(dim=1).sum())
        region = self._ball.within(images)
        with torch.no_grad():
            single = check_logits(
                self._model(region.step(images, gradient, self._ball.epsilon)), len(images)
            )
        tally.single_step += int((single.argmax(dim=1) != labels).sum())
        return watched

    def watching(self, attack: Callable[..., Tensor], watched: Tensor) -> Callable[..., Tensor]:
        """Return the attack, made to report its losses if it can and nobody else asked."""
        # What climbs one loss takes it as an argument; an ensemble reports something else.
        options = settings(attack)
        if options.get("callback", self) is not None or "loss" not in options:
            return attack

        def callback(*point: Any, **_named: Any) -> None:
            # An attack of the reader's own may report something else.
            if len(point) != 3 or getattr(point[2], "shape", None) != watched.shape:
                return
            step, _, losses = point
            if step == 0:
                self._close_run()
                self._first = losses[watched]
            if len(self._first):
                self._last = losses[watched]

        return functools.partial(attack, callback=callback)

    def after(self, fooled: Tensor) -> None:
        """Note which of the watched examples, (N,), the attack has fooled in the end."""
        self._close_run()
        self._tally.fooled += int(fooled.sum())

    def tell(self) -> None:
        """Warn the caller's caller of everything noted, once."""
        for message in () if self._told else self._messages():
            warnings.warn(message, DoubtfulEvaluationWarning, stacklevel=3)
        self._told = True

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the attack's losses, (N,), or the cross-entropy if it calls its own otherwise."""
        with contextlib.suppress(TypeError):
            losses = self._loss(logits, labels)
            if isinstance(losses, Tensor) and losses.shape == labels.shape:
                return losses
        return cross_entropy(logits, labels)

    def _should_beat_a_step(self) -> bool:
        """Tell whether the attacks are to be more than one step, and more than a control."""
        functions = [function_of(attack) for attack in self._attacks]
        return fgsm not in functions and functions != [noise_control] * len(functions)

    def _close_run(self) -> None:
        self._tally.runs += len(self._first)
        self._tally.falling += int((self._last < self._first - 1e-3 * self._first.abs()).sum())
        self._first = self._last = torch.empty(0)

    def _messages(self) -> Iterator[str]:
        tally, n = self._tally, self._tally.examples
        first = f"the first {n} attacked examples" if n > 1 else "the first attacked example"
        if n and tally.probabilities == n:
            yield (
                "the model seems to return probabilities: softmax flattens the loss and hides its "
                "gradient; return the logits"
            )
        if tally.wavering and not self._model.training:
            yield (
                f"two passes over the same images differ for {tally.wavering} of {first}: the "
                "model is random, and the attack aims at another draw than it is judged by; let "
                "it average gradients over draws, and repeat the evaluation"
            )
        if tally.no_gradient:
            yield f"the model has no usable gradient: {tally.no_gradient}"
        if tally.flat:
            yield (
                f"the gradient in the pixels is zero for {tally.flat} of {first}: attacks that "
                "follow it stand still there, and the robust accuracy is too high; try "
                "losses.margin_loss, or an attack without gradients"
            )
        if tally.single_step > tally.fooled and not tally.wavering and self._should_beat_a_step():
            names = " + ".join(map(describe, self._attacks))
            yield (
                f"one step (FGSM) fools {tally.single_step} of {first}, {names} only "
                f"{tally.fooled}: the attack is too weak or its gradients mislead; give it more "
                "steps, restarts or another loss"
            )
        if 2 * tally.falling > tally.runs:
            yield (
                f"the loss fell from the first to the last step in {tally.falling} of {tally.runs} "
                "runs of the attack: its steps are too long, or the gradient is not that of the "
                "model; try a smaller step_size, and an attack without gradients"
            )


def _differ(logits: Tensor, again: Tensor) -> Tensor:
    """Tell which rows differ by more than rounding."""
    allowed = torch.finfo(logits.dtype).eps ** 0.5 * logits.abs().amax(dim=1).clamp(min=1e-6)
    different: Tensor = (logits - again).abs().amax(dim=1) > allowed
    return different
