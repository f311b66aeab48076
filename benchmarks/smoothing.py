"""How much longer votes under noise take than the forward passes that they need.

    PYTHONPATH=lib:benchmarks python benchmarks/smoothing.py [--rounds 15]

Three take part, in alternating rounds: the network alone, on one batch of noisy images over and
over; the same with noise that is drawn anew for each batch, in the plainest way, which is the least
that votes need; and `count_votes`. Processor seconds on one thread; memory is the process's peak
(Linux) with n votes and with five times as many. Writes `results/smoothing.json`.

As they come, passes on digits spend a third of their time on asking the system for memory anew.
With MALLOC_TRIM_THRESHOLD_=1073741824 and MALLOC_MMAP_THRESHOLD_=33554432 it is kept, and the
noise, which takes as long as before, is a larger share of what is left: 5% instead of 1 to 2%.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from tables import text, versions, write
from timing import interleave, ratio
from torch import Tensor, nn

from within_epsilon.data import DataUnavailableError, digits, photo
from within_epsilon.models import digits_classifier, photo_classifier
from within_epsilon.verification import count_votes

SIGMA = 0.25


@torch.no_grad()
def alone(model: nn.Module, image: Tensor, n: int, batch: int) -> None:
    """Run the network on n images, the same batch again and again."""
    noisy = image + SIGMA * torch.randn(batch, *image.shape)
    for _ in range(n // batch):
        model(noisy)


@torch.no_grad()
def with_noise(model: nn.Module, image: Tensor, n: int, batch: int) -> None:
    """Run the network on n images, each with noise of its own."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(n // batch):
        model(image + SIGMA * torch.randn(batch, *image.shape, generator=generator))


def votes(model: nn.Module, image: Tensor, n: int, batch: int) -> None:
    """Count n votes."""
    generator = torch.Generator().manual_seed(0)
    count_votes(model, image, SIGMA, n, batch=batch, generator=generator)


def peak(run: partial[None]) -> float:
    """Return the most memory that the process has while something runs, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    run()
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(found) / 1024


def subjects() -> list[tuple[str, nn.Module, Tensor, int, int]]:
    """Return names, networks, images, numbers of votes and batch sizes."""
    found = [("digits", digits_classifier(), digits().test.images[0], 4000, 500)]
    try:
        found.append(("photos", photo_classifier(), photo("chelsea")[0], 16, 8))
    except DataUnavailableError as reason:
        print(f"photos are left out: {reason}")
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, model, image, n, batch in subjects():
        makers = {"alone": alone, "with noise": with_noise, "votes": votes}
        runs = {key: partial(maker, model, image, n, batch) for key, maker in makers.items()}
        # Of runs that take less than a tenth of a second, single ones are disturbed more.
        seconds = interleave(runs, given.rounds * (10 if name == "digits" else 1))
        for than in ("alone", "with noise"):
            compared = ratio(seconds["votes"], seconds[than])
            rows.append({"subject": name, "votes": n, "batch": batch, "over": than, **compared})
        memory = [peak(partial(votes, model, image, many, batch)) for many in (n, 5 * n)]
        print(f"{name}: peak {memory[0]:.0f} MiB with {n} votes, {memory[1]:.0f} with {5 * n}")
    print(text(rows))
    write("smoothing", rows, versions(()), Path(__file__).resolve().parent / "results")


if __name__ == "__main__":
    main()
