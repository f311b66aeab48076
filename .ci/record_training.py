"""Record what the training explorer plays where it cannot train: some minutes on one core.

    python .ci/record_training.py

writes digits.bin and training_runs.json into the library. Needs Node, which runs the page's engine.
"""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from within_epsilon.widgets.engine import ENGINE
from within_epsilon.widgets.training import RUNS, network, pack_digits

ROOT = Path(__file__).resolve().parent.parent
NODE = ROOT / "tests" / "widgets" / "engine" / "run.mjs"
KINDS = ((0, "clean"), (1, "clean"), (1, "noise"), (3, "clean"), (3, "random"))
RECORDED = tuple((0.3, *kind) for kind in KINDS)
EPOCHS, WATCHED = 60, 5
AGAIN = (1, 2, 3)  # other seeds, of which a run of three steps keeps the end only
COUNTED = ("clean", "fgsm", "pgd")


def settings(epsilon: float, steps: int, start: str) -> dict[str, Any]:
    """Return a run's options for the engine."""
    return {"epsilon": epsilon, "steps": steps, "start": start, "epochs": EPOCHS, "seed": 0}


def train(options: dict[str, Any]) -> dict[str, Any]:
    """Let the page's engine train under Node; return its points and the weights."""
    job = {"task": "train", "engine": str(ENGINE), "description": network(), "options": options}
    done = subprocess.run(["node", NODE], input=json.dumps(job), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def counts(point: dict[str, Any]) -> list[int]:
    """Return how many held-out digits are read right: clean, under FGSM, under PGD."""
    return [point[name] for name in COUNTED]


def ends(options: dict[str, Any]) -> list[list[int]]:
    """Return the counts after the last epoch from other seeds: runs of one kind differ."""
    given = {"watched": 0}
    runs = (train(options | given | {"seed": seed})["points"] for seed in AGAIN)
    return [counts(points[-1]) for points in runs]


def record(options: dict[str, Any]) -> dict[str, Any]:
    """Return a run as the explorer plays it: counts and answers by epoch, pictures at the end."""
    points = train(options | {"watched": WATCHED})["points"]
    images = [np.frombuffer(base64.b64decode(image), "<f4") for image in points[-1]["images"]]
    levels = np.rint(255 * np.concatenate(images)).astype(np.uint8).tobytes()
    return options | {
        "points": [counts(point) for point in points],
        "answers": [point["answers"] for point in points],
        "images": base64.b64encode(levels).decode(),
    }


def main() -> None:
    """Write the digits and the runs."""
    (ENGINE / "digits.bin").write_bytes(pack_digits())
    runs = []
    for chosen in RECORDED:
        options = settings(*chosen)
        runs.append(record(options))
        if options["steps"] == 3:
            runs[-1]["others"] = ends(options)
        print(chosen, runs[-1]["points"][-1], flush=True)
    text = json.dumps(runs, separators=(",", ":")).replace('{"epsilon"', '\n{"epsilon"')
    RUNS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
