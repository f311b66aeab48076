"""Compare `autoattack(version="standard")` with the original AutoAttack, example by example.

    PYTHONPATH=benchmarks .venv-benchmark/bin/python benchmarks/autoattack/compare.py CHECKOUT

where CHECKOUT is a copy of github.com/fra31/auto-attack, of which nothing is kept here. Both
attack the same examples; after every stage it is noted which of them still stand. With several
seeds, by how much each differs from itself is what a comparison can tell: two runs that differ by
no more may be the same algorithm.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import torch
from examples import SUBJECTS
from tables import text, versions, write

sys.path.append(str(Path(__file__).resolve().parents[1] / "attacks"))
from subjects import Subject

from within_epsilon.attacks import in_turn
from within_epsilon.attacks.ensemble import stages
from within_epsilon.threat import Ball

RESULTS = Path(__file__).resolve().parent / "results"
STAGES = ("APGD-CE", "APGD-T", "FAB-T", "Square")
NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}
Verdicts = dict[str, torch.Tensor]


def run_original(
    package: Any, subject: Subject, ball: Ball, steps: int, queries: int, number: int, seed: int
) -> Verdicts:
    """Run so many of the original's stages; return which examples stand after each."""
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
    for name, stage in zip(STAGES[:number], attack.attacks_to_run, strict=False):
        rows = standing.nonzero().squeeze(1)
        attack.attacks_to_run = [stage]
        if len(rows):
            images_adv = attack.run_standard_evaluation(images[rows], labels[rows])
            _check(ball, images[rows], images_adv)
            with torch.no_grad():
                standing[rows] = subject.model(images_adv).argmax(dim=1) == labels[rows]
        verdicts[name] = standing.clone()
    return verdicts


def run_ours(
    subject: Subject, ball: Ball, steps: int, queries: int, number: int, seed: int
) -> Verdicts:
    """Run so many stages of `autoattack(version="standard")`, which is what this is."""
    verdicts: Verdicts = {}

    def note(_name: str, _images_adv: torch.Tensor, standing: torch.Tensor) -> None:
        verdicts[STAGES[len(verdicts)]] = standing.clone()

    attacks = stages(ball, version="standard", steps=steps, queries=queries, seed=seed)
    given = subject.model, subject.images, subject.labels, ball, attacks[:number]
    images_adv = in_turn(*given, callback=note).images_adv
    assert ball.admits(subject.images, images_adv).all()
    for name in STAGES[len(verdicts) : number]:  # nobody was left for them
        verdicts[name] = torch.zeros(len(subject.images), dtype=torch.bool)
    return verdicts


def compare(
    package: Any, subject: Subject, ball: Ball, *, steps: int, queries: int, number: int, seeds: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each stage: who stands, and how many verdicts differ."""
    theirs, begin = [], time.process_time()
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.append(run_original(package, subject, ball, steps, queries, number, seed))
    middle = time.process_time()
    ours = [run_ours(subject, ball, steps, queries, number, seed) for seed in range(seeds)]
    end = time.process_time()
    for stage in STAGES[:number]:
        original, own = ([one[stage] for one in runs] for runs in (theirs, ours))
        first, second = original[0], own[0]
        yield {
            "subject": subject.name,
            "ball": str(ball),
            "stage": stage,
            "n": len(subject.images),
            "original": [int(one.sum()) for one in original],
            "ours": [int(one.sum()) for one in own],
            "only_original": int((first & ~second).sum()),
            "only_ours": int((~first & second).sum()),
            "original_with_itself": most_apart(combinations(original, 2)),
            "ours_with_itself": most_apart(combinations(own, 2)),
            "with_each_other": most_apart(product(original, own)),
            "time": round((end - middle) / (middle - begin), 2) if stage == STAGES[-1] else None,
        }


def most_apart(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int | None:
    """Return the largest number of verdicts in which two runs differ; None if there is one run."""
    return max((int((one != other).sum()) for one, other in pairs), default=None)


def _check(ball: Ball, images: torch.Tensor, images_adv: torch.Tensor) -> None:
    if not ball.admits(images, images_adv, atol=1e-5).all():
        print(f"the original left {ball} by more than 1e-5", file=sys.stderr)


def main() -> None:
    """Compare on the subjects named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a copy of the original's repository")
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="all by default")
    parser.add_argument("--stages", type=int, default=len(STAGES), help="only the first so many")
    parser.add_argument("--seeds", type=int, help="runs of both; by default what the subject says")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON files")
    arguments = parser.parse_args()
    sys.path.append(str(arguments.checkout))
    import autoattack as package

    torch.set_num_threads(1)
    for name in arguments.subjects or SUBJECTS:
        subject, options = SUBJECTS[name]()
        options |= {"number": arguments.stages}
        options |= {"seeds": arguments.seeds} if arguments.seeds else {}
        rows = []
        for ball in subject.balls():
            print(f"{subject.name}, {ball}", file=sys.stderr, flush=True)
            rows += compare(package, subject, ball, **options)
        print(text(rows), flush=True)
        write(name.replace(" ", "_"), rows, versions({}), arguments.results)


if __name__ == "__main__":
    main()
