"""The lecturers' page says of the exercises what is so; student notebooks give nothing away."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from within_epsilon.data import available
from within_epsilon.grading import exercises_of

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))
PAGE = (ROOT / "chapters" / "lecturers.md").read_text(encoding="utf-8")
CHECKS = ROOT / "lib" / "within_epsilon" / "exercises"


def _rows(name):
    """Return the rows of a list-table of the page."""
    body = PAGE.split(f":name: {name}\n")[1].split("```")[0]
    return [re.split(r"\n  - ", row) for row in re.split(r"^\* - ", body, flags=re.M)[2:]]


def _cells(path, kind):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def _without_a_seed(chapter):
    """Return the exercises of a chapter whose checks nowhere ask for the class's seed."""
    functions = {}
    for file in (f"chapter{chapter}", "hills", "patterns", "watch"):
        for node in ast.parse((CHECKS / f"{file}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                functions[node.name] = node

    def varies(name, seen):
        if name in ("variant", "drawn", "jittered"):
            return True
        if name not in functions or name in seen:
            return False
        inside = {node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)}
        return any(varies(each, seen | {name}) for each in inside)

    asked = {
        decorator.args[0].value: name
        for name, node in functions.items()
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith("exercise(")
    }
    return [n for n in exercises_of(chapter) if not varies(asked[n], set())]


def test_the_table_of_chapters_has_their_times_exercises_and_what_a_seed_changes():
    rows = _rows("lecturers-chapters")
    assert len(rows) == len(CHAPTERS), "a chapter has no row in chapters/lecturers.md"
    for path, (title, minutes, exercises, fixed) in zip(CHAPTERS, rows, strict=True):
        number = str(int(path.name[:2]))
        text = _cells(path, "markdown")[0]
        heading = re.search(r"^# (\d+) (.*)$", text, re.M)
        assert title == f"[{number}]({path.name}) {heading[2]}"
        read, exercise = re.search(
            r"(\d+) minutes to read, (as long again|\d+) for the exer", text
        ).groups()
        assert minutes == f"{read} + {read if exercise == 'as long again' else exercise}"
        known = exercises_of(number)
        assert exercises == f"{known[0]} to {known[-1]}"
        assert fixed.strip() == (", ".join(_without_a_seed(number)) or "none"), number


def test_mistakes_are_called_what_the_checks_say():
    rows = _rows("lecturers-mistakes")
    assert len(rows) >= 15
    for name, _, says, exercise in rows:
        chapter = exercise.strip().partition(".")[0]
        files = [f"chapter{chapter}.py", *(["hills.py"] if chapter == "9" else [])]
        source = "".join((CHECKS / file).read_text(encoding="utf-8") for file in files)
        joined = re.sub(r'"\s+f?"', "", source)
        assert says.strip('"') in joined, name
        assert exercise.strip() in exercises_of(chapter)


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """Write all student notebooks, and some in the other forms."""
    out = tmp_path_factory.mktemp("dist")
    for form in ("student", "nbgrader", "otter"):
        command = [
            sys.executable,
            str(ROOT / ".ci" / "student.py"),
            "--for",
            form,
            "--out",
            str(out),
        ]
        subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_student_notebook_gives_nothing_away(students, chapter):
    path = students / "student" / chapter.name
    content = json.loads(path.read_text(encoding="utf-8"))
    assert all(not c["outputs"] for c in content["cells"] if c["cell_type"] == "code")
    prose, code = "\n".join(_cells(path, "markdown")), "\n".join(_cells(path, "code"))
    solutions = [s for s in _cells(chapter, "code") if s.startswith("# Solution")]
    number = str(int(chapter.name[:2]))
    assert len(solutions) == len(exercises_of(number))
    for solution in solutions:
        answer = solution.partition("\n")[2].partition("\n\n\nexercises.check(")[0]
        assert len(answer) > 40
        assert answer not in code
    assert "# Solution" not in code
    assert ":class: answer" not in prose
    for question in re.findall(r":class-container: quiz\n(.*?)^:::", prose, re.M | re.S):
        assert "- **" not in question
        assert question.strip().startswith("- ")
        assert not re.search(r"\n\n(?!- |  )", question.strip()), "an explanation is left"
    original = "\n".join(_cells(chapter, "markdown"))
    for kept in (":class: predict", ":class: exercise", "{dropdown} Hint", "class-container: quiz"):
        assert prose.count(kept) == original.count(kept)
    for exercise in exercises_of(number):
        assert code.count(f'exercises.check("{exercise}"') == 1
    assert "find_spec" in _cells(path, "code")[0], "not ready for Colab"


def test_nbgraders_and_otters_forms_test_every_exercise(students):
    for chapter in CHAPTERS[:2]:
        number = str(int(chapter.name[:2]))
        nbgrader = nbformat.read(
            students / "nbgrader" / "source" / chapter.stem / chapter.name, as_version=4
        )
        nbformat.validate(nbgrader)
        marks = [c.metadata.nbgrader for c in nbgrader.cells if "nbgrader" in c.metadata]
        names = [f"exercise-{name.replace('.', '-')}" for name in exercises_of(number)]
        assert [mark.grade_id for mark in marks] == names
        assert all(mark.locked and mark.grade and mark.points == 1 for mark in marks)
        tests = sorted((students / "otter" / chapter.stem / "tests").glob("q*.py"))
        assert len(tests) == len(names)
        for test in tests:
            ast.parse(test.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_student_notebook_runs_to_its_end_and_says_what_is_not_attempted(students, chapter):
    notebook = nbformat.read(students / "student" / chapter.name, as_version=4)
    for name in json.loads(chapter.read_text("utf-8"))["metadata"]["within_epsilon"].get(
        "needs", []
    ):
        if not available(name):
            pytest.skip(f"needs {name}")
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    for exercise in exercises_of(str(int(chapter.name[:2]))):
        assert f"Exercise {exercise}: not attempted yet" in printed
