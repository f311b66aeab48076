"""Compare `autoattack(version="standard")` with the original AutoAttack, example by example.

    PYTHONPATH=benchmarks .venv-benchmark/bin/python benchmarks/autoattack/compare.py CHECKOUT

where CHECKOUT is a copy of github.com/fra31/auto-attack, of which nothing is kept here. Both
attack the same examples; after every stage it is noted which of them still stand. Where the
original runs with several seeds, by how much it differs from itself is what a comparison can tell.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from examples import SUBJECTS
from tables import text, versions, write

sys.path.append(str(Path(__file__).resolve().parents[1] / "attacks"))
from subjects import Subject

from within_epsilon.attacks import autoattack
from within_epsilon.threat import Ball

RESULTS = Path(__file__).resolve().parent / "results"
STAGES = ("APGD-CE", "APGD-T", "FAB-T", "Square")
NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}
Verdicts = dict[str, torch.Tensor]


def run_original(
    package: Any, subject: Subject, ball: Ball, steps: int, queries: int, seed: int
) -> Verdicts:
    """Run the original stage by stage; return which examples stand after each."""
    images, labels = subject.images, subject.labels
    settings = {"norm": NAMES[ball.norm], "eps": ball.epsilon, "seed": seed, "device": "cpu"}
    attack = package.AutoAttack(subject.model, **settings, verbose=False)
    attack.square.n_queries = queries
    attack.fab.n_iter = steps
    for one in (attack.apgd, attack.apgd_targeted):
        kept = {name: getattr(one, name) for name in ("n_restarts", "use_largereps")}
        fresh = dict(settings, n_iter=steps, **kept)
        if one is attack.apgd:
            attack.apgd = type(one)(subject.model, **fresh)
        else:
            targets = one.n_target_classes
            attack.apgd_targeted = type(one)(subject.model, n_target_classes=targets, **fresh)
    standing = torch.ones(len(images), dtype=torch.bool)
    verdicts = {}
    for name, stage in zip(STAGES, attack.attacks_to_run, strict=True):
        rows = standing.nonzero().squeeze(1)
        attack.attacks_to_run = [stage]
        if len(rows):
            images_adv = attack.run_standard_evaluation(images[rows], labels[rows])
            _check(ball, images[rows], images_adv)
            with torch.no_grad():
                standing[rows] = subject.model(images_adv).argmax(dim=1) == labels[rows]
        verdicts[name] = standing.clone()
    return verdicts


def run_ours(subject: Subject, ball: Ball, steps: int, queries: int, seed: int) -> Verdicts:
    """Run the library's standard version; return which examples stand after each stage."""
    verdicts: Verdicts = {}

    def note(_name: str, _images_adv: torch.Tensor, standing: torch.Tensor) -> None:
        verdicts[STAGES[len(verdicts)]] = standing.clone()

    options = {"steps": steps, "queries": queries, "seed": seed, "callback": note}
    images_adv = autoattack(
        subject.model, subject.images, subject.labels, ball, version="standard", **options
    )
    assert ball.admits(subject.images, images_adv).all()
    for name in STAGES[len(verdicts) :]:  # nobody was left for them
        verdicts[name] = torch.zeros(len(subject.images), dtype=torch.bool)
    return verdicts


def compare(
    package: Any, subject: Subject, ball: Ball, *, steps: int, queries: int, seeds: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each stage: who stands, and how many verdicts differ."""
    theirs, begin = [], time.process_time()
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.append(run_original(package, subject, ball, steps, queries, seed))
    middle = time.process_time()
    ours = [run_ours(subject, ball, steps, queries, seed) for seed in range(seeds)]
    end = time.process_time()
    for stage in STAGES:
        first, own = theirs[0][stage], ours[0][stage]
        yield {
            "subject": subject.name,
            "ball": str(ball),
            "stage": stage,
            "n": len(subject.images),
            "original": [int(one[stage].sum()) for one in theirs],
            "ours": [int(one[stage].sum()) for one in ours],
            "only_original": int((first & ~own).sum()),
            "only_ours": int((~first & own).sum()),
            "original_with_itself": max(
                (int((first != one[stage]).sum()) for one in theirs[1:]), default=None
            ),
            "time": round((end - middle) / (middle - begin), 2) if stage == STAGES[-1] else None,
        }


def _check(ball: Ball, images: torch.Tensor, images_adv: torch.Tensor) -> None:
    if not ball.admits(images, images_adv, atol=1e-5).all():
        print(f"the original left {ball} by more than 1e-5", file=sys.stderr)


def main() -> None:
    """Compare on the subjects named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a copy of the original's repository")
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="all by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    arguments = parser.parse_args()
    sys.path.append(str(arguments.checkout))
    import autoattack as package

    torch.set_num_threads(1)
    for name in arguments.subjects or SUBJECTS:
        subject, options = SUBJECTS[name]()
        rows = []
        for ball in subject.balls():
            print(f"{subject.name}, {ball}", file=sys.stderr, flush=True)
            rows += compare(package, subject, ball, **options)
        print(text(rows), flush=True)
        write(name.replace(" ", "_"), rows, versions({}), arguments.results)


if __name__ == "__main__":
    main()
