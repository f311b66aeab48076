#!/bin/sh
# robustbench 1.1.1 from PyPI cannot be imported as it is installed: its evaluation imports a module
# `autoattack`, while the package that it requires, pyautoattack, brings one of another name. The
# template of its leaderboard, without which generate_leaderboard() raises, is not in the wheel.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import re
from importlib.metadata import files, requires, version
from importlib.util import find_spec
from pathlib import Path

folder = Path(find_spec("robustbench").origin).parent
asks = re.findall(r"^from (autoattack)\b", (folder / "eval.py").read_text(), re.M)
wants = [name for name in requires("robustbench") if "autoattack" in name]
brings = sorted({str(file).split("/")[0] for file in files("pyautoattack") if ".dist-" not in str(file)})
names = re.findall(r"get_template\('(.+)'\)", (folder / "leaderboard" / "template.py").read_text())
there = [(folder / "leaderboard" / name).exists() for name in names]
print(f"robustbench {version('robustbench')}: imports {asks[0]}, requires {wants}, which brings "
      f"{brings}; its template {names[0]} is in the wheel: {there[0]}")
assert asks and find_spec("autoattack") is None and there == [False]
PY
python_with --no-deps robustbench==1.1.1 pyautoattack==0.2.0 < "$program"
