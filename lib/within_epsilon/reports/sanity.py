"""What a checklist found: passed, failed or not run, and what each means."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from within_epsilon.reports.written import ball_from, content, table_row
from within_epsilon.threat import Ball

Outcome = Literal["passed", "failed", "not run"]
_MARKS: dict[str, str] = {"passed": "✓", "failed": "✗", "not run": "–"}


@dataclass(frozen=True)
class Check:
    """One line of the checklist.

    Parameters
    ----------
    name : str
        What ought to be, such as "one step is no better than many".
    outcome : {"passed", "failed", "not run"}
        What came out.
    evidence : str
        What was seen, with numbers; of a check that was not run, why.
    meaning : str
        If it failed: what follows for the robust accuracy.
    remedy : str
        If it failed or was not run: what to run next.
    """

    name: str
    outcome: Outcome
    evidence: str
    meaning: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{_MARKS[self.outcome]} {self.name}: {self.evidence}"


@dataclass(frozen=True)
class SanityReport:
    """What `evaluation.sanity_report` found.

    Parameters
    ----------
    ball : Ball
        The threat model.
    n : int
        Number of examples.
    clean : int
        How many of them are right without attack.
    robust : int
        How many stand against all attacks of the checklist at this radius: an upper bound
        on what the worst perturbations leave, and no evaluation.
    checks : tuple of Check
        The checklist.
    """

    ball: Ball
    n: int
    clean: int
    robust: int
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether none failed, which proves nothing."""
        return not self.failed

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def __str__(self) -> str:
        """Say the most important of it in one line."""
        counts = ", ".join(
            f"{sum(check.outcome == outcome for check in self.checks)} {outcome}"
            for outcome in _MARKS
        )
        names = "; ".join(check.name for check in self.failed)
        return (
            f"sanity checks: {counts}; {self.clean} of {self.n} right, at most {self.robust} "
            f"under attack, {self.ball}" + (f" (failed: {names})" if names else "")
        )

    def to_text(self, width: int = 88) -> str:
        """Say all of it, in lines of at most `width` characters."""
        lines = textwrap.wrap(str(self), width)
        for check in self.checks:
            lines += textwrap.wrap(str(check), width, subsequent_indent="  ")
            for word, said in _advice(check):
                lines += textwrap.wrap(f"  {word}: {said}", width, subsequent_indent="    ")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Write the same as `to_text` as a Markdown table."""
        head = ["| check | outcome | evidence | meaning | next |", "|---|---|---|---|---|"]
        rows = (table_row(asdict(check).values()) for check in self.checks)
        return "\n".join((str(self), "", *head, *rows))

    def to_json(self) -> str:
        """Write all of it as JSON, from which `from_json` makes an equal report."""
        return json.dumps(content(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "SanityReport":
        """Read what `to_json` has written.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            parts = json.loads(text)
            parts["ball"] = ball_from(**parts["ball"])
            parts["checks"] = tuple(Check(**check) for check in parts["checks"])
            return SanityReport(**parts)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"expected the JSON of a sanity report, received another ({error})"
            ) from error


def _advice(check: Check) -> Iterator[tuple[str, str]]:
    if check.outcome == "failed" and check.meaning:
        yield "it means", check.meaning
    if check.outcome != "passed" and check.remedy:
        yield "next", check.remedy
