"""What would make an evaluation doubtful, seen in what its attacks did."""

import contextlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, noise_control
from within_epsilon.attacks.core.registry import function_of
from within_epsilon.evaluation.core.examples import Batch
from within_epsilon.evaluation.core.judging import Guarded, Judged
from within_epsilon.reports import Finding, RobustReport
from within_epsilon.threat import Ball

# Gradients per example from which on an attack counts as one that climbs.
_CLIMBS = 5
# So many finds of an attack without gradients are no sign yet.
_FEW = 4


class Controls:
    """One step and noise, beside what the evaluation's attacks do to the same examples.

    Parameters
    ----------
    model : nn.Module
        The model.
    batch : Batch
        A few dozen examples; the controls are run on them at once.
    ball : Ball
        The threat model.
    stages : sequence of Guarded
        The evaluation's attacks.
    """

    def __init__(
        self, model: nn.Module, batch: Batch, ball: Ball, stages: Sequence[Guarded]
    ) -> None:
        self._idle = ball.epsilon == 0
        self._functions = [function_of(stage.attack) for stage in stages]
        self._places = {index: place for place, index in enumerate(batch.indices.tolist())}
        self._noted, n = 0, len(batch.indices)
        self._seen, self._fooled, self._still = (torch.zeros(n, dtype=torch.bool) for _ in "123")
        controls = {"FGSM": fgsm, "noise": noise_control}
        ball, points = ball[batch.indices], dict[str, Tensor]()
        for name, control in controls.items():
            # A model without a gradient has no step to compare with.
            with contextlib.suppress(ValueError, RuntimeError):
                if control not in self._functions:
                    points[name] = Guarded(control)(
                        model, batch.images, batch.labels, ball, indices=batch.indices
                    )
        self._by, self._movable = _fooled(model, batch, points)

    @property
    def complete(self) -> bool:
        """Whether all examples have been noted."""
        return self._noted == len(self._places)

    def note(self, batch: Batch, judged: Judged) -> None:
        """Take note of what became of a batch, as far as its examples are among the controls'."""
        for row, index in enumerate(batch.indices.tolist()):
            place = self._places.get(index)
            fell_to = int(judged.fell_to[row])
            if place is None:
                continue
            self._noted += 1
            if fell_to < 0:
                continue
            self._seen[place] = True
            self._fooled[place] = fell_to < len(self._functions)
            self._still[place] = torch.equal(judged.images_adv[row], batch.images[row])

    def findings(self) -> list[Finding]:
        """Compare, once the examples have been noted."""
        if self._idle or self._functions == [noise_control] * len(self._functions):
            return []
        found = (self._better("FGSM", 0), self._better("noise", 1), self._no_progress())
        return [finding for finding in found if finding is not None]

    def _better(self, name: str, at_least: int) -> Finding | None:
        """Find a control that fools more than the attacks, or as many and at least so many."""
        if name not in self._by:
            return None
        theirs = int((self._by[name] & self._seen).sum())
        ours, n = int((self._fooled & self._seen).sum()), int(self._seen.sum())
        if theirs <= ours and not (at_least and n > theirs == ours > at_least):
            return None
        what = {"FGSM": "one step (FGSM)", "noise": "noise of the same size"}[name]
        return Finding(
            f"{name} is as good" if theirs == ours else f"{name} is better",
            f"{what} fools {theirs} of {n} examples, the attacks only {ours}",
            "they are too weak, or their gradients mislead",
            "give them more steps, restarts or another loss, and try one without gradients",
        )

    def _no_progress(self) -> Finding | None:
        # A mask or a tiny ball may leave some images nowhere to go.
        left = self._seen & ~self._fooled & self._movable
        still = int((left & self._still).sum())
        if 2 * still <= int(left.sum()):
            return None
        return Finding(
            "falling loss",
            f"for {still} of {int(left.sum())} examples that stand, no image that an attack "
            "returned has a higher loss than the clean one",
            "steps are too long, or the gradient is not that of the model",
            "try a smaller step_size, and an attack without gradients",
        )


@torch.no_grad()
def _fooled(
    model: nn.Module, batch: Batch, points: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """Tell which examples the controls' points fool, by name, and which ones any of them moves."""
    moved, fooled = torch.zeros(len(batch.labels), dtype=torch.bool), dict[str, Tensor]()
    if not points:
        return fooled, moved
    # At once: of small images it is the number of passes that costs.
    with contextlib.suppress(ValueError, RuntimeError):
        said = model(torch.cat([*points.values()])).argmax(dim=1).split(len(batch.labels))
        for name, classes in zip(points, said, strict=True):
            fooled[name] = (classes != batch.labels).cpu()
            moved |= (points[name] != batch.images).flatten(1).any(dim=1).cpu()
    return fooled, moved


def check_stages(report: RobustReport) -> list[Finding]:
    """Look for what makes a finished evaluation doubtful in how its stages fared.

    Parameters
    ----------
    report : RobustReport
        Of `robust_accuracy`, or of `merge`.

    Returns
    -------
    list of Finding
        Of gradient-free attacks that find much after gradient ones did not, and of bad
        examples.

    References
    ----------
    Much is 0.2% of the examples, as in the code of Croce and Hein's AutoAttack, and more
    than four: on a few hundred, an honest model may well lose two or three.
    """
    findings = []
    before, climbed = report.clean, False
    for stage, left in zip(report.stages, report.standing, strict=True):
        found = before - left
        if climbed and before and not stage.gradients and found > max(_FEW, 0.002 * report.n):
            findings.append(
                Finding(
                    "gradient-free attack finds more",
                    f"{stage.name}, without gradients, fools {found} of the {before} examples "
                    "that the attacks with gradients left standing",
                    "their gradients mislead or vanish, and the robust accuracy is too high",
                    "look at the model for steps that are not differentiable; give the attack "
                    "without gradients more queries",
                )
            )
        climbed |= before > 0 and stage.gradients >= _CLIMBS * before
        before = left
    if report.bad:
        findings.append(bad_examples(report.bad, report.n))
    return findings


def bad_examples(bad: Mapping[int, str], n: int) -> Finding:
    """Say that examples could not be judged."""
    return Finding(
        "bad examples",
        f"{len(bad)} of {n} could not be judged; the first, at position {min(bad)}: "
        f"{bad[min(bad)]}",
        "they count as lost, wrong and fooled alike",
        "look at these examples, and at the model's answers to them",
    )
