"""What `within-epsilon evaluate` does: batches, by however many processes, and a report."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from within_epsilon.commands.inputs.matching import Matched
from within_epsilon.commands.inputs.pictures import DamagedError
from within_epsilon.commands.processes.journal import Entry, Journal
from within_epsilon.commands.processes.progress import Progress
from within_epsilon.commands.processes.workers import StoppedError, Workers, leave
from within_epsilon.evaluation import blank_report, findings_of_parts, merge, robust_accuracy
from within_epsilon.evaluation.core.examples import Examples, default_batch_size
from within_epsilon.evaluation.core.identity import example_hash
from within_epsilon.reports import RobustReport, differences
from within_epsilon.reports.outcomes import add_hashes
from within_epsilon.threat import Ball


@dataclass(frozen=True)
class Experiment:
    """What is evaluated.

    Parameters
    ----------
    data : Matched
        The examples and the model.
    attack : callable
        As for `robust_accuracy`.
    balls : sequence of Ball
        The threat models, by ascending radius.
    seed : int
        Of the attacks.
    positions : sequence of int
        Which examples, ascending.
    batch_size : int, optional
        Most examples at a time; by default as `robust_accuracy`.
    """

    data: Matched
    attack: Callable[..., Tensor]
    balls: Sequence[Ball]
    seed: int
    positions: Sequence[int]
    batch_size: int | None = None

    @property
    def size(self) -> int:
        """How many examples make a batch."""
        return self.batch_size or default_batch_size(torch.empty(self.data.shape, device="meta"))

    @property
    def blanks(self) -> list[RobustReport]:
        """One report for each radius, without outcomes."""
        network = self.data.network
        return [
            blank_report(network.model, self.attack, ball, seed=self.seed, key=network.key or None)
            for ball in self.balls
        ]

    def judge(self, positions: Sequence[int], *, diagnose: bool) -> Entry:
        """Attack a batch at every radius."""
        network, examples = self.data.network, _Examples(self.data, positions)
        if examples.all_damaged and len(positions) > 1:  # one alone is a bad example, all a mistake
            alone = [self.judge([position], diagnose=False) for position in positions]
            return Entry(tuple(map(merge, zip(*(entry.reports for entry in alone), strict=True))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says it
            return Entry(
                tuple(
                    robust_accuracy(
                        network.model,
                        examples,
                        self.attack,
                        ball,
                        batch_size=self.size,
                        indices=positions,
                        seed=self.seed,
                        key=network.key or None,
                        diagnose=diagnose,
                        progress=False,
                    )
                    for ball in self.balls
                )
            )

    def fingerprint(self, positions: Sequence[int]) -> str:
        """Hash examples as the reports about them do."""
        found = Examples(_Examples(self.data, positions), self.size, positions)
        return add_hashes(map(example_hash, found))


class _Examples(Dataset[tuple[Tensor, int]]):
    """The examples of a batch, read once; those that are damaged raise when asked for."""

    def __init__(self, data: Matched, positions: Sequence[int]) -> None:
        self._read: list[tuple[Tensor, int] | DamagedError] = []
        for position in positions:
            try:
                self._read.append(data[position])
            except DamagedError as error:
                self._read.append(error)

    @property
    def all_damaged(self) -> bool:
        """Whether none can be read."""
        return all(isinstance(found, DamagedError) for found in self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        found = self._read[number]
        if isinstance(found, DamagedError):
            raise found
        return found


def evaluate(experiment: Experiment, journal: Journal, workers: Workers) -> list[RobustReport]:
    """Evaluate what the journal does not have, and return the reports of all of it.

    Every batch is one process's, whole, and made of the same examples however many processes
    there are: so are its verdicts.

    Parameters
    ----------
    experiment : Experiment
        What is evaluated.
    journal : Journal
        Where finished batches are kept.
    workers : Workers
        The processes.

    Returns
    -------
    list of RobustReport
        One for each radius, in all processes.

    Raises
    ------
    ValueError
        If the journal is of another experiment or other examples, or an example cannot be used.
    OSError
        If a finished batch cannot be kept.
    """
    begun = workers.by_first(journal.entries)
    workers.by_first(lambda: _require_same(experiment, begun))
    done = {position for entry in begun for position in entry.positions}
    batches = list(_batches(experiment, done))
    progress = Progress(workers, sum(map(len, batches)), len(done))
    if workers.first and 0 < len(batches) < workers.size:
        print(
            f"{len(batches)} batches are too few for {workers.size} processes: give a smaller "
            "--batch-size, a quarter of each one's share or less",
            file=sys.stderr,
        )
    own: list[Entry] = []
    journal.open(workers.rank)
    try:
        for entry in workers.tasks(begun, "read again"):
            if experiment.fingerprint(entry.positions) != entry.reports[0].data:
                raise ValueError(
                    "--out: expected the examples that the evaluation in it was begun with, "
                    "received others; give another folder"
                )
        for positions in workers.tasks(batches, "attacked"):
            first = positions[0] == experiment.positions[0]
            entry = experiment.judge(positions, diagnose=first)
            journal.add(entry)
            own.append(entry)
            progress.note(len(positions))
        progress.finish()
        entries = [*begun, *(entry for part in workers.together(own) for entry in part)]
    finally:
        journal.close()
    return [_whole([entry.reports[k] for entry in entries]) for k in range(len(experiment.balls))]


def _whole(parts: Sequence[RobustReport]) -> RobustReport:
    report = merge(parts)
    if report.n == len(report.bad):
        raise ValueError(
            f"--data: expected examples that can be judged, received {report.n} that cannot; the "
            f"first, at position {min(report.bad)}: {report.bad[min(report.bad)]}"
        )
    return replace(report, findings=findings_of_parts(report))


def _batches(experiment: Experiment, done: set[int]) -> Iterator[list[int]]:
    """Yield the batches, without what is done: all of a size, so that none is a small rest."""
    positions = experiment.positions
    count = -(-len(positions) // experiment.size)
    for number in range(count):
        start, end = (len(positions) * k // count for k in (number, number + 1))
        left = [p for p in positions[start:end] if p not in done]
        if left:
            yield left


def _require_same(experiment: Experiment, entries: Sequence[Entry]) -> None:
    asked = set(experiment.positions)
    blanks = experiment.blanks if entries else []
    for entry in entries:
        differing = {"threat models"} if len(entry.reports) != len(blanks) else set[str]()
        for blank, report in zip(blanks, entry.reports, strict=False):
            differing |= set(differences(blank, report))
        if "threat models" in differing:
            differing.discard("ball")
        if not asked.issuperset(entry.positions):
            differing.add("examples")
        if differing:
            raise ValueError(
                "--out: this folder has another evaluation, of other "
                f"{', '.join(sorted(differing))}; it is left as it is: give another folder, or "
                "what it was begun with"
            )


def ending_clearly(work: Callable[[], Any], kept: Callable[[], str]) -> None:
    """Do the work; if it is stopped, say what was kept, and how to go on.

    Parameters
    ----------
    work : callable
        What to do.
    kept : callable
        Says what is safe on disk.
    """
    begun = time.monotonic()
    try:
        work()
    except (StoppedError, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        leave(
            f"within-epsilon: stopped after {time.monotonic() - begun:.0f} s: {why}; {kept()}; the "
            "same command goes on from there, with any number of processes",
            1,
        )
    except Exception:
        sys.stdout.flush()
        raise
