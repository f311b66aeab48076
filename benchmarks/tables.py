"""Tables of results: in columns for the eye, as JSON for tests and pages."""

import json
import os
import platform
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
# Of what was found example by example, the beginning is enough for the eye.
_WIDEST = 32


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, torch, the library and what else took part."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("within-epsilon", *distributions):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def text(rows: list[Row]) -> str:
    """Lay rows out in columns."""
    columns = list(rows[0])
    table = [columns, *[[_cell(row[column]) for column in columns] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return _short("–".join(map(_cell, value)))
    return _short(str(value))


def _short(words: str) -> str:
    return words if len(words) <= _WIDEST else f"{words[:_WIDEST]}…"


def write(name: str, rows: list[Row], took_part: dict[str, str], folder: Path) -> None:
    """Write a table with what it depends on: versions of what took part, machine, date."""
    content = {
        "table": name,
        "versions": took_part,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "date": time.strftime("%Y-%m-%d"),
        "rows": [],
    }
    lines = json.dumps(content, indent=1)[: -len("[]\n}")]
    body = ",\n  ".join(json.dumps(row) for row in rows)  # one row a line: diffs can be read
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(f"{lines}[\n  {body}\n ]\n}}\n", encoding="utf-8")
