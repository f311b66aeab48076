"""How much faster two processes evaluate than one, each with one thread.

    PYTHONPATH=lib python benchmarks/processes.py [--examples 400] [--rounds 3]

Times the whole command, and takes off what starting costs: the same on a single example. Runs of
one and of two processes alternate, and the best of each counts, since others may use the machine.
Prints wall and processor seconds: on a busy machine only the latter say what the second one costs.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(processes: int, examples: int, folder: Path) -> tuple[float, float]:
    """Return wall and processor seconds of an evaluation."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = ["--model", "digits_cnn", "--data", "digits", "--epsilon", "0.1", "--check", "0"]
    more = ["--limit", str(examples), "--batch-size", "25", "--set", "queries=3000"]
    out = ["--out", str(folder / f"{processes}-{examples}-{time.time_ns()}")]
    command = [sys.executable, *launch, "-m", "within_epsilon", "evaluate", *words, *more, *out]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    best: dict[tuple[int, int], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(given.rounds):
            for examples in (1, given.examples):
                for processes in (1, 2):
                    key, found = (processes, examples), timed(processes, examples, Path(name))
                    best[key] = tuple(map(min, found, best.get(key, found)))  # type: ignore[assignment]
    net = {
        processes: [best[processes, given.examples][k] - best[processes, 1][k] for k in (0, 1)]
        for processes in (1, 2)
    }
    for processes, (wall, cpu) in net.items():
        start = best[processes, 1]
        print(
            f"{processes} process(es): {wall:.1f} s, {cpu:.1f} s of processors, beside "
            f"{start[0]:.1f} s and {start[1]:.1f} s to start"
        )
    print(f"two processes are {net[1][0] / net[2][0]:.2f} times as fast as one, and take")
    print(f"{net[2][1] / net[1][1]:.2f} times its processor time; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
