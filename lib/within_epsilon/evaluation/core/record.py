"""What an evaluation has found so far, safe on disk after every batch if asked."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from within_epsilon.checks import dtype_explained
from within_epsilon.evaluation.core.examples import Batch
from within_epsilon.evaluation.core.identity import example_hash, probe
from within_epsilon.evaluation.core.judging import Guarded, Judged, on_device
from within_epsilon.reports import Finding, RobustReport, differences, merge
from within_epsilon.reports.outcomes import Piece, add_hashes, join, letters, pieces_at
from within_epsilon.reports.report import hint_on_model
from within_epsilon.runtime import untouched, written_whole


class Record:
    """A report that grows.

    Parameters
    ----------
    blank : RobustReport
        What is evaluated, without outcomes.
    path : path, optional
        Where to keep it; without one, only in memory.

    Attributes
    ----------
    report : RobustReport
        What the file held; `blank` if there was none.

    Raises
    ------
    ValueError
        If the file is damaged, or of another experiment; it is left as it is.
    """

    def __init__(self, blank: RobustReport, path: str | Path | None = None) -> None:
        self.report = self._blank = blank
        self._answers_checked = path is None
        self._path = None if path is None else Path(path).expanduser()
        self._probe: list[float] = []
        self._pieces: list[Piece] = []
        self._bad: dict[int, str] = {}
        self._findings: dict[str, Finding] = {}
        self._hash = self._seen_hash = ""
        self._seen, self._done = 0, set[int]()
        if self._path is not None and self._path.exists():
            self._load(self._path)
        elif self._path is not None:
            self.save([], 0.0)  # a path that cannot be written fails before the work, not after
        self._done = {p for start, end in self.report.positions for p in range(start, end)}

    def check(self, model: nn.Module, batch: Batch) -> None:
        """Compare the model's answers to fixed inputs, shaped like a batch's, with those on record.

        Once, and though all examples may be known.

        Raises
        ------
        ValueError
            If they are others.
        """
        if self._answers_checked or batch.unreadable:
            return
        images = on_device(batch, model).images
        with untouched(model, self._blank.seed or 0), dtype_explained(model, images):
            answers = probe(model, images)
        before = self._probe or answers
        scale = max(map(abs, before), default=0)
        same = len(answers) == len(before) and all(
            abs(a - b) <= 1e-3 * scale for a, b in zip(answers, before, strict=True)
        )
        if not same:
            raise ValueError(self._another(["model (its answers)"]))
        self._probe, self._answers_checked = before, True

    @property
    def readable(self) -> int:
        """How many of the examples on record could be read."""
        lost = (reason.startswith("unreadable") for reason in self.report.bad.values())
        return self.report.n - sum(lost)

    def note(self, findings: Iterable[Finding]) -> None:
        """Add findings; of one name the last stays."""
        self._findings.update({finding.name: finding for finding in findings})

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that was noted."""
        return tuple(self._findings.values())

    def unknown(self, batch: Batch) -> Batch:
        """Return those examples of a batch that are not on record yet."""
        return batch.rows(~self._known(batch)) if self._done else batch

    def fresh(self, batch: Batch) -> Batch:
        """Return the same, after a look at the others.

        Raises
        ------
        ValueError
            If those that are on record were others.
        """
        if not self._done:
            return batch
        old = batch.rows(self._known(batch))
        if len(old.labels):
            self._recognise(old)
        return self.unknown(batch)

    def _known(self, batch: Batch) -> Tensor:
        return torch.tensor([index in self._done for index in batch.indices.tolist()])

    def add(self, batch: Batch, judged: Judged) -> None:
        """Add what became of a batch."""
        words = letters(judged.fell_to.tolist(), len(self.report.stages))
        self._pieces += pieces_at(batch.indices.tolist(), words)
        self._bad.update(judged.bad)
        self._hash = add_hashes((self._hash, example_hash(batch)))

    def finish(self) -> None:
        """Require that the data did not end before the record does."""
        if self._seen < len(self._done):
            raise ValueError(self._other_examples())

    def grown(self, stages: Sequence[Guarded], seconds: float) -> RobustReport:
        """Return the report of everything so far."""
        outcomes, positions = join(self._pieces)
        spent = tuple(
            replace(stage, forwards=run.forwards, gradients=run.gradients)
            for stage, run in zip(self._blank.stages, stages, strict=False)
        )
        new = replace(
            self._blank,
            stages=spent or self._blank.stages,
            outcomes=outcomes,
            positions=positions,
            bad=self._bad,
            data=self._hash,
            seconds=seconds,
        )
        return replace(merge((self.report, new)), findings=self.findings)

    def save(self, stages: Sequence[Guarded], seconds: float) -> None:
        """Write the report of everything so far, whole or not at all, once data are recognised."""
        if self._path is None or self._seen < len(self._done):
            return
        content = {"report": self.grown(stages, seconds).to_json(), "probe": self._probe}
        with written_whole(self._path) as file:
            file.write(json.dumps({"content": content, "checksum": _checksum(content)}).encode())

    def _load(self, path: Path) -> None:
        try:
            whole = json.loads(path.read_bytes())
            content = whole["content"]
            if whole["checksum"] != _checksum(content):
                raise ValueError("its checksum does not match")
            report, self._probe = RobustReport.from_json(content["report"]), content["probe"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"resume: {path} is damaged, or no record of an evaluation ({error}); it is left "
                "as it is: give another path, or move it away"
            ) from error
        differing = differences(self.report, report)
        if differing:
            raise ValueError(self._another(differing))
        self.report = report
        self.note(report.findings)

    def _recognise(self, batch: Batch) -> None:
        self._seen_hash = add_hashes((self._seen_hash, example_hash(batch)))
        self._seen += len(batch.labels)
        if self._seen == len(self._done) and self._seen_hash != self.report.data:
            raise ValueError(self._other_examples())

    def _other_examples(self) -> str:
        return (
            f"resume: expected the {len(self._done)} examples that {self._path} has on record, "
            "received others; give the same data in the same order (no shuffling), or another path"
        )

    def _another(self, differing: list[str]) -> str:
        return (
            f"resume: {self._path} records another experiment, of another {', '.join(differing)}; "
            "it is left as it is: give another path, or what it was begun with"
            + hint_on_model(differing)
        )


def _checksum(content: object) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode()).hexdigest()[:32]
