"""`within-epsilon grade`: a class's notebooks in, points for Gradescope, CSV and a page out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from within_epsilon.commands import main

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "grading"))
from notebooks import CHAPTERS, notebook, solved  # noqa: E402

# Gradescope's "Autograder Specifications", Output Format: all fields that it documents.
VISIBLE = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
FORMAT = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
TEST = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "status": {"enum": ["passed", "failed"]},
        "name": {"type": "string"},
        "name_format": FORMAT,
        "number": {"type": "string"},
        "output": {"type": "string"},
        "output_format": FORMAT,
        "tags": {"type": "array", "items": {"type": "string"}},
        "visibility": VISIBLE,
        "extra_data": {"type": "object"},
    },
}
GRADESCOPE = {
    "type": "object",
    "additionalProperties": False,
    "anyOf": [{"required": ["score"]}, {"required": ["tests"]}],
    "properties": {
        "score": {"type": "number"},
        "execution_time": {"type": "number"},
        "output": {"type": "string"},
        "output_format": FORMAT,
        "test_output_format": FORMAT,
        "test_name_format": FORMAT,
        "visibility": VISIBLE,
        "stdout_visibility": VISIBLE,
        "extra_data": {"type": "object"},
        "tests": {"type": "array", "items": TEST},
        "leaderboard": {"type": "array"},
    },
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Grade the ideal student, one who answers little, and a file that is no notebook."""
    folder = tmp_path_factory.mktemp("class")
    ideal = solved(CHAPTERS / "00_tensors_and_gradients.ipynb", folder / "ideal.ipynb")
    little = notebook(
        folder / "=little.ipynb",
        "def lead(logits, labels):\n    return 0",
        # The cell stops before its answer: what had the name before is not taken for it.
        '1 / 0\ndef lead(a, b):\n    return 1\nexercises.check("0.3", lead)',
        'exercises.check("0.1", lambda logits, labels: "<script>alert(1)</script>")',
        'exercises.check("0.4", __import__("threading").Lock())',
    )
    broken = folder / "broken.ipynb"
    broken.write_text('{"cells": [{"cell_type": "code", "source": 1}, 7', encoding="utf-8")
    out = folder / "out"
    arguments = ["grade", *map(str, (ideal, little, broken)), "--out", str(out), "--seed", "7"]
    done = CliRunner().invoke(main, [*arguments, "--chapter", "0"])
    assert done.exit_code == 0, done.output
    return out, done.output


def test_each_notebook_gets_its_points_and_no_other_suffers(graded):
    out, printed = graded
    assert printed.splitlines() == ["ideal: 5 of 5", "=little: 0 of 5", "broken: 0 of 5"]
    rows = list(csv.DictReader((out / "grades.csv").open(encoding="utf-8-sig", newline="")))
    assert [row["points"] for row in rows] == ["5", "0", "0"]
    assert [row["0.3"] for row in rows] == ["1", "0", "0"]
    assert rows[1]["submission"] == "'=little"  # no formula
    assert "no Jupyter notebook" in rows[2]["notes"]


def test_gradescopes_results_have_its_documented_fields_and_the_checks_explanations(graded):
    out, _ = graded
    results = {
        name: json.loads((out / name / "results.json").read_text(encoding="utf-8"))
        for name in ("ideal", "=little", "broken")
    }
    for result in results.values():
        jsonschema.validate(result, GRADESCOPE)
        assert result["score"] == sum(test["score"] for test in result["tests"])
        assert sum(test["max_score"] for test in result["tests"]) == 5
    said = {test["number"]: test["output"] for test in results["=little"]["tests"]}
    assert said["0.1"].startswith("wrong, because it must return a tensor of shape (3, 5)")
    assert said["0.2"] == 'there is no cell that calls exercises.check("0.2", …)'
    assert said["0.3"].endswith("left no answer (ZeroDivisionError: division by zero)")
    assert "left no answer (TypeError: cannot pickle" in said["0.4"]
    assert {test["status"] for test in results["ideal"]["tests"]} == {"passed"}


def test_the_page_shows_reasons_and_answers_and_runs_nothing_of_them(graded):
    page = (graded[0] / "index.html").read_text(encoding="utf-8")
    assert "0 of 5 points" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--chapter", "99"], "expected one that has exercises"),
        (["--exercise", "0.9"], "expected one of 0.1, 0.2, 0.3, 0.4, 0.5, received '0.9'"),
        (["--exercise", "0.1=-2"], "expected points from 0 on, received '-2'"),
        (["--exercise", "0.1=many"], "expected points from 0 on, received 'many'"),
        (["--seed", "-1"], "x>=0"),
    ],
)
def test_a_wrong_option_gets_a_sentence(tmp_path, arguments, sentence):
    path = notebook(tmp_path / "some.ipynb", "1")
    done = CliRunner().invoke(main, ["grade", str(path), "--out", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.split())


def test_a_missing_package_is_named_with_its_remedy(tmp_path, monkeypatch):
    path = notebook(tmp_path / "some.ipynb", "1")
    monkeypatch.setattr("within_epsilon.commands.grade._NEEDED", ("json", "no_such_package"))
    done = CliRunner().invoke(main, ["grade", str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert 'grading needs no_such_package: pip install "within-epsilon[grade]"' in done.output
    assert not (tmp_path / "out").exists()


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom click.testing import CliRunner\n"
        "from within_epsilon.commands import main\n"
        "assert CliRunner().invoke(main, ['grade', '--help']).exit_code == 0\n"
        "print({'torch', 'nbformat', 'jupyter_client', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
