"""Compare the time of answers about ACAS Xu with that of other verifiers in Python.

    PYTHONPATH=lib:benchmarks python benchmarks/verification/verifiers.py [--minutes 7] \
        [--nnenum PYTHON CHECKOUT] [--vibecheck PYTHON] [--abcrown PYTHON CHECKOUT]

PYTHON has the other verifier or all that it needs, CHECKOUT is a copy of its repository; nothing
of them is kept here (README.md says how each is installed). Every question goes to a process of
each verifier in turn, with one thread, which answers it twice: the first time counts with the
process's start, the second alone. Answers are kept after each question, so that a run that ends
after some minutes goes on where it was; `--again` forgets them.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from tables import Row, text, versions, write

from within_epsilon.data.files import cache_folder

RESULTS = Path(__file__).resolve().parent / "results"
LIBRARY = Path(__file__).resolve().parents[2] / "lib"
NETWORKS = ("1_1", "1_5", "1_8", "2_2", "2_5", "1_3", "1_7", "2_8")
OURS = "within-epsilon"
# An answer that took as many seconds is not asked for again.
LONG = 30
DISTRIBUTIONS = {
    "nnenum": ("nnenum", "onnx", "onnxruntime", "swiglpk"),
    "vibecheck": ("vibecheck-nn", "onnx", "onnxruntime", "torch"),
    "abcrown": ("onnx", "torch"),
}

# What runs in each verifier's process: what it imports, and how it answers.
PROGRAMS = {
    OURS: """
from within_epsilon.commands.verify import verify
from within_epsilon.verification import answer, read_onnx, read_vnnlib

def ask():
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        words = [question, "--network", f"N={network}", "--timeout", str(limit)]
        verify(words, standalone_mode=False)
    return said.getvalue().partition("\\n")[0]
""",
    "nnenum": """
from nnenum.nnenum import main

def ask():
    out = Path(question).with_name("answer")
    sys.argv = ["nnenum", network, question, str(limit), str(out), "1"]
    with contextlib.redirect_stdout(io.StringIO()):
        main()
    said = out.read_text()
    return {"holds": "unsat", "violated": "sat", "timeout": "timed-out"}.get(said, said)
""",
    "vibecheck": """
from vibecheck.pipeline import main

def ask():
    said = io.StringIO()
    sys.argv = ["vibecheck", "verify", question, "--network", f"N={network}"]
    sys.argv += ["--timeout", str(limit)]
    with contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit:
            pass
    return said.getvalue().partition("\\n")[0]
""",
    # Its reader of ONNX files is on no registry; its documents recommend networks of torch. Its
    # questions are read on its own device, which is a GPU until the settings say otherwise.
    "abcrown": """
checkout = Path(checkout)
sys.path[:0] = [str(checkout / "complete_verifier"), str(checkout), str(checkout / "auto_LiRPA")]
import arguments, onnx, torch
from api import ABCrownSolver, ConfigBuilder, VerificationSpec
from onnx import numpy_helper
from torch import nn
arguments.Config["general"]["device"] = "cpu"
SETTINGS = checkout / "complete_verifier" / "exp_configs" / "vnncomp21" / "acasxu.yaml"

def ask():
    arrays = [numpy_helper.to_array(one) for one in onnx.load(network).graph.initializer][1:]
    layers = []
    for weight, bias in zip(arrays[::2], arrays[1::2]):
        layers += [nn.Linear(*weight.shape), nn.ReLU()]
        layers[-2].weight.data = torch.tensor(weight.T.copy())
        layers[-2].bias.data = torch.tensor(bias)
    with contextlib.redirect_stdout(io.StringIO()):
        settings = ConfigBuilder.from_defaults().from_yaml(SETTINGS)
        settings = settings.set(general__device="cpu", bab__timeout=limit)
        asked = VerificationSpec.build_spec(vnnlib_path=question)
        model = nn.Sequential(nn.Flatten(), *layers[:-1])
        said = ABCrownSolver(asked, model, config=settings).solve().status
    return "sat" if "unsafe" in said else "unsat" if "safe" in said else said
""",
}
FRAME = """
import contextlib, io, json, os, sys, time
from pathlib import Path
network, question, limit, longest, checkout = sys.argv[1:]
limit, longest, seconds = int(limit), float(longest), []
def now():
    return time.perf_counter(), sum(os.times()[:4])
{program}
while len(seconds) < 2 and not (seconds and seconds[0][0] > longest):
    begin = now()
    said = ask()
    seconds.append([after - before for after, before in zip(now(), begin)])
print("ANSWER", json.dumps([said, seconds]), file=sys.stderr)
"""


def ask(
    name: str, peer: list[str], network: Path, question: Path, limit: int
) -> dict[str, str | float]:
    """Return one verifier's answer: with the start, and alone, wall and processor seconds."""
    python, checkout = [*peer, ""][:2]
    with tempfile.TemporaryDirectory() as folder:
        # abcrown writes beside the question what it has read.
        copy = Path(folder, question.name)
        copy.write_bytes(question.read_bytes())
        given = [str(network), str(copy), str(limit), str(LONG), checkout]
        begun, spent = time.perf_counter(), os.times()
        ran = subprocess.run(
            [python, "-c", FRAME.format(program=PROGRAMS[name]), *given],
            capture_output=True, text=True, cwd=folder, env=_environment(name),
        )  # fmt: skip
        now = os.times()
    wall = time.perf_counter() - begun
    cpu = now.children_user + now.children_system - spent.children_user - spent.children_system
    lines = [line[7:] for line in ran.stderr.splitlines() if line.startswith("ANSWER ")]
    if ran.returncode or not lines:
        raise RuntimeError(f"{name}: {ran.stderr[-2000:]}")
    said, seconds = json.loads(lines[-1])
    # A question that is asked once is not asked alone: the start is small beside it.
    alone, again = seconds[-1], seconds[1] if len(seconds) > 1 else (0.0, 0.0)
    times = wall - again[0], cpu - again[1], *alone
    keys = "wall", "cpu", "alone_wall", "alone_cpu"
    return {"answer": said, **{key: round(one, 3) for key, one in zip(keys, times, strict=True)}}


