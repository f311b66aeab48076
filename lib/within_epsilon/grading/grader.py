"""One submission from its file to its grade."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from within_epsilon.grading.kernel import EndedError, Kernel
from within_epsilon.grading.processes import Limits, environment, kill_group, marked
from within_epsilon.grading.results import Grade, Mark
from within_epsilon.grading.submission import Cell, Submission, UnreadableError, read

_CHECKS = Path(__file__).parents[1] / "exercises"
_CORRECT = "correct"


def exercises_of(chapter: str) -> list[str]:
    """Return the numbers of a chapter's exercises, in order, without importing their checks.

    Raises
    ------
    ValueError
        If there is no such chapter, or it has no exercises.
    """
    path = _CHECKS / f"chapter{chapter}.py"
    text = path.read_text(encoding="utf-8") if chapter.isdecimal() and path.is_file() else ""
    names = set(re.findall(r'^@exercise\("(\d+\.\d+)"\)', text, re.MULTILINE))
    if not names:
        known = ", ".join(sorted((p.stem[7:] for p in _CHECKS.glob("chapter*.py")), key=int))
        raise ValueError(
            f"chapter: expected one that has exercises ({known}), received {chapter!r}"
        )
    return sorted(names, key=lambda name: int(name.partition(".")[2]))


@dataclass
class _Findings:
    """What running a notebook brought to light."""

    answers: dict[str, Path] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def grade(
    path: Path,
    *,
    name: str | None = None,
    chapter: str | None = None,
    points: Mapping[str, float] | None = None,
    seed: int = 0,
    limits: Limits | None = None,
) -> Grade:
    """Run a submission in a kernel of its own and judge its answers outside of it.

    Parameters
    ----------
    path : the notebook; it is read and not changed
    name : how to call the submission; without it, the file's name
    chapter : whose exercises count; without it, that of the exercises in the notebook
    points : what each exercise is worth; without it, one point for each of the chapter
    seed : of the class's variant of the checks; 0 is the book's
    limits : its time and memory

    Returns
    -------
    Grade
        Whatever the submission does, there is one.
    """
    begin, limits = time.monotonic(), limits or Limits()
    submission, found = Submission((), None), _Findings()
    try:
        submission = read(path)
    except (UnreadableError, OSError) as error:
        found.notes.append(str(error))
    of = chapter or submission.chapter
    if points is None:
        try:
            points = dict.fromkeys(exercises_of(of), 1.0) if of else {}
        except ValueError:
            points = {}
    if not points:
        found.notes.append("No exercise of the book was found in it, and none was asked for.")
    answers = {c.exercise: c for c in submission.cells if c.exercise in points}
    if answers:
        try:
            _run_and_judge(submission, points, found, seed, limits)
        # Whatever went wrong here, the next submission is another's.
        except Exception as error:
            found.notes.append(f"It could not be graded: {type(error).__name__}: {error}")
    marks = tuple(_mark(n, most, answers.get(n), found) for n, most in points.items())
    return Grade(name or path.name, marks, tuple(found.notes), time.monotonic() - begin)


def _mark(number: str, most: float, cell: Cell | None, found: _Findings) -> Mark:
    missing = f'there is no cell that calls exercises.check("{number}", …)'
    reason = found.verdicts.get(number) or ("it was not judged" if cell else missing)
    earned = most if reason == _CORRECT else 0.0
    return Mark(number, earned, most, reason, cell.original if cell else "")


def _run_and_judge(
    submission: Submission,
    points: Mapping[str, float],
    found: _Findings,
    seed: int,
    limits: Limits,
) -> None:
    """Fill in the verdicts on all exercises that the submission has."""
    from within_epsilon.data.files import cache_folder

    data = cache_folder()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        (folder / "answers").mkdir()
        with _judge(folder / "judge", data, seed) as judge:
            try:
                with Kernel(folder / "kernel", limits, data) as kernel:
                    _run(submission, points, found, kernel, folder / "answers")
            except EndedError as error:
                found.notes.append(str(error))
                for number in {cell.exercise for cell in submission.cells} & set(points):
                    if number and number not in found.answers:
                        found.verdicts.setdefault(number, "the notebook ended before it")
            _ask(judge, found, limits)


def _run(
    submission: Submission,
    points: Mapping[str, float],
    found: _Findings,
    kernel: Kernel,
    folder: Path,
) -> None:
    """Run the cells one after the other and take the answers out of the kernel."""
    for cell in submission.cells:
        number = cell.exercise if cell.exercise in points else None
        if number and cell.fault:
            found.verdicts[number] = cell.fault
            continue
        if number:
            kernel.mark(cell.expression)
        problem = kernel.run(cell.source).problem
        if not number:
            if problem:
                found.notes.append(f"Cell {cell.place} failed: {problem}")
            continue
        path = folder / f"{number}.pickle"
        reply = kernel.take(cell.expression, path)
        if reply.problem or not path.is_file():
            why = problem or reply.problem
            found.verdicts[number] = f"wrong, because its cell left no answer ({why})"
        else:
            found.answers[number] = path


@contextmanager
def _judge(folder: Path, data: Path, seed: int) -> Iterator[subprocess.Popen[str]]:
    """Start the process that judges; it imports the library while the kernel starts."""
    (folder / "work").mkdir(parents=True)
    with marked() as mark:
        more = {"WITHIN_EPSILON_SEED": str(seed)}
        more["OMP_NUM_THREADS"] = "1"  # copies of a process must not wait for each other's threads
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "within_epsilon.exercises.judge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            cwd=folder / "work",
            env=environment(folder / "home", mark, data, **more),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_group(process.pid)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with suppress(OSError):
                        pipe.close()
            process.wait()


def _ask(judge: subprocess.Popen[str], found: _Findings, limits: Limits) -> None:
    """Have the answers judged; what the judge does not get to is not judged."""
    if not found.answers:
        return
    request = {
        "chapter": next(iter(found.answers)).partition(".")[0],
        "answers": {number: str(path) for number, path in found.answers.items()},
        "seconds": limits.cell_seconds,
        "memory": limits.bytes,
    }
    # Longer than all checks may take; then something is wrong with the judge itself.
    patience = 120 + (limits.cell_seconds + 5) * len(found.answers)
    try:
        said, _ = judge.communicate(json.dumps(request), timeout=patience)
    except (subprocess.TimeoutExpired, OSError):
        said = ""
    for line in said.splitlines():
        with suppress(ValueError):
            number, verdict = json.loads(line)
            if number in found.answers:
                found.verdicts.setdefault(str(number), str(verdict))
