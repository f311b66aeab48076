#!/bin/sh
# nbgrader reads a test cell's outputs to tell what it is worth. A cell whose assertions hold gets no
# points if anything was written to standard error, such as a warning or a progress bar; and one that
# ends in a number, which means partial credit, gets all points if NumPy 2 shows it: np.float64(0.25).
set -eu
. "$(dirname "$0")/environment.sh"

python_with nbgrader==0.9.6 numpy==2.4.6 <<'PY'
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import nbformat

CELLS = {
    "passed": "assert 1 + 1 == 2",
    "passed_with_a_warning": 'import warnings\n\nwarnings.warn("mind")\nassert 1 + 1 == 2',
    "a_quarter": "0.25",
    "a_quarter_of_numpy": "import numpy as np\n\nnp.float64(0.25)",
}
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    notebook = nbformat.v4.new_notebook()
    for name, source in CELLS.items():
        cell = nbformat.v4.new_code_cell(source, id=name)
        cell.metadata["nbgrader"] = {
            **{"grade": True, "grade_id": name, "locked": True, "points": 1},
            **{"schema_version": 3, "solution": False, "task": False},
        }
        notebook.cells.append(cell)
    for place in ("source", "submitted/student"):
        (folder / place / "one").mkdir(parents=True)
        nbformat.write(notebook, folder / place / "one" / "one.ipynb")
    for verb in ("generate_assignment", "autograde"):
        command = [sys.executable, "-m", "nbgrader", verb, "one"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder}/gradebook.db") as gradebook:
        grades = gradebook.find_submission_notebook("one", "one", "student").grades
        points = {grade.name: grade.auto_score for grade in grades}
print(f"nbgrader {version('nbgrader')}, numpy {version('numpy')}, cells worth 1 point each: ", end="")
print(", ".join(f"{name} {points[name]:g}" for name in CELLS))
assert [points[name] for name in CELLS] == [1.0, 0.0, 0.25, 1.0]
PY
