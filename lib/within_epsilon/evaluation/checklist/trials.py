"""The attacks behind a checklist, each run once, when it is first asked for."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import (
    Averaged,
    describe,
    fgsm,
    noise_control,
    pgd,
    random_noise,
    square,
    unnoticed,
    unnoticed_margin,
)
from within_epsilon.evaluation.accuracies import robust_accuracy
from within_epsilon.evaluation.core.examples import Data, Examples, model_dtype
from within_epsilon.evaluation.diagnosis.jumps import jumps
from within_epsilon.evaluation.diagnosis.stages import check_stages
from within_epsilon.losses import margin_loss
from within_epsilon.reports import Finding, RobustReport
from within_epsilon.runtime import device_of, untouched
from within_epsilon.threat import Ball

Attack = Callable[..., Tensor]

# So many examples any comparison leaves to chance, so many pictures of noise tell what a model
# says where there is nothing to see, and so many examples show jumps, if there are any.
_FEW, _NOISE, _SOME = 4, 100, 64


class Trials:
    """What attacks do to a model, for checks to compare.

    Parameters
    ----------
    model, data, ball, reject, steps, queries, samples, seed
        As for `evaluation.sanity_report`.

    Attributes
    ----------
    n, clean : int
        Examples, and those that are right without attack.
    findings : list of Finding
        Of the diagnosis, and of what PGD did.
    gradients, random : bool
        Whether there is a gradient to follow, and whether answers differ from call to call.
    following : set of str
        The attacks that need a gradient.
    substitute : nn.Module, optional
        What the transfer attack looks at.
    """

    following = frozenset(
        ("PGD", "restarts", "few steps", "fgsm", "margin", "unnoticed", "averaged", "white box")
    )
    substitute: nn.Module | None = None

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        ball: Ball,
        reject: int | None,
        steps: int,
        queries: int,
        samples: int,
        seed: int,
    ) -> None:
        self.model, self.ball, self.reject, self.seed = model, ball, reject, seed
        self._steps, self._queries, self._samples = steps, queries, samples
        with untouched(model, seed):  # a loader draws from torch's generator
            self._data = _read(data, model)
        looked = self._run(noise_control, diagnose=True)
        self.n, self.clean = looked.n, looked.clean
        names = {finding.name for finding in looked.findings}
        self.gradients = "no gradient" not in names
        self.random = bool(names & {"randomness", "train mode"})
        self.findings = list(looked.findings)
        if self.gradients:
            # Bare, for the diagnosis to compare it with its own controls.
            climbed = self._run(self._attacks["PGD"], diagnose=True)
            self.findings += [each for each in climbed.findings if each.name not in names]

    @functools.cached_property
    def _attacks(self) -> dict[str, Attack]:
        climb = partial(pgd, steps=self._steps)
        refusal = -1 if self.reject is None else self.reject
        unnoticed_loss = partial(unnoticed_margin, reject=refusal)
        return {
            "noise": noise_control,
            "fgsm": fgsm,
            "few steps": partial(pgd, steps=max(1, self._steps // 4)),
            "PGD": climb,
            "restarts": partial(climb, restarts=5),
            "margin": partial(climb, loss=margin_loss),
            "unnoticed": partial(climb, loss=unnoticed_loss, steps=100),
            "averaged": _on(lambda: Averaged(self.model, self._samples), climb),
            "transfer": _on(lambda: self.substitute, climb),
        }

    def fooled(self, name: str) -> int:
        """Count the examples that an attack fools of those that are right without."""
        if name == "white box":
            return self.clean - self.whole.standing[-2]
        if name == "PGD":
            return self.clean - self.whole.standing[0]  # it was the first of all in turn
        if name not in self._fooled:
            report = self._run(self._guarded(self._attacks[name]))
            self._fooled[name] = report.clean - report.robust
        return self._fooled[name]

    @functools.cached_property
    def _fooled(self) -> dict[str, int]:
        return {}

    def called(self, name: str) -> str:
        """Name an attack as reports do."""
        names = {
            "white box": "PGD on the model",
            "averaged": f"PGD on the mean of {self._samples} draws",
            "transfer": "PGD on the substitute",
            "unnoticed": "PGD that minds the refusal",
        }
        return names.get(name) or describe(self._attacks[name])

    def more(self, one: int, other: int, share: float = 0.02) -> bool:
        """Tell whether one count exceeds another by more than a few examples, or that share."""
        return one - other > max(_FEW, share * self.n)

    @functools.cached_property
    def whole(self) -> RobustReport:
        """What is left after all attacks in turn, Square last."""
        names = self._white_box() + (["averaged"] if self.random and self.gradients else [])
        attacks = [self._attacks[name] for name in names]
        attacks.append(partial(square, queries=self._queries))
        return self._run([self._guarded(attack) for attack in attacks])

    @property
    def robust(self) -> int:
        """How many stand after all of them."""
        return self.whole.robust

    @property
    def by_square(self) -> int:
        """How many of them Square found after all others."""
        return (self.clean, *self.whole.standing)[-2] - self.robust

    @property
    def staged(self) -> list[Finding]:
        """What the order of finds says."""
        return check_stages(self.whole)

    def by_radius(self) -> dict[Ball, int]:
        """Count the examples lost at half the radius, at the radius and at twice as much."""
        most = 1.0 if self.ball.norm == "linf" else torch.inf
        radii = sorted({min(factor * self.ball.epsilon, most) for factor in (0.5, 1, 2)})
        balls = [replace(self.ball, epsilon=radius) for radius in radii]
        return {ball: self.n - self._climb(ball) for ball in balls}

    def unbounded(self) -> list[int] | None:
        """Return the labels of those that stand when any image is allowed; None with a mask."""
        if self.ball.mask is not None:
            return None
        pixels = float(self._data[0][0].numel())
        reach = {"linf": 1.0, "l2": pixels**0.5, "l1": pixels}[self.ball.norm]
        outcomes = self._climbed(replace(self.ball, epsilon=reach)).outcomes
        return [int(y) for y, letter in zip(self._data[1], outcomes, strict=True) if letter == "+"]

    def jumps(self) -> Tensor:
        """Return how far the margin loss jumps on the way to noise, for a few dozen examples."""
        device = device_of(self.model)
        images, labels = (column[:_SOME].to(device) for column in self._data)
        noisy = random_noise(images, self.ball[torch.arange(len(images))], seed=self.seed)
        with torch.no_grad(), untouched(self.model, self.seed):
            logits = self.model(images.clone())
            return jumps(
                lambda points: margin_loss(self.model(points), labels),
                images,
                noisy,
                logits.nan_to_num(0, 0, 0).abs().amax(dim=1),
            )

    def said_of_noise(self) -> int | None:
        """Return the class that the model finds in most pictures of noise, if there is one."""
        shape = (_NOISE, *self._data[0].shape[1:])
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.rand(shape, generator=generator, dtype=torch.float32)
        with torch.no_grad(), untouched(self.model, self.seed):
            said = self.model(noise.to(self._data[0].dtype).to(device_of(self.model))).argmax(1)
        times, label = said.bincount().max(0)
        return int(label) if 2 * int(times) > _NOISE else None

    def _climb(self, ball: Ball) -> int:
        if ball.epsilon == self.ball.epsilon:  # those of all in turn that see the model came first
            return self.whole.standing[max(0, len(self._white_box()) - 1)]
        return self._climbed(ball).robust

    def _climbed(self, ball: Ball) -> RobustReport:
        if not self.gradients:
            return self._run(self._guarded(partial(square, queries=self._queries)), ball)
        return self._run([self._guarded(self._attacks[name]) for name in self._white_box()], ball)

    def _white_box(self) -> list[str]:
        if not self.gradients:
            return []
        return ["PGD", "margin"] + (["unnoticed"] if self.reject is not None else [])

    def _guarded(self, attack: Attack) -> Attack:
        """Give an attack up where the model refuses."""
        if self.reject is None:
            return attack
        return partial(unnoticed, attack=attack, reject=self.reject)

    def _run(
        self, attack: Any, ball: Ball | None = None, *, diagnose: bool = False
    ) -> RobustReport:
        return robust_accuracy(
            self.model,
            self._data,
            attack,
            ball or self.ball,
            seed=self.seed,
            diagnose=diagnose,
            progress=False,
        )


def _on(model: Callable[[], nn.Module | None], attack: Attack) -> Attack:
    """Let an attack look at another model than the one that it is judged by."""

    def elsewhere(
        _: nn.Module,
        images: Tensor,
        labels: Tensor,
        ball: Ball,
        *,
        indices: Tensor | Sequence[int] | None = None,
        seed: int = 0,
    ) -> Tensor:
        return attack(model(), images, labels, ball, indices=indices, seed=seed)

    return elsewhere


def _read(data: Data, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Read all examples that can be read, as images (N, ...) and labels (N,)."""
    examples = Examples(data, None, None, model_dtype(model))
    batches = [batch for batch in examples if not batch.unreadable]
    shapes = {tuple(batch.images.shape[1:]) for batch in batches}
    if len(shapes) != 1:
        raise ValueError(
            f"data: expected images of one shape, received {sorted(shapes) or 'none'}; give a "
            "hundred that are alike"
        )
    return torch.cat([batch.images for batch in batches]), torch.cat(
        [batch.labels for batch in batches]
    )
