"""Error against epsilon."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.attacks import describe, takes
from within_epsilon.attacks.core.registry import accepted
from within_epsilon.checks import check_model
from within_epsilon.evaluation.core.examples import (
    Batch,
    Data,
    Examples,
    model_dtype,
    require_some,
)
from within_epsilon.evaluation.core.judging import (
    Guarded,
    attacks_of,
    judge,
    on_device,
    require_untargeted,
    stages_in,
)
from within_epsilon.evaluation.diagnosis.diagnose import warn_of
from within_epsilon.evaluation.diagnosis.stages import bad_examples
from within_epsilon.evaluation.running import ENOUGH, findings_on, sample_of, weighed
from within_epsilon.geometry import Norm
from within_epsilon.reports import Finding, wilson_interval
from within_epsilon.runtime import progress_bar, untouched
from within_epsilon.threat import Ball

# By how much a find may be further than a radius, relatively: pixels are rounded.
_ROUNDING = 2.0**-20


@dataclass(frozen=True)
class RobustCurve:
    """How many examples are lost at each radius.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        How perturbations are measured.
    epsilons : tuple of float
        Radii, ascending, in pixel units.
    lost : tuple of int
        Examples misclassified at each radius: a lower bound on what the worst
        perturbations do. Those that cannot be judged count as lost.
    attack : str
        The attack and its settings.
    n : int
        Number of examples.
    bad : dict
        Why an example could not be judged, by its position.
    findings : tuple of Finding
        What a look at the model found on the first examples, as in `diagnose`.
    """

    norm: Norm
    epsilons: tuple[float, ...]
    lost: tuple[int, ...]
    attack: str
    n: int
    bad: dict[int, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @property
    def errors(self) -> tuple[float, ...]:
        """Share of examples misclassified at each radius."""
        return tuple(count / self.n for count in self.lost)

    def intervals(self, confidence: float = 0.95) -> tuple[tuple[float, float], ...]:
        """Return the Wilson interval of the error at each radius."""
        return tuple(wilson_interval(count, self.n, confidence) for count in self.lost)

    def __str__(self) -> str:
        points = ", ".join(
            f"{Ball(self.norm, epsilon)}: {count} of {self.n} lost"
            for epsilon, count in zip(self.epsilons, self.lost, strict=True)
        )
        return f"{self.attack}; {points}"


def robust_curve(
    model: nn.Module,
    data: Data,
    attack: Callable[..., Any] | Sequence[Callable[..., Tensor]],
    norm: Norm,
    epsilons: Sequence[float],
    *,
    batch_size: int | None = None,
    indices: Sequence[int] | Tensor | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> RobustCurve:
    """Measure the error at several radii in one pass over the data.

    Parameters
    ----------
    model, data, batch_size, indices, seed, progress
        As for `robust_accuracy`.
    attack : callable, or sequence of them
        As for `robust_accuracy`; or one minimal-norm attack, such as
        ``functools.partial(fmn, norm="linf")``, whose distances give all radii at once.
    norm : {"linf", "l2", "l1"}
        How perturbations are measured.
    epsilons : sequence of float
        The radii, in pixel units.

    Returns
    -------
    RobustCurve
        Which never falls: what is lost at one radius is lost at all larger ones, and is not
        attacked there again.

    Raises
    ------
    TypeError, ValueError
        As `robust_accuracy`, or if a radius is none for that norm, or there is none.

    Warns
    -----
    DoubtfulEvaluationWarning
        Once for each doubtful finding.
    """
    check_model(model)
    balls = _balls(norm, epsilons)
    by_distance = callable(attack) and not takes(attack, "ball")
    if by_distance:
        require_untargeted(attack)
    attacks: Any = attack if by_distance else attacks_of(attack, balls[0], seed)
    widest = [Guarded(attacks)] if by_distance else stages_in(attacks, balls[-1], seed)
    radii_of = _by_distance if by_distance else _by_radius
    lost, n, bad = [0] * len(balls), 0, dict[int, str]()
    examples = Examples(data, batch_size, indices, model_dtype(model))
    with untouched(model, seed or 0):
        sample = sample_of(model, examples.ahead(ENOUGH))
        findings = findings_on(model, sample, balls[-1], widest)
        for batch in progress_bar(examples, show=progress, label="attacking", unit="batch"):
            radii = radii_of(model, on_device(batch, model), attacks, balls, seed, bad)
            n += len(radii)
            for place, ball in enumerate(balls):
                lost[place] += int((radii <= ball.epsilon * (1 + _ROUNDING)).sum())
    require_some(n, bad)
    findings += [bad_examples(bad, n)] if bad else []
    findings = list(weighed(findings, widest, n - lost[-1]))
    warn_of(findings)
    names = describe(attack) if callable(attack) else " + ".join(map(describe, attack))
    ascending = tuple(ball.epsilon for ball in balls)
    return RobustCurve(norm, ascending, tuple(lost), names, n, bad, tuple(findings))


def _balls(norm: Norm, epsilons: Iterable[float]) -> list[Ball]:
    """Return the balls of these radii, each once, the smallest first."""
    if not isinstance(epsilons, Iterable):
        raise TypeError(f"epsilons: expected several radii, received {epsilons!r}; give a list")
    balls = {ball.epsilon: ball for ball in (Ball(norm, epsilon) for epsilon in epsilons)}
    if not balls:
        raise ValueError("epsilons: expected at least one radius, received none")
    return [balls[epsilon] for epsilon in sorted(balls)]


def _by_radius(
    model: nn.Module,
    batch: Batch,
    attacks: Any,
    balls: list[Ball],
    seed: int | None,
    bad: dict[int, str],
) -> Tensor:
    """Return the radius at which each example is lost, (N,): what stands goes on to the next."""
    radii = torch.full((len(batch.labels),), torch.inf, dtype=torch.float64)
    rows = torch.arange(len(radii))
    for ball in balls:
        part, stages = batch.rows(rows), stages_in(attacks, ball, seed)
        judged = judge(model, part, ball, stages)
        bad.update(judged.bad)
        fell_to = judged.fell_to.cpu()
        radii[rows[fell_to < len(stages)]] = ball.epsilon
        radii[rows[fell_to < 0]] = 0
        rows = rows[fell_to == len(stages)]
        if not len(rows):
            break
    return radii


def _by_distance(
    model: nn.Module,
    batch: Batch,
    attack: Any,
    balls: list[Ball],
    seed: int | None,
    bad: dict[int, str],
) -> Tensor:
    """Return the same from the distances of a minimal-norm attack's finds, which are checked."""
    found: dict[int, float] = {}
    options = accepted(attack, norm=balls[0].norm, seed=seed)

    def nearest(
        model: nn.Module, images: Tensor, labels: Tensor, ball: Ball, *, indices: Tensor
    ) -> Tensor:
        own = accepted(attack, indices=indices)
        images_adv = attack(model, images.clone(), labels, **options, **own).images_adv
        with torch.no_grad():
            fooled = model(images_adv.clone()).argmax(dim=1) != labels
        lengths = ball.length(images_adv.double() - images.double())
        lengths = torch.where(fooled.to(lengths.device), lengths, torch.inf)
        found.update(zip(indices.tolist(), lengths.tolist(), strict=True))
        return images

    judged = judge(model, batch, balls[-1], [Guarded(nearest, seed or 0)])
    bad.update(judged.bad)
    # What was not attacked was lost already.
    radii = [found.get(index, 0.0) for index in batch.indices.tolist()]
    return torch.tensor(radii, dtype=torch.float64).masked_fill_(judged.fell_to.cpu() == -2, 0)
