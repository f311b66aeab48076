"""How much faster two processes evaluate than one, each with one thread.

    PYTHONPATH=lib python benchmarks/processes.py digits [--examples 76800] [--rounds 1]

PGD with 40 steps on digits of 28 x 28, or on photos with SqueezeNet. Times the whole command as
torchrun starts it, and what of it is not spent on examples: the same on a single one. Labels are
the network's own answers, so that it attacks every example. Runs of one and of two processes
alternate, and the best of each counts, since others may use the machine. Writes
`results/processes.json`, where the other subject's row stays.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from tables import Row, versions, write

NETWORK = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, stride=2), nn.ReLU(), nn.Conv2d(32, 64, 5, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 10),
    )
"""
# The command's words for each subject, how many examples, and how many make a batch.
SUBJECTS = {
    "digits": (("--model", "own:net", "--epsilon", "0.1"), 76800, 100),
    "photos": (("--model", "squeezenet1_0", "--epsilon", "1/255"), 96, 1),
}


def write_digits(folder: Path, n: int) -> None:
    """Write the book's digits, each pixel enlarged, and a network for them."""
    from within_epsilon.commands.inputs.networks import load
    from within_epsilon.data import digits

    (folder / "own.py").write_text(NETWORK, encoding="utf-8")
    images = digits().train.images.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., 2:30, 2:30]
    images = images.repeat(-(-n // len(images)), 1, 1, 1)[:n]
    _write(folder, images, load("own:net").model)


def write_photos(folder: Path, n: int) -> None:
    """Write parts of scikit-image's photos."""
    from skimage import data

    from within_epsilon.models import photo_classifier

    photos = [data.chelsea(), data.coffee(), data.astronaut()]
    places, parts = np.random.default_rng(0), []
    for number in range(n):
        photo = photos[number % len(photos)]
        top, left = (places.integers(size - 223) for size in photo.shape[:2])
        parts.append(photo[top : top + 224, left : left + 224])
    pixels = np.stack(parts)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    _write(folder, images, photo_classifier())


def _write(folder: Path, images: torch.Tensor, model: torch.nn.Module) -> None:
    with torch.no_grad():
        labels = torch.cat([model(part).argmax(1) for part in images.split(16)])
    pixels = (images * 255).round().byte().numpy()
    np.savez(folder / "data.npz", images=pixels, labels=labels.numpy())


def timed(subject: str, processes: int, examples: int, folder: Path) -> tuple[float, float]:
    """Return wall and processor seconds of an evaluation."""
    words, _, batch = SUBJECTS[subject]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    data = ["--data", "data.npz", "--attack", "pgd", "--steps", "40", "--check", "0"]
    more = ["--limit", str(examples), "--batch-size", str(batch), "--out", str(time.time_ns())]
    command = [sys.executable, *launch, "-m", "within_epsilon", "evaluate", *words, *data, *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    n = given.examples or SUBJECTS[given.subject][1]
    library = Path(__file__).resolve().parents[1] / "lib"
    os.environ["PYTHONPATH"] = str(library)
    best: dict[tuple[int, int], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        sys.path.insert(0, name)
        (write_digits if given.subject == "digits" else write_photos)(Path(name), n)
        for _ in range(given.rounds):
            for examples in (1, n):
                for processes in (1, 2):
                    found = timed(given.subject, processes, examples, Path(name))
                    key = processes, examples
                    print(f"{processes} process(es), {examples}: {found[0]:.1f} s", flush=True)
                    best[key] = tuple(map(min, found, best.get(key, found)))  # type: ignore[assignment]
    for processes in (1, 2):
        (wall, cpu), start = best[processes, n], best[processes, 1]
        print(
            f"{processes} process(es), {n} {given.subject}: {wall:.1f} s, {cpu:.1f} s of "
            f"processors; of these {start[0]:.1f} s and {start[1]:.1f} s for a single one"
        )
    whole = best[1, n][0] / best[2, n][0]
    net = (best[1, n][0] - best[1, 1][0]) / (best[2, n][0] - best[2, 1][0])
    print(f"two are {whole:.2f} times as fast, {net:.2f} times without the start")
    print(f"load {os.getloadavg()[0]:.1f}")
    seconds = [round(best[processes, n][0], 1) for processes in (1, 2)]
    start = [round(best[processes, 1][0], 1) for processes in (1, 2)]
    row = {"subject": given.subject, "examples": n, "seconds": seconds, "start": start}
    keep(row | {"ratio": round(whole, 3), "without_start": round(net, 3)})


def keep(row: Row) -> None:
    """Write a subject's row in place of its last one."""
    folder = Path(__file__).resolve().parent / "results"
    path = folder / "processes.json"
    before = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []
    rows = [row, *(other for other in before if other["subject"] != row["subject"])]
    write("processes", sorted(rows, key=itemgetter("subject")), versions(()), folder)


if __name__ == "__main__":
    main()
