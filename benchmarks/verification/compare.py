"""Compare bounds with auto_LiRPA's, and verdicts with mixed-integer programs.

    PYTHONPATH=benchmarks python benchmarks/verification/compare.py verdicts
    PYTHONPATH=benchmarks python benchmarks/verification/compare.py bounds --checkout CHECKOUT

where CHECKOUT is a copy of github.com/Verified-Intelligence/auto_LiRPA, of which nothing is kept
here. Prints the tables and writes them to results/.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from subjects import Subject, digits_mlp, subjects
from tables import Row, text, versions, write
from timing import interleave, ratio
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.threat import Ball
from within_epsilon.verification import Certificate, branch_and_bound, crown, exact, rivals
from within_epsilon.verification.tightening import bound_all

RESULTS = Path(__file__).resolve().parent / "results"
EPSILONS = (0.02, 0.04, 0.06, 0.08, 0.1)
Bound = Callable[[], Tensor]


def auto_lirpa(subject: Subject, model: nn.Module) -> Bound:
    """Return auto_LiRPA's CROWN of a subject's margins, to be called again and again."""
    import auto_LiRPA as package

    box, labels = subject.box, subject.labels
    # The network is read once, outside what is timed; ours reads it in every call.
    reader = package.BoundedModule(model, torch.zeros_like(box.lower[:1]))
    eye = torch.eye(10, dtype=torch.float64)
    margins = eye[labels].unsqueeze(1) - eye[rivals(labels, 10)]

    def run() -> Tensor:
        ends = {"x_L": box.lower, "x_U": box.upper}
        reach = package.PerturbationLpNorm(norm=torch.inf, **ends)
        inputs = package.BoundedTensor((box.lower + box.upper) / 2, reach)
        with torch.no_grad():
            lower: Tensor
            lower, _ = reader.compute_bounds(
                x=(inputs,), C=margins, method="CROWN", bound_upper=False
            )
        return lower

    return run


def bounds(everybody: Iterator[Subject], others: Callable[..., Bound], rounds: int) -> list[Row]:
    """Time CROWN beside another implementation, one row for each form of a network and batch."""
    rows = []
    for whole in everybody:
        for n in (1, len(whole.labels)):
            subject = whole.first(n)
            ours = partial(crown, subject.model, subject.box, subject.labels)
            runs: dict[str, Callable[[], object]] = {
                "ours": ours,
                "published": partial(ours, meet=False, arithmetic="real"),
            }
            theirs = {form: others(subject, model) for form, model in subject.others.items()}
            begin = time.process_time()
            ours()
            # Milliseconds are disturbed more than seconds.
            quick = time.process_time() - begin < 0.05
            seconds = interleave({**runs, **theirs}, rounds * (10 if quick else 1))
            same = ours(meet=False, arithmetic="real").lower
            for form, other in theirs.items():
                lower = other()
                rows.append(
                    {
                        "subject": subject.name,
                        "batch": n,
                        "form": form,
                        "ms": round(1e3 * median(seconds["ours"]), 2),
                        "their_ms": round(1e3 * median(seconds[form]), 2),
                        **ratio(seconds["ours"], seconds[form]),
                        "ratio_same": ratio(seconds["published"], seconds[form])["ratio"],
                        "difference": (same - lower).abs().max().item(),
                        "tightness": (same - lower).mean().item(),
                    }
                )
            print(text(rows[-len(theirs) :]), flush=True)
    return rows


def verdicts(n: int, time_limit: float, epsilons: tuple[float, ...] = EPSILONS) -> list[Row]:
    """Time verdicts of digits by cases and by mixed-integer programs, one row for each radius."""
    model, test, rows = digits_mlp(), digits().test, []
    for epsilon in epsilons:
        statuses = dict.fromkeys(WAYS, "")
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for i in range(n):
            given = model, test.images[i : i + 1], test.labels[i : i + 1], Ball("linf", epsilon)
            # In turn, so that whatever else the machine does meets all of them.
            for way, settle in WAYS.items():
                begin = time.process_time()
                (found,) = settle(*given, time_limit=time_limit)
                seconds[way].append(time.process_time() - begin)
                statuses[way] += found.status[0]
        row: Row = {"epsilon": epsilon, "n": n}
        for way in WAYS:
            row[way] = statuses[way]
            row[f"{way}_ms"] = [round(1e3 * one, 1) for one in seconds[way]]
        for way in ("milp", "interval_milp"):
            row[f"ratio_{way}"] = ratio(seconds["cases"], seconds[way])["ratio"]
            row[f"total_ratio_{way}"] = round(sum(seconds["cases"]) / sum(seconds[way]), 4)
        rows.append(row)
        print(text(rows[-1:]), flush=True)
    return rows


def _by_interval_milp(*given: Any, **settings: float) -> list[Certificate]:
    with patch.dict(exact.__globals__, {"bound_all": partial(bound_all, linear=False)}):
        return exact(*given, **settings)


WAYS: dict[str, Callable[..., list[Certificate]]] = {
    "cases": branch_and_bound,
    "milp": exact,
    "interval_milp": _by_interval_milp,
}


def main() -> None:
    """Make the tables named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", choices=["bounds", "verdicts"])
    parser.add_argument("--checkout", type=Path, help="a copy of auto_LiRPA's repository")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--time-limit", type=float, default=30.0, help="seconds for a verdict")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if "verdicts" in given.tables:
        write("verdicts", verdicts(given.examples, given.time_limit), versions(["scipy"]), RESULTS)
    if "bounds" in given.tables:
        sys.path.append(str(given.checkout))
        warnings.simplefilter("ignore")
        import auto_LiRPA as package

        # Its max-pooling makes tensors of the default dtype.
        torch.set_default_dtype(torch.float64)
        took_part = {**versions([]), "auto_LiRPA": package.__version__}
        write("bounds", bounds(subjects(), auto_lirpa, given.rounds), took_part, RESULTS)


if __name__ == "__main__":
    main()
