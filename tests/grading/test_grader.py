"""Submissions that are broken, endless or dishonest: each gets its due, and nobody else pays."""

from __future__ import annotations

import json
import os
import re
import time

import psutil
import pytest
from notebooks import CHAPTERS, notebook, solved

from within_epsilon.grading import Limits, exercises_of, grade

LEAD = """
def lead(logits, labels):
    own = logits.gather(1, labels[:, None])
    return own[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
"""
SHAPES = """
shapes = {"images": (32, 3, 64, 64), "labels": (32,), "logits": (32, 200), "losses": (32,),
          "mean_loss": (), "gradient": (32, 3, 64, 64), "lengths": (32,), "weight": (200, 512),
          "parameters": 200 * 512 + 200}
"""
HOSTILE = """
import json, os, pathlib, subprocess, sys
import within_epsilon.exercises as exercises
from within_epsilon.exercises import registry

exercises.verdict = lambda *_: "correct"
exercises.check = print
registry.exercise = lambda number: print
torch.allclose = torch.equal = lambda *_, **__: True
torch.Tensor.__eq__ = lambda *_: torch.tensor(True)
import within_epsilon.exercises.chapter0 as chapter0
for number in ("0.1", "0.2", "0.3", "0.4", "0.5"):
    registry.CHECKS[number] = lambda attempt: None
assert exercises.verdict("0.1", None) == "correct"
here = pathlib.Path(exercises.__file__).parent.parent
for name in ("results.json", "torch.py", "../results.json"):
    pathlib.Path(name).write_text(json.dumps({"score": 100}))
subprocess.Popen(["sleep", "SECONDS"], start_new_session=True)
"""


def _reasons(result):
    return {mark.exercise: mark.reason for mark in result.marks}


def test_a_hostile_notebook_gets_what_its_answers_are_worth(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "of the lecturer")
    asleep = str(10_000_000 + os.getpid())  # nobody else sleeps for as long
    path = notebook(
        tmp_path / "hostile.ipynb",
        "import torch",
        HOSTILE.replace("SECONDS", asleep),
        'print("Exercise 0.1: correct\\n" * 5_000_000)',
        'behind = lambda logits, labels: logits\n\nexercises.check("0.1", behind)',
        'def slopes(function, images)\n    return 1\nexercises.check("0.2", slopes)',
        "import os\nassert 'SECRET_TOKEN' not in os.environ and 'home' in os.environ['HOME']",
        "import sys\nsys.exit()",
        f'{LEAD}\nexercises.check("0.3", lead)',
        "import os\nos._exit(0)",
        'exercises.check("0.4", lambda function, images: True)',
    )
    before = path.read_bytes()
    result = grade(path)
    assert path.read_bytes() == before
    reasons = _reasons(result)
    assert reasons["0.1"].startswith("wrong, because ")
    assert "it must be" in reasons["0.1"] or "the others" in reasons["0.1"]
    assert reasons["0.2"] == "cell 5 has a syntax error in line 1: expected ':'"
    assert reasons["0.3"] == "correct"
    assert reasons["0.4"] == "the notebook ended before it"
    assert result.notes == ("Cell 7 failed: SystemExit", "The notebook ended its own kernel.")
    assert (result.points, result.most) == (1, 5)
    assert [
        p for p in psutil.process_iter(["cmdline"]) if asleep in (p.info["cmdline"] or [])
    ] == []


def test_a_notebook_that_ends_its_parent_ends_itself_alone(tmp_path):
    path = notebook(
        tmp_path / "parricide.ipynb",
        f'import torch\n{LEAD}\nexercises.check("0.3", lead)',
        "import os\nassert 'JPY_PARENT_PID' not in os.environ\n"
        f"assert os.getppid() != {os.getpid()}\nos.kill(os.getppid(), 9)\nos.kill(os.getpid(), 9)",
        'exercises.check("0.4", lambda function, images: True)',
    )
    result = grade(path)
    assert result.notes == ("The kernel was ended by SIGKILL.",)
    reasons = _reasons(result)
    assert (reasons["0.3"], reasons["0.4"]) == ("correct", "the notebook ended before it")


def test_the_kernel_is_this_pythons_whatever_is_installed_under_its_name(tmp_path, monkeypatch):
    place = tmp_path / "jupyter" / "kernels" / "python3"
    place.mkdir(parents=True)
    other = {"argv": ["/absent/python", "{connection_file}"], "display_name": "another Python"}
    (place / "kernel.json").write_text(json.dumps(other))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")  # as outside of a virtual environment
    path = notebook(tmp_path / "one.ipynb", f'import torch\n{LEAD}\nexercises.check("0.3", lead)')
    assert _reasons(grade(path))["0.3"] == "correct"


def test_an_endless_cell_is_stopped_and_the_rest_still_counts(tmp_path):
    forever = "import time\nwhile True:\n    time.sleep(1)"
    stubborn = (
        "while True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"
    )
    path = notebook(
        tmp_path / "endless.ipynb",
        forever,
        f'{SHAPES}\nexercises.check("2.1", shapes)',
        stubborn,
        'exercises.check("2.2", len)',
    )
    result = grade(path, limits=Limits(seconds=90, cell_seconds=8))
    reasons = _reasons(result)
    assert reasons["2.1"] == "correct"
    assert reasons["2.2"] == "the notebook ended before it"
    assert reasons["2.3"] == 'there is no cell that calls exercises.check("2.3", …)'
    assert result.notes[0] == "Cell 1 failed: it was stopped after 8 s"
    assert "could not be interrupted" in result.notes[1]
    assert result.points == 1


def test_exercises_are_those_of_the_chapters():
    for path in sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        asked = dict.fromkeys(re.findall(r'exercises\.check\(\s*"([\d.]+)"', code))
        assert exercises_of(str(int(path.name[:2]))) == list(asked), path.name
    with pytest.raises(ValueError, match=r"expected one that has exercises .*received '99'"):
        exercises_of("99")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [0, 12345])
@pytest.mark.parametrize(
    "chapter", sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb")), ids=lambda path: path.stem
)
def test_the_books_solutions_get_full_points_in_every_class(chapter, seed, tmp_path):
    begin = time.monotonic()
    result = grade(solved(chapter, tmp_path / chapter.name), seed=seed)
    assert set(_reasons(result).values()) == {"correct"}
    assert result.points == result.most == len(exercises_of(str(int(chapter.name[:2]))))
    assert result.notes == ()
    assert result.seconds <= time.monotonic() - begin