def _environment(name: str) -> dict[str, str]:
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    others = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**others, **threads, **({"PYTHONPATH": str(LIBRARY)} if name == OURS else {})}


def took_part(peers: dict[str, list[str]]) -> dict[str, str]:
    """Return versions of all verifiers, and the commits of those that are read from a copy."""
    found = versions(())
    program = (
        "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    )
    for name, distributions in DISTRIBUTIONS.items():
        if name not in peers:
            continue
        python, *checkout = peers[name]
        said = _said([python, "-c", program, *distributions]).split()
        found[name] = ", ".join(map(" ".join, zip(distributions, said, strict=True)))
        if checkout:
            found[f"{name}'s commit"] = _said(["git", "-C", *checkout, "rev-parse", "HEAD"])
    return found


def _said(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def summary(rows: list[Row]) -> list[Row]:
    """Return, for each peer, how our times compare, question by question and in total."""
    found = []
    for name in DISTRIBUTIONS:
        common = [row for row in rows if name in row]
        if not common:
            continue
        line: Row = {"beside": name, "questions": len(common)}
        line |= {"ours": _counted(common, OURS), "theirs": _counted(common, name)}
        for kind in ("wall", "cpu", "alone_wall", "alone_cpu"):
            ours, theirs = ([row[who][kind] for row in common] for who in (OURS, name))
            ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
            line[kind] = round(median(ratios), 3)
            line[f"total_{kind}"] = round(sum(ours) / sum(theirs), 3)
        found.append(line)
    return found


def _counted(rows: list[Row], name: str) -> str:
    answers = Counter(judge(row["result"], row[name]["answer"]) for row in rows)
    return ", ".join(f"{number} {verdict}" for verdict, number in answers.items())


def judge(known: str, answer: str) -> str:
    """Say whether an answer is right or wrong, or none."""
    if answer in ("sat", "unsat"):
        return "right" if answer == known else "wrong"
    return "open"


def questions(vnn: Path) -> list[tuple[str, str, str]]:
    """Return networks, properties and known answers; any few in a row have all properties."""
    with (vnn / "acasxu" / "expected.csv").open(encoding="utf-8") as lines:
        known = {(row["network"], row["property"]): row["result"] for row in csv.DictReader(lines)}
    found = []
    for turn in range(4):
        for number, name in enumerate(NETWORKS):
            one = f"ACASXU_{name}.onnx", f"prop_{1 + (number + turn) % 4}"
            found.append((*one, known[one]))
    return found


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vnn", type=Path, help="the folder with acasxu/")
    parser.add_argument("--nnenum", nargs=2, metavar=("PYTHON", "CHECKOUT"))
    parser.add_argument("--vibecheck", nargs=1, metavar="PYTHON")
    parser.add_argument("--abcrown", nargs=2, metavar=("PYTHON", "CHECKOUT"))
    parser.add_argument("--timeout", type=int, default=60, help="seconds for a question")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="when to stop")
    parser.add_argument("--again", action="store_true", help="forget earlier answers")
    return parser.parse_args()


def main() -> None:
    """Ask what has not been asked yet, and print how the times compare."""
    given = _arguments()
    given.vnn = given.vnn or cache_folder() / "vnn"
    peers = {OURS: [sys.executable]}
    peers |= {name: getattr(given, name) for name in DISTRIBUTIONS if getattr(given, name)}
    until, path = time.monotonic() + 60 * given.minutes, RESULTS / "verifiers.json"
    rows: list[Row] = []
    programs = took_part(peers)
    if path.exists() and not given.again:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        # Not everybody has to take part in every run.
        rows, programs = earlier["rows"], {**earlier["versions"], **programs}
    asked = {(row["network"], row["property"]) for row in rows}
    for number, (network, name, known) in enumerate(questions(given.vnn)):
        if (network, name) in asked or time.monotonic() > until:
            continue
        row: Row = {"network": network, "property": name, "result": known, "limit": given.timeout}
        files = given.vnn / "acasxu" / network, given.vnn / "acasxu" / f"{name}.vnnlib"
        turn = number % len(peers)
        for who in [*peers][turn:] + [*peers][:turn]:
            row[who] = ask(who, peers[who], *files, given.timeout)
        row["load"] = round(os.getloadavg()[0], 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
        write("verifiers", rows, programs, RESULTS)
    print(text(summary(rows)))
    said = [(row["result"], row[who]["answer"]) for row in rows for who in PROGRAMS if who in row]
    sys.exit(any(judge(*pair) == "wrong" for pair in said))


if __name__ == "__main__":
    main()
