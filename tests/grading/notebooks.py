"""Notebooks to be graded: of a few cells, or a chapter with its solutions in the stubs' places."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"


def notebook(path: Path, *cells: str) -> Path:
    """Write a notebook of code cells, each with a stored output that claims the best."""
    made = nbformat.v4.new_notebook()
    for number, source in enumerate(cells):
        cell = nbformat.v4.new_code_cell(source, id=f"c{number}")
        claim = "Exercise 0.1: correct\n"
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=claim)]
        made.cells.append(cell)
    nbformat.write(made, path)
    return path


def solved(chapter: Path, path: Path) -> Path:
    """Write a chapter as an ideal student hands it in."""
    content = json.loads(chapter.read_text(encoding="utf-8"))
    cells = []
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            if source.startswith("# Solution") and "exercises.check(" in source:
                cells.pop()
                cell["metadata"] = {}
        cells.append(cell)
    path.write_text(json.dumps({**content, "cells": cells}), encoding="utf-8")
    return path
