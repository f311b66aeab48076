"""What a student handed in: the code of its cells, and which of them answers which exercise."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

LARGEST = 200_000_000  # bytes; a chapter with all its outputs has under two million
_CALL = re.compile(r"""(?<![\w.])(?:exercises\.)?check\(\s*["'](\d+\.\d+)["']""")
_MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)


class UnreadableError(Exception):
    """A submission is no notebook; the message is a sentence for its author."""


@dataclass(frozen=True)
class Cell:
    """One code cell.

    Parameters
    ----------
    place : its position among all cells, from 1
    source : the code to run; the book's own call of the check is taken out of it
    exercise : the exercise that it answers, "5.1" for example, or None
    expression : what was handed to the check, mostly the name of a function
    fault : why it cannot be run, a sentence; empty if it can
    original : the cell as it was handed in
    """

    place: int
    source: str
    exercise: str | None = None
    expression: str = ""
    fault: str = ""
    original: str = ""


@dataclass(frozen=True)
class Submission:
    """The code cells of a notebook, in order, and the chapter that it belongs to."""

    cells: tuple[Cell, ...]
    chapter: str | None


def read(path: Path) -> Submission:
    """Read the code of a notebook and nothing else: outputs and metadata are not looked at.

    The last cell that calls the check of an exercise answers it. The book's own solutions, which
    begin with ``# Solution`` and carry the tag ``hide-cell``, answer none.

    Raises
    ------
    UnreadableError
        If the file is no notebook, with a sentence that says why.
    """
    cells, headings = [], []
    for place, cell in enumerate(_cells(path), start=1):
        text = cell.get("source", "")
        text = "".join(map(str, text)) if isinstance(text, list) else str(text)
        if cell.get("cell_type") == "markdown":
            headings += re.findall(r"^# (\d+) ", text, re.MULTILINE)
        elif cell.get("cell_type") == "code" and text.strip():
            parsed = _parse(place, text)
            cells.append(replace(parsed, exercise=None) if _is_solution(cell, text) else parsed)
    last = {cell.exercise: cell.place for cell in cells}
    counted = tuple(
        cell if cell.place == last[cell.exercise] else replace(cell, exercise=None)
        for cell in cells
    )
    chapters = Counter(name.partition(".")[0] for name in last if name)
    chapter = chapters.most_common(1)[0][0] if chapters else (headings or [None])[0]
    return Submission(counted, chapter)


def _cells(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook file of any version."""
    import nbformat

    if path.stat().st_size > LARGEST:
        raise UnreadableError(f"The file is larger than {LARGEST // 1_000_000} MB.")
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
        cells = list(notebook.cells)
    # A file that is no notebook fails in as many ways as there are files.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UnreadableError(f"The file is no Jupyter notebook: {reason[0][:200]}") from error
    if not all(isinstance(cell, dict) for cell in cells):
        raise UnreadableError("The file is no Jupyter notebook: a cell is no mapping.")
    return cells


def _is_solution(cell: dict[str, Any], text: str) -> bool:
    metadata = cell.get("metadata")
    tags = metadata.get("tags", []) if isinstance(metadata, dict) else []
    return text.lstrip().startswith("# Solution") and "hide-cell" in tags


def _parse(place: int, text: str) -> Cell:
    """Find the call of a check in a cell's code, and take it out."""
    try:
        # Magics are no Python; they keep their lines, so that all other places stay right.
        tree = ast.parse(_MAGIC.sub(r"\1pass", text))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _unparsable(place, text, error)
    # The calls that stand by themselves go: the grader checks, and not the notebook.
    source = text
    alone = [node.value for node in tree.body if isinstance(node, ast.Expr)]
    for node in reversed(alone):
        if _number(node):
            source = _without(source, node)
    calls = [node for node in ast.walk(tree) if _number(node)]
    if not calls:
        return Cell(place, source, original=text)
    call = calls[-1]
    assert isinstance(call, ast.Call)
    expression = ast.unparse(call.args[1])
    return Cell(place, source, _number(call), expression, original=text)


def _unparsable(place: int, text: str, error: Exception) -> Cell:
    numbers = _CALL.findall(text)
    number = numbers[-1] if numbers else None
    line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    fault = f"cell {place} has a syntax error{line}: {reason}"
    # A cell of IPython's own syntax may still run; an answer has to be Python.
    return Cell(place, text, number, fault=fault if number else "", original=text)


def _number(node: ast.AST) -> str | None:
    """Return the exercise that a call checks, or None if it is no such call."""
    if not isinstance(node, ast.Call) or len(node.args) < 2:
        return None
    name = getattr(node.func, "attr", getattr(node.func, "id", None))
    number = getattr(node.args[0], "value", None)
    if name != "check" or not isinstance(number, str | float):
        return None
    return str(number) if re.fullmatch(r"\d+\.\d+", str(number)) else None


def _without(text: str, node: ast.expr) -> str:
    """Put ``pass`` in the place of an expression; lines keep their numbers."""
    lines = text.encode().split(b"\n")  # columns count bytes
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    rest = lines[last][node.end_col_offset :]
    lines[first] = lines[first][: node.col_offset] + b"pass" + (rest if first == last else b"")
    for place in range(first + 1, last + 1):
        lines[place] = rest if place == last else b""
    return b"\n".join(lines).decode()
