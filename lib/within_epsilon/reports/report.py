"""A robust accuracy, with all that it depends on."""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

from within_epsilon.reports.intervals import wilson_interval
from within_epsilon.reports.outcomes import (
    BAD,
    LETTERS,
    STANDS,
    WRONG,
    add_hashes,
    join,
    pieces,
    place_of,
)
from within_epsilon.reports.parts import Finding, Stage
from within_epsilon.reports.written import as_markdown, as_text, ball_from, content, identity_of
from within_epsilon.threat import Ball
from within_epsilon.wording import percent


@dataclass(frozen=True)
class RobustReport:
    """A robust accuracy together with everything that it depends on.

    Parameters
    ----------
    ball : Ball
        The threat model.
    attack : str
        What was asked for, in words.
    stages : tuple of Stage
        The attacks in turn; an ensemble's members one by one.
    outcomes : str
        One letter per example, in the order of their positions: "-" misclassified without
        any attack, "a" fooled by the first stage, "b" by the second and so on, "+" right
        throughout, "!" bad: it could not be judged, and counts as lost.
    positions : tuple of (int, int)
        Where in the data set these examples are: runs of start and end (exclusive).
    bad : dict
        Why an example could not be judged, by its position.
    model, data : str
        Hashes of the model and of the examples with their positions and labels.
    seed : int, optional
        What all attacks were given in place of their own seeds, which `stages` have.
    key : str, optional
        What the caller named the experiment.
    versions : dict
        Of the library, torch, NumPy and Python.
    findings : tuple of Finding
        What the diagnosis found.
    seconds : float
        Time it took.

    Notes
    -----
    Two reports are equal if all but findings, times and passes spent is.
    """

    ball: Ball
    attack: str
    stages: tuple[Stage, ...]
    outcomes: str = ""
    positions: tuple[tuple[int, int], ...] = ()
    bad: Mapping[int, str] = field(default_factory=dict)
    model: str = ""
    data: str = ""
    seed: int | None = None
    key: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def n(self) -> int:
        """Number of examples, those misclassified without attack included."""
        return len(self.outcomes)

    @property
    def clean(self) -> int:
        """Number of examples classified as labelled."""
        return self.n - self.outcomes.count(WRONG) - self.outcomes.count(BAD)

    @property
    def standing(self) -> tuple[int, ...]:
        """How many examples are still right after each stage."""
        fell = (self.outcomes.count(letter) for letter in LETTERS[: len(self.stages)])
        return tuple(self.clean - count for count in accumulate(fell))

    @property
    def robust(self) -> int:
        """Number of examples that are right throughout."""
        return self.outcomes.count(STANDS)

    @property
    def clean_accuracy(self) -> float:
        """Share of examples classified as labelled."""
        return self.clean / self.n

    @property
    def robust_accuracy(self) -> float:
        """Share that is still so under attack.

        An upper bound on the accuracy that the worst perturbations leave, for a stronger
        attack may find more.
        """
        return self.robust / self.n

    @property
    def identity(self) -> str:
        """A hash of all that makes two reports equal."""
        return identity_of(self)

    def __hash__(self) -> int:
        return hash((self.ball, self.outcomes, self.model, self.data))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the Wilson interval of the robust accuracy, lower and upper end.

        It says what the choice of these n examples leaves open, not what a stronger
        attack would change.
        """
        return wilson_interval(self.robust, self.n, confidence)

    def outcome(self, position: int) -> str:
        """Say what became of one example, by its position in the data set.

        Raises
        ------
        KeyError
            If the report is not about it.
        """
        place = place_of(self.positions, position)
        if place is None:
            raise KeyError(position)
        letter = self.outcomes[place]
        if letter in LETTERS:
            return f"fell to {self.stages[LETTERS.index(letter)].name}"
        plain = {STANDS: "stands", WRONG: "wrong without attack"}
        return plain.get(letter) or f"bad: {self.bad[position]}"

    def __str__(self) -> str:
        """Say the most important of it in one line."""
        lower, upper = (percent(end) for end in self.interval())
        bad = f", {len(self.bad)} bad counted as lost" if self.bad else ""
        doubts = [finding.name for finding in self.findings if finding.doubtful]
        return (
            f"clean accuracy {percent(self.clean_accuracy)} ({self.clean} of {self.n}), robust "
            f"accuracy {percent(self.robust_accuracy)} ({self.robust} of {self.n}, 95% interval "
            f"{lower} to {upper}{bad}), {self.ball}, {self.attack}"
            + (f" (doubtful: {', '.join(doubts)})" if doubts else "")
        )

    def to_text(self) -> str:
        """Say all of it but the single outcomes, a line each."""
        return as_text(self)

    def to_markdown(self) -> str:
        """Write the same as `to_text` as a Markdown table."""
        return as_markdown(self)

    def to_json(self) -> str:
        """Write all of it as JSON, from which `from_json` makes an equal report."""
        return json.dumps(content(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "RobustReport":
        """Read what `to_json` has written.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            parts = json.loads(text)
            parts["ball"] = ball_from(**parts["ball"])
            parts["stages"] = tuple(Stage(**stage) for stage in parts["stages"])
            parts["findings"] = tuple(Finding(**finding) for finding in parts["findings"])
            parts["positions"] = tuple((start, end) for start, end in parts["positions"])
            parts["bad"] = {int(position): reason for position, reason in parts["bad"].items()}
            return RobustReport(**parts)
        except (TypeError, KeyError, AttributeError, zlib.error) as error:
            raise ValueError(
                f"expected the JSON of a report, received another ({error})"
            ) from error


def merge(reports: Iterable[RobustReport]) -> RobustReport:
    """Put reports of parts of a data set together, in any order.

    Parameters
    ----------
    reports : iterable of RobustReport
        Of the same experiment on different examples, as `evaluation.robust_accuracy` gives
        with ``indices``.

    Returns
    -------
    RobustReport
        Equal to that of all the examples at once. Times and passes are sums; of findings,
        which rest on the first examples of each part, the first of each name is kept.

    Raises
    ------
    ValueError
        If there is none, they are of different experiments, or an example is in two.
    """
    parts = sorted(reports, key=lambda report: report.positions)
    if not parts:
        raise ValueError("reports: expected at least one, received none")
    first = parts[0]
    for part in parts:
        differing = differences(first, part)
        if differing:
            raise ValueError(
                f"reports: expected parts of one experiment, received some that differ in "
                f"{', '.join(differing)}; evaluate all parts alike{hint_on_model(differing)}"
            )
    stages = tuple(
        replace(
            same[0],
            forwards=sum(stage.forwards for stage in same),
            gradients=sum(stage.gradients for stage in same),
        )
        for same in zip(*(part.stages for part in parts), strict=True)
    )
    outcomes, positions = join(
        piece for part in parts for piece in pieces(part.positions, part.outcomes)
    )
    named = {finding.name: finding for part in reversed(parts) for finding in part.findings}
    return replace(
        first,
        stages=stages,
        outcomes=outcomes,
        positions=positions,
        bad=dict(sorted(item for part in parts for item in part.bad.items())),
        data=add_hashes(part.data for part in parts),
        findings=tuple(named.values()),
        seconds=sum(part.seconds for part in parts),
    )


def differences(one: RobustReport, other: RobustReport) -> list[str]:
    """Name what makes two reports belong to different experiments."""
    names = ("model", "ball", "stages", "seed", "key", "versions")
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def hint_on_model(differing: list[str]) -> str:
    """Say what may make a model another one, although nobody changed it."""
    if not any(name.startswith("model") for name in differing):
        return ""
    return " (a model that keeps something of a forward pass is another after it: build it anew)"
