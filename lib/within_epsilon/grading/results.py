"""Points and reasons, for Gradescope, for a spreadsheet and for people."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Mark:
    """What one exercise earned.

    Parameters
    ----------
    exercise : its number, "5.1" for example
    points, most : earned, and to be had
    reason : "correct", or a sentence or two that say why not
    source : the cell that was judged; empty if there is none
    """

    exercise: str
    points: float
    most: float
    reason: str
    source: str = ""


@dataclass(frozen=True)
class Grade:
    """What one submission earned.

    Parameters
    ----------
    name : the submission's
    marks : one an exercise
    notes : sentences about the notebook as a whole
    seconds : how long it took
    """

    name: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def points(self) -> float:
        """Return the sum of the points."""
        return round(sum(mark.points for mark in self.marks), 6)

    @property
    def most(self) -> float:
        """Return the points that were to be had."""
        return round(sum(mark.most for mark in self.marks), 6)


def readable(text: str) -> str:
    """Return a stranger's text without control characters; lines stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def to_gradescope(grade: Grade) -> str:
    """Write `results.json` as Gradescope's autograder specification has it."""
    tests: list[dict[str, Any]] = [
        {
            "name": f"Exercise {mark.exercise}",
            "number": mark.exercise,
            "score": mark.points,
            "max_score": mark.most,
            "status": "passed" if mark.points == mark.most else "failed",
            "output": readable(mark.reason),
            "output_format": "text",
            "visibility": "visible",
        }
        for mark in grade.marks
    ]
    whole = {
        "score": grade.points,
        "execution_time": round(grade.seconds),
        "output": readable("\n".join(grade.notes)),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def to_csv(grades: Sequence[Grade]) -> str:
    """Write one line a submission: its name, its points in each exercise, their sum, notes."""
    names = _exercises(grades)
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["submission", *names, "points", "of", "notes"])
    for grade in grades:
        points = {mark.exercise: f"{mark.points:g}" for mark in grade.marks}
        earned = [points.get(name, "") for name in names]
        note = " ".join(map(readable, grade.notes))
        row = [_plain(grade.name), *earned, f"{grade.points:g}", f"{grade.most:g}", _plain(note)]
        table.writerow(row)
    return lines.getvalue()


def _plain(text: str) -> str:
    """Keep a spreadsheet from taking a stranger's text for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text else text


def _exercises(grades: Sequence[Grade]) -> list[str]:
    names = {mark.exercise for grade in grades for mark in grade.marks}
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border-bottom: 1px solid #8886; padding: .3rem .7rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8886; }
.reason { white-space: pre-wrap; }
"""


def to_html(grades: Sequence[Grade]) -> str:
    """Write one page: a table of all points, then what was said of each answer, and the answer.

    All that a student may have written is escaped, and nothing on the page runs.
    """
    names = _exercises(grades)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows, parts = [], []
    for place, grade in enumerate(grades):
        points = {mark.exercise: f"{mark.points:g}" for mark in grade.marks}
        cells = "".join(f"<td>{points.get(name, '')}</td>" for name in names)
        link = f'<a href="#s{place}">{_text(grade.name)}</a>'
        rows.append(f"<tr><td>{link}</td>{cells}<td>{_sum(grade)}</td></tr>")
        parts.append(f'<h2 id="s{place}">{_text(grade.name)}: {_sum(grade)} points</h2>')
        parts += [f"<p>{_text(note)}</p>" for note in grade.notes]
        parts += [_mark(mark) for mark in grade.marks]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Grades</title>'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>Grades</h1>\n"
        f"<table><thead><tr><th>submission</th>{head}<th>points</th></tr></thead>\n<tbody>"
        + "\n".join(rows)
        + "</tbody></table>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _sum(grade: Grade) -> str:
    return f"{grade.points:g} of {grade.most:g}"


def _text(text: str) -> str:
    return escape(readable(text))


def _mark(mark: Mark) -> str:
    """Write one exercise: points, reason, and the answer folded."""
    answer = (
        f"<details><summary>the answer</summary><pre>{_text(mark.source)}</pre></details>"
        if mark.source
        else ""
    )
    title = f"Exercise {escape(mark.exercise)}: {mark.points:g} of {mark.most:g}"
    return f'<h3>{title}</h3>\n<p class="reason">{_text(mark.reason)}</p>\n{answer}'
