#!/bin/sh
# VNN-LIB 2.0, section 5.3, wants `--timeout` in "an integer number of seconds". vnnlib-satisfactory
# 1.0.1, which tests solvers against the standard, sends 5.0. A solver that takes integers alone
# refuses, with exit code 2 and nothing on standard output; the suite calls that "suspect: ran
# without crashing", and adds that the solver "incorrectly claimed it is satisfiable".
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# A solver that reads --timeout as it is asked to, and says `unsat` to everything.
SOLVER = f"""#!{sys.executable}
import argparse
parser = argparse.ArgumentParser()
verify = parser.add_subparsers(required=True).add_parser("verify")
verify.add_argument("query")
verify.add_argument("--network")
verify.add_argument("--timeout", type={{kind}})
parser.parse_args()
print("unsat")
"""

def run(kind):
    with tempfile.TemporaryDirectory() as folder:
        solver = Path(folder, "solver")
        solver.write_text(SOLVER.format(kind=kind))
        solver.chmod(0o755)
        suite = [Path(sys.executable).parent / "vnnlib-satisfactory", "run", "--test", "add"]
        subprocess.run([*suite, "--solver", str(solver)], cwd=folder, capture_output=True)
        report = json.loads(Path(folder, ".vnnlib-satisfactory", "report.json").read_text())
    (one,) = [result for result in report["results"] if result["expected"] == "unsat"]
    return one["outcome"], one["returncode"], one["stdout"].strip(), one["detail"]

whole, fraction = run("int"), run("float")
print(f"vnnlib-satisfactory {version('vnnlib-satisfactory')}: integers alone: {whole[:3]}, "
      f"fractions too: {fraction[:3]}")
assert whole[:3] == ("suspect", 2, "")
assert "without crashing" in whole[3] and "incorrectly claimed it is satisfiable" in whole[3]
assert fraction[:3] == ("pass", 0, "unsat")
PY
python_with vnnlib-satisfactory==1.0.1 < "$program"
