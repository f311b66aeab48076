"""Record the votes that the smoothing explorer counts: a minute or two on one core.

    python .ci/record_votes.py

writes smoothing_votes.json into the library. For each size of noise a network is trained under
it; then 100 votes on each digit choose a class, and 100,000 more are counted: how many of the first
100, 1,000, 10,000 and 100,000 were for that class.
"""

import json
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.data import Split, digits
from within_epsilon.models import mlp
from within_epsilon.runtime import streams
from within_epsilon.training import fit, standard
from within_epsilon.verification import count_votes
from within_epsilon.widgets.smoothing import SHOWN, VOTES

SIGMAS = (0.125, 0.25, 0.5, 1.0)
COUNTS = (100, 1_000, 10_000, 100_000)
SELECTION, DIGITS, BATCH = 100, 100, 500


def train(sigma: float) -> nn.Module:
    """Train a network on digits under noise of the size that it will vote under."""

    def under_noise(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return standard(model, images + sigma * torch.randn_like(images), labels)

    torch.manual_seed(0)
    model = mlp(64, 100, 10)
    adam = partial(torch.optim.Adam, lr=0.003)
    settings: dict[str, Any] = {"epochs": 80, "batch_size": 64, "optimizer": adam}
    fit(model, digits().train, under_noise, progress=False, **settings)
    return model


def votes_on(
    model: nn.Module, image: Tensor, sigma: float, generator: torch.Generator
) -> tuple[int, list[list[int]]]:
    """Return the class that some votes choose, and the counts of all classes among others."""
    vote = partial(count_votes, model, image, sigma, batch=BATCH, generator=generator)
    winner = int(vote(SELECTION).argmax())
    prefixes, total, so_far = [], 0, torch.zeros(10, dtype=torch.int64)
    for n in COUNTS:
        so_far = so_far + vote(n - total)
        total = n
        prefixes.append(so_far.tolist())
    return winner, prefixes


def record(sigma: float, split: Split) -> dict[str, Any]:
    """Return the votes on a split's digits at one size of noise."""
    model = train(sigma)
    found = [
        votes_on(model, image, sigma, generator)
        for image, generator in zip(
            split.images, streams(list(range(len(split.images))), 0), strict=True
        )
    ]
    return {
        "sigma": sigma,
        "winners": [winner for winner, _ in found],
        "votes": [[prefix[winner] for prefix in prefixes] for winner, prefixes in found],
        "counts": [found[i][1] for i in SHOWN],
    }


def main() -> None:
    """Write the votes."""
    torch.set_num_threads(1)
    split = Split(*digits().test[:DIGITS])
    levels = []
    for sigma in SIGMAS:
        levels.append(record(sigma, split))
        pairs = zip(levels[-1]["winners"], split.labels.tolist(), strict=True)
        print(sigma, sum(a == b for a, b in pairs), "right of", DIGITS, flush=True)
    votes = {"selection": SELECTION, "ns": COUNTS, "labels": split.labels.tolist()}
    text = json.dumps(votes | {"levels": levels}, separators=(",", ":"))
    VOTES.write_text(text.replace('{"sigma"', '\n{"sigma"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
