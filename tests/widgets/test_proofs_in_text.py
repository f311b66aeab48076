"""What chapter 12 says of its explorers is what the page computes."""

from __future__ import annotations

from typing import Any

import pytest
from test_proofs import compute, node  # noqa: F401 - a fixture

from within_epsilon.widgets import BranchingExplorer, SandwichExplorer

KINDS = ("ibp", "crown", "attack")


@pytest.fixture(scope="module")
def answers(node: None) -> dict[str, Any]:  # noqa: F811
    jobs, names = [], []
    for radius, split in ((0.5, "relus"), (0.5, "inputs"), (0.55, "relus")):
        explorer = BranchingExplorer(radius=radius)
        job = {name: getattr(explorer, name) for name in ("layers", "centre", "radius", "label")}
        settings = {"split": split, "question": "sign"}
        jobs.append({"task": "search", "settings": settings, "most": 200, **job})
        names.append(f"{radius} {split}")
    zero = SandwichExplorer()
    for epsilon in (0.1, 0.15, 0.16):
        job = {"layers": zero.layers, "pixels": zero.pixels, "label": 0, "epsilon": epsilon}
        jobs.append({"task": "sandwich", **job})
        names.append(f"{epsilon}")
    return dict(zip(names, compute(jobs), strict=True))


def test_the_square_is_proved_with_as_many_splits_as_the_text_says(answers):
    relus, inputs = answers["0.5 relus"], answers["0.5 inputs"]
    assert relus["history"][0]["lower"] == pytest.approx(-4.36, abs=0.005)
    assert (relus["status"], len(relus["leaves"]), relus["history"][-1]["bounds"]) == (
        "proved", 7, 13,
    )  # fmt: skip
    assert (inputs["status"], len(inputs["leaves"])) == ("proved", 8)
    larger = answers["0.55 relus"]
    assert (larger["status"], len(larger["leaves"])) == ("refuted", 1)


def test_the_zero_s_margins_are_those_of_the_text(answers):
    least = {
        epsilon: [min(row[kind] for row in answers[epsilon]["rows"]) for kind in KINDS]
        for epsilon in ("0.1", "0.15", "0.16")
    }
    assert least["0.1"] == pytest.approx([-14.5, 2.14, 2.54], abs=0.05)
    assert least["0.15"][1] < 0 < least["0.15"][2]
    rows = answers["0.16"]["rows"]
    assert min(rows, key=lambda row: row["attack"])["rival"] == 2
    assert least["0.16"][2] < 0
