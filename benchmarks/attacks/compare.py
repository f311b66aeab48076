"""Compare the library's attacks with those of other libraries, in one process.

    make benchmark                            # every table
    make benchmark TABLES="strength speed"    # these

Prints the tables and writes them to results/, one JSON file each.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import behaviour
import ensemble
import minimal
import overhead
import shipped
import speed
import strength
import torch
import training_speed
from peers import PEERS, Budget
from subjects import PIXELS, Subject, photos, robust_digits, standard_digits
from tables import text, versions, write

# How many test digits are attacked; half of them by minimal-norm attacks.
DIGITS = 200
# How many are enough to see how an attack behaves.
BEHAVIOUR = 20
# Ensembles on photos take thousands of passes; these are hundreds.
PHOTO_BUDGET = Budget(apgd=10, queries=50)
RESULTS = Path(__file__).resolve().parent / "results"


def _photos(pixels: int = PIXELS) -> list[Subject]:
    found = photos(pixels=pixels)
    if found is None:
        print("No photos: their files are not at hand (see data/README.md).", file=sys.stderr)
        return []
    return [found]


def _one(subjects: list[Subject]) -> list[Subject]:
    """Return the subjects with their first example alone."""
    return [replace(one, images=one.images[:1], labels=one.labels[:1]) for one in subjects]


def in_norms(subject: Subject, *norms: str) -> Subject:
    """Return the subject with the balls of these norms alone."""
    return replace(subject, epsilons={norm: subject.epsilons[norm] for norm in norms})


def _photos_ensemble_speed() -> Iterator[dict[str, Any]]:
    for subject in _photos():
        yield from speed.ensemble_rows(in_norms(subject, "linf"), budget=PHOTO_BUDGET)


def _photos_overhead() -> Iterator[dict[str, Any]]:
    for subject in _photos():
        yield from overhead.rows(subject, rounds=3, budget=PHOTO_BUDGET)


def _photos_shipped() -> Iterator[dict[str, Any]]:
    for subject in _photos():
        yield from shipped.rows([in_norms(subject, "linf", "l2")], budget=PHOTO_BUDGET)


TABLES: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "strength": lambda: strength.rows([standard_digits(DIGITS)]),
    "robust_strength": lambda: strength.rows([robust_digits(DIGITS)]),
    "photos_strength": lambda: strength.rows(_photos()),
    "minimal": lambda: minimal.rows([standard_digits(DIGITS // 2)]),
    "robust_minimal": lambda: minimal.rows([robust_digits(DIGITS // 2)]),
    "photos_minimal": lambda: minimal.rows(_photos()),
    "ensemble": lambda: ensemble.rows([standard_digits(DIGITS), robust_digits(DIGITS)]),
    "behaviour": lambda: behaviour.rows(standard_digits(BEHAVIOUR)),
    "speed": lambda: speed.rows([standard_digits(), standard_digits(32)]),
    "ensemble_speed": lambda: speed.ensemble_rows(in_norms(standard_digits(DIGITS), "linf", "l2")),
    "photos_ensemble_speed": _photos_ensemble_speed,
    "overhead": lambda: overhead.rows(standard_digits(32), rounds=9),
    "photos_overhead": _photos_overhead,
    "memory": overhead.memory,
    "training": training_speed.rows,
    "shipped": lambda: shipped.rows(shipped.networks(DIGITS)),
    "photos_shipped": _photos_shipped,
    "photos_speed": lambda: speed.rows(_one(_photos(pixels=224)), rounds=3),
}


def main() -> None:
    """Make the tables named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="all by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # several would wait for each other, and for the machine's others
    for name in arguments.tables or TABLES:
        rows = list(TABLES[name]())
        if rows:
            print(f"\n{name}\n{text(rows)}", flush=True)
            write(name, rows, versions(PEERS), arguments.results)


if __name__ == "__main__":
    main()
