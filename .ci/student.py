"""Write notebooks for a class: the chapters without solutions, answers and outputs.

    python .ci/student.py                      # dist/student/*.ipynb
    python .ci/student.py --for nbgrader       # dist/nbgrader/source/CHAPTER/*.ipynb
    python .ci/student.py --for otter          # dist/otter/CHAPTER/, each with its tests
    python .ci/student.py chapters/05_*.ipynb  # some chapters

Stubs, checks and hints stay. Gone are the solutions and what the book says about them, the answer
boxes of predictions, and in the quiz the mark of the right choice and what follows the choices.
"""

import argparse
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
CALL = re.compile(r'exercises\.check\("(\d+\.\d+)", (\w+)\)')
NEXT = re.compile(r"^(:{3,}\{admonition\} Exercise |## )", re.MULTILINE)
ANSWER = re.compile(r"^(:{3,})\{admonition\} Answer\n:class: answer\n.*?^\1[ \t]*$\n?", re.M | re.S)
QUIZ = re.compile(
    r"^(:{3,})(\{dropdown\}[^\n]*\n:class-container: quiz\n)(.*?)^\1[ \t]*$", re.M | re.S
)

Tested = Callable[[str, str], list[NotebookNode]]


def student(notebook: NotebookNode, tested: Tested | None = None) -> NotebookNode:
    """Return a chapter without what its readers are to find out.

    Parameters
    ----------
    notebook : a chapter
    tested : returns the cells that follow a stub, from the exercise's number and the answer's name
    """
    copy: NotebookNode = nbformat.from_dict({**notebook, "cells": []})
    told = False  # inside what follows a solution and belongs to it
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("# Solution"):
            told = True
            continue
        kept = nbformat.from_dict(dict(cell))
        if cell.cell_type == "markdown":
            start = NEXT.search(cell.source) if told else re.match("", cell.source)
            if start is None:
                continue
            told = False
            kept.source = unmarked(cell.source[start.start() :])
            if not kept.source:
                continue
        elif told:
            continue
        else:
            kept.outputs, kept.execution_count = [], None
        copy.cells.append(kept)
        stub = CALL.search(cell.source) if cell.cell_type == "code" else None
        if stub and tested:
            copy.cells += tested(*stub.groups())
    return copy


def unmarked(text: str) -> str:
    """Take the answers out of predictions and quiz questions."""
    text = ANSWER.sub("", text)
    return QUIZ.sub(lambda m: f"{m[1]}{m[2]}\n{choices(m[3])}\n{m[1]}", text).strip()


def choices(body: str) -> str:
    """Return the choices of a quiz question, the right one no longer in bold."""
    listed = re.search(r"^- .*?(?=\n\n(?!- |  )|\Z)", body.strip("\n"), re.MULTILINE | re.DOTALL)
    if listed is None:
        raise SystemExit(f"a question of the quiz has no list of choices:\n{body}")
    return re.sub(r"^- \*\*(.*?)\*\*$", r"- \1", listed[0].strip(), flags=re.MULTILINE | re.DOTALL)


def nbgrader_cells(number: str, name: str) -> list[NotebookNode]:
    """Return nbgrader's test of an exercise: locked, and worth a point."""
    cell = nbformat.v4.new_code_cell(
        "import contextlib\nimport io\n\nfrom within_epsilon.exercises import verdict\n\n"
        "with contextlib.redirect_stderr(io.StringIO()):  # a warning would cost all points\n"
        f'    said = verdict("{number}", {name})\nassert said == "correct", said',
        id=f"test-{number.replace('.', '-')}",
    )
    cell.metadata["nbgrader"] = {
        "grade": True,
        "grade_id": f"exercise-{number.replace('.', '-')}",
        "locked": True,
        "points": 1,
        "schema_version": 3,
        "solution": False,
        "task": False,
    }
    return [cell]


def otter_cells(number: str, name: str) -> list[NotebookNode]:  # noqa: ARG001 - as nbgrader's
    """Return otter's check of an exercise, which has it judged at this point of the notebook."""
    label = f"q{number.replace('.', '_')}"
    return [nbformat.v4.new_code_cell(f'grader.check("{label}")', id=f"check-{label}")]


def otter_test(number: str, name: str) -> tuple[str, str]:
    """Return the name and the text of an otter test file for an exercise."""
    label = f"q{number.replace('.', '_')}"
    lines = [
        "from otter.test_files import test_case",
        "",
        "OK_FORMAT = False",
        f'name = "{label}"',
        "points = 1",
        "",
        "",
        "@test_case()",
        f"def test_answer({name}):",
        "    from within_epsilon.exercises import verdict",
        "",
        f'    said = verdict("{number}", {name})',
        '    assert said == "correct", said',
    ]
    return f"{label}.py", "\n".join(lines) + "\n"


def exercises(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Yield the number of each exercise and the name of its answer."""
    for cell in notebook.cells:
        stub = CALL.search(cell.source) if cell.cell_type == "code" else None
        if stub and not cell.source.startswith("# Solution"):
            yield stub[1], stub[2]


def write(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook, and the folders to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def write_otter(folder: Path, name: str, chapter: NotebookNode) -> None:
    """Write a chapter and its tests as otter wants them."""
    copy = student(chapter, otter_cells)
    first = 'import otter\n\ngrader = otter.Notebook(tests_dir="./tests")'
    copy.cells.insert(1, nbformat.v4.new_code_cell(first, id="otter"))
    write(folder / name, copy)
    (folder / "tests").mkdir(exist_ok=True)
    for file, text in (otter_test(*each) for each in exercises(chapter)):
        (folder / "tests" / file).write_text(text, encoding="utf-8")


def main() -> None:
    """Write the chapters named on the command line, or all of them, in one form."""
    parser = argparse.ArgumentParser(description="Write notebooks for a class.")
    parser.add_argument("chapters", nargs="*", type=Path)
    parser.add_argument("--for", dest="form", default="student",
                        choices=["student", "nbgrader", "otter"])  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="without it, dist/")
    given = parser.parse_args()
    out = given.out / given.form
    shutil.rmtree(out, ignore_errors=True)
    paths = given.chapters or sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb"))
    for path in paths:
        chapter = nbformat.read(path, as_version=4)
        if given.form == "otter":
            write_otter(out / path.stem, path.name, chapter)
        elif given.form == "nbgrader":
            write(out / "source" / path.stem / path.name, student(chapter, nbgrader_cells))
        else:
            write(out / path.name, student(chapter))
    print(f"{len(paths)} notebooks in {out}")


if __name__ == "__main__":
    main()
