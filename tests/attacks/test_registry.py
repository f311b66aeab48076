"""The registry: what reports, tables and pages take from it."""

import inspect
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from within_epsilon import attacks
from within_epsilon.attacks import (
    REGISTRY,
    WithinBall,
    autoattack,
    carlini_wagner,
    describe,
    fgsm,
    fmn,
    pgd,
    settings,
    square,
    stages_of,
)
from within_epsilon.losses import margin_loss
from within_epsilon.threat import Ball

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", REGISTRY)
def test_an_attack_is_exported_listed_and_stands_in_the_folder_of_its_kind(name):
    entry = REGISTRY[name]
    assert getattr(attacks, name) is entry.function
    folder = entry.function.__module__.split(".")[2]
    assert folder == entry.kind.replace(" ", "_")
    page = (ROOT / "chapters" / "api.rst").read_text(encoding="utf-8")
    assert f".. autoapifunction:: within_epsilon.attacks.{name}\n" in page


@pytest.mark.parametrize("name", REGISTRY)
def test_counts_and_step_sizes_are_checked_in_every_attack(name):
    function = REGISTRY[name].function
    parameters = inspect.signature(function).parameters
    given = {"ball": Ball("linf", 0.1), "size": 3}
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(2, 1, 8, 8)
    arguments = (model, images, torch.zeros(2, dtype=torch.int64))
    options = {key: value for key, value in given.items() if key in parameters}
    assert {"steps", "queries", "epochs", "step_size"} & set(parameters) or name == "fgsm"
    for key in {"steps", "restarts", "queries", "samples", "epochs", "batch_size"} & set(
        parameters
    ):
        with pytest.raises(ValueError, match=f"{key}: expected at least 1, received 0"):
            function(*arguments, **{**options, key: 0})
    for size in (0, -1.0, float("nan")) if "step_size" in parameters else ():
        with pytest.raises(ValueError, match="step_size: expected a length > 0"):
            function(*arguments, **options, step_size=size)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (fgsm, "FGSM"),
        (pgd, "PGD, 40 steps"),
        (partial(pgd, restarts=5, random_start=False), "PGD, 40 steps, 5 restarts, clean start"),
        (
            partial(pgd, step_size=2 / 255, loss=margin_loss, seed=3),
            "PGD, 40 steps, step size 2/255, margin loss",
        ),
        (partial(square, p_init=0.3), "Square, 5,000 queries, p init 0.3"),
        (
            partial(carlini_wagner, confidence=2.0),
            "Carlini and Wagner, 1,000 steps, 9 binary search steps, confidence 2",
        ),
        (WithinBall(partial(fmn, steps=50)), "FMN, 50 steps"),
    ],
)
def test_a_description_names_all_that_decides_strength(attack, words):
    assert describe(attack) == words


def test_an_ensemble_tells_its_stages():
    for norm, restarts in (("linf", 1), ("l1", 5)):
        stages = stages_of(partial(autoattack, version="standard", seed=4), Ball(norm, 0.1))
        assert [describe(stage).split(",")[0] for stage in stages] == [
            "APGD",
            "targeted APGD-DLR",
            "FAB",
            "Square",
        ]
        assert settings(stages[0])["restarts"] == restarts
        assert settings(stages[1])["targets"] == {"linf": 9, "l1": 5}[norm]
        seeds = {settings(stage)["seed"] for stage in stages}
        assert len(seeds) == 4  # no two stages draw the same points
    assert stages_of(fgsm, Ball("l2", 1)) == (fgsm,)
    with pytest.raises(ValueError, match="version: expected 'fast' or 'standard'"):
        stages_of(partial(autoattack, version="slow"), Ball("l2", 1))


FIRST_ATTACKS = """
import inspect
import sys
import torch
from within_epsilon.attacks import REGISTRY
from within_epsilon.threat import Ball

loaded = set(sys.modules)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3)).eval()
data = {"images": torch.rand(4, 1, 6, 6), "labels": torch.tensor([0, 1, 2, 0])}
few = {"ball": Ball("linf", 0.1), "steps": 3, "queries": 4, "epochs": 1, "size": 2}
for entry in REGISTRY.values():
    taken = set(inspect.signature(entry.function).parameters)
    given = {key: value for key, value in few.items() if key in taken}
    if "norm" in taken:
        given["norm"] = entry.norms[0]
    with torch.no_grad():  # as many call them; an attack looks for its own gradients
        entry.function(model, **data, **given)
late = set(sys.modules) - loaded
print(sorted({name.split(".")[0] for name in late} & {"sympy", "scipy", "matplotlib"}))
"""


def test_a_first_attack_waits_for_no_library_that_it_does_not_need():
    """Given weights for several outputs, torch.autograd.grad imports sympy, for two seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_ATTACKS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
