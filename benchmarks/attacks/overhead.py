"""What an evaluation costs beside its attacks, in time and in memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import FULL, Budget
from subjects import Subject
from timing import interleave, ratio
from torch import Tensor, nn

from within_epsilon.attacks import autoattack, describe, fgsm, pgd
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.threat import Ball

# The data that memory is measured with: far more, ten times over, than an evaluation should hold.
_FEW, _MANY, _BATCH, _PIXELS = 400, 4000, 100, 64


def rows(subject: Subject, rounds: int, budget: Budget = FULL) -> Iterator[dict[str, Any]]:
    """Time an evaluation in every round, beside the attack and the scoring of its results."""
    ball = subject.balls()[0]
    attacks = (
        partial(pgd, steps=budget.steps),
        partial(autoattack, steps=budget.apgd, queries=budget.queries),
    )
    for attack in attacks:
        print(f"overhead: {subject.name}, {describe(attack)}", file=sys.stderr)
        seconds = interleave(_runs(subject, ball, attack), rounds)
        yield {
            "subject": subject.name,
            "norm": ball.norm,
            "batch": len(subject.images),
            "attack": describe(attack),
            **ratio(seconds["evaluation"], seconds["attack"]),
        }


def _runs(
    subject: Subject, ball: Ball, attack: Callable[..., Tensor]
) -> dict[str, Callable[[], object]]:
    data = subject.images, subject.labels

    def alone() -> None:
        images_adv = attack(subject.model, *data, ball)
        with torch.no_grad():
            subject.model(images_adv)

    return {
        "attack": alone,
        "evaluation": lambda: robust_accuracy(subject.model, data, attack, ball, progress=False),
    }


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield as many pictures as asked for, a hundred at a time, made when they are asked for."""
    for start in range(0, count, _BATCH):
        generator = torch.Generator().manual_seed(start)
        images = torch.rand(_BATCH, 3, _PIXELS, _PIXELS, generator=generator)
        yield images, torch.arange(_BATCH) % 10


def peak(count: int) -> float:
    """Evaluate on so many pictures in this process; return its peak of memory in MiB (Linux)."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    body = nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (_PIXELS // 8) ** 2, 10)
    model = nn.Sequential(*body).eval()
    robust_accuracy(model, batches(count), fgsm, Ball("linf", 0.1), progress=False)
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(rounds: int = 3) -> Iterator[dict[str, Any]]:
    """Measure the peak of an evaluation, and of one with ten times the data, each in a process."""
    for number in range(rounds):
        print(f"memory: round {number + 1}", file=sys.stderr)
        few, many = _peak_elsewhere(_FEW), _peak_elsewhere(_MANY)
        yield {
            "images": [_FEW, _MANY],
            "data_mib": [round(count * 3 * _PIXELS**2 * 4 / 2**20, 1) for count in (_FEW, _MANY)],
            "peak_mib": [round(few, 1), round(many, 1)],
            "ratio": round(many / few, 4),
        }


def _peak_elsewhere(count: int) -> float:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; import overhead; print(overhead.peak({count}))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
