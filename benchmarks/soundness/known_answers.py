"""Ask `within-epsilon verify` questions whose answers are known, as a user would.

    PYTHONPATH=lib:benchmarks python benchmarks/soundness/known_answers.py [--minutes 7]

ACAS Xu (18 networks, 4 properties) and MNIST (2 hidden layers of 256, 10 pictures, 2 radii): each
question is a process of its own, with a time limit. Answers are kept after each question, so that
a run that ends after some minutes goes on where it was; `--again` forgets them.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tables import versions, write

RESULTS = Path(__file__).resolve().parent / "results"
FOLDERS = ("acasxu", "mnist_fc")


def questions(vnn: Path) -> list[dict[str, str]]:
    """Return every question with its known answer, as the benchmarks' own lists have them."""
    found = []
    for name in FOLDERS:
        with (vnn / name / "expected.csv").open(encoding="utf-8") as lines:
            found += [{"benchmark": name, **row} for row in csv.DictReader(lines)]
    return found


def ask(vnn: Path, question: dict[str, str], timeout: int) -> dict[str, Any]:
    """Return a question with the answer that the command gives, and what that took."""
    folder = vnn / question["benchmark"]
    words = ["verify", str(folder / f"{question['property']}.vnnlib"), "--timeout", str(timeout)]
    words += ["--network", f"N={folder / question['network']}"]
    begun, spent = time.perf_counter(), os.times()
    ran = subprocess.run(
        [sys.executable, "-m", "within_epsilon", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    now = os.times()
    answer = ran.stdout.partition("\n")[0] if ran.returncode == 0 else "error"
    if answer == "error":
        print(ran.stderr, file=sys.stderr)
    cpu = now.children_user + now.children_system - spent.children_user - spent.children_system
    seconds = {"wall": round(time.perf_counter() - begun, 2), "cpu": round(cpu, 2)}
    verdict = judge(question["result"], answer)
    return {**question, "answer": answer, "verdict": verdict, "limit": timeout, **seconds}


def judge(known: str, answer: str) -> str:
    """Say whether an answer is right or wrong, or none."""
    if answer in ("sat", "unsat"):
        return "right" if answer == known else "wrong"
    return "error" if answer == "error" else "open"


def main() -> None:
    """Ask what has not been asked yet, and print who is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vnn", type=Path, help="the folder with acasxu/ and mnist_fc/")
    parser.add_argument("--timeout", type=int, default=60, help="seconds for a question")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="when to stop")
    parser.add_argument("--again", action="store_true", help="forget earlier answers")
    given = parser.parse_args()
    if given.vnn is None:
        from within_epsilon.data.files import cache_folder

        given.vnn = cache_folder() / "vnn"
    until, path = time.monotonic() + 60 * given.minutes, RESULTS / "known_answers.json"
    rows: list[dict[str, Any]] = []
    if path.exists() and not given.again:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    asked = {(row["network"], row["property"]) for row in rows}
    for question in questions(given.vnn):
        if (question["network"], question["property"]) in asked or time.monotonic() > until:
            continue
        rows.append(ask(given.vnn, question, given.timeout))
        print(*rows[-1].values(), flush=True)
        write("known_answers", rows, versions(()), RESULTS)
    for name in FOLDERS:
        counted = Counter(row["verdict"] for row in rows if row["benchmark"] == name)
        print(name, dict(counted))
    sys.exit(any(row["verdict"] in ("wrong", "error") for row in rows))


if __name__ == "__main__":
    main()
