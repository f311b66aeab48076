"""Times that can be compared: everybody runs in every round, in changing order."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any


def interleave(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return each run's processor seconds, round by round, after a round that warms up.

    Processor seconds, because others on the same machine disturb them less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        turn = number % len(runs)
        for name in [*runs][turn:] + [*runs][:turn]:
            begin = time.process_time()
            runs[name]()
            if number:
                seconds[name].append(time.process_time() - begin)
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Return the median of the ratios within the rounds, and how far they scatter."""
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
    return {
        "ratio": round(median(ratios), 4),
        "lowest": round(min(ratios), 4),
        "highest": round(max(ratios), 4),
        "rounds": len(ratios),
    }
