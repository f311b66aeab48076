"""Who competes: every attack as one call, ours and those of the libraries that are installed."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import peers
from peers import FULL, NAMES, Anywhere, Attack, Budget, Run, Table
from torch import Tensor, nn

from within_epsilon import losses
from within_epsilon.attacks import REGISTRY
from within_epsilon.attacks.core.registry import Entry
from within_epsilon.threat import Ball

OURS = "within-epsilon"
# No attacks to compare: what others are measured by, and one perturbation for many images.
_NOT_HERE = ("noise_control", "random_noise")


@dataclass(frozen=True)
class Contestant:
    """One library's version of an attack."""

    attack: str
    library: str
    run: Run
    asked: int
    bounded: bool = True  # it takes a ball


def contestants(norm: str, budget: Budget = FULL) -> list[Contestant]:
    """Return all that attack within a ball of this norm, ours first in each attack."""
    ours = _ours(norm, "ball", budget)
    return _enter(ours, {name: peers.attacks(name, norm, budget) for name in _installed()})


def minimal_contestants(norm: str, budget: Budget = FULL) -> list[Contestant]:
    """Return all that look for the smallest perturbation in this norm."""
    ours = _ours(norm, "norm", budget)
    theirs = {name: peers.minimal_attacks(name, norm, budget) for name in _installed()}
    return _enter(ours, theirs)


def everybody(norm: str, budget: Budget) -> list[Contestant]:
    """Return all attacks of all libraries, compared or not, library by library."""
    found = []
    for library in (OURS, *_installed()):
        bounded, others = {}, {}
        if library == OURS:
            bounded, others = (_ours(norm, given, budget) for given in ("ball", "norm"))
        else:
            bounded = peers.attacks(library, norm, budget) if norm != "l0" else {}
            others = peers.minimal_attacks(library, norm, budget)
            others |= peers.further_attacks(library, norm, budget)
        for table in (bounded, others):
            found += [
                Contestant(name, library, one.run, one.asked, table is bounded)
                for name, one in table.items()
            ]
    return found


def _installed() -> list[str]:
    return [library for library, module in peers.PEERS.items() if find_spec(module)]


def _enter(ours: Table, theirs: dict[str, Table]) -> list[Contestant]:
    return [
        Contestant(attack, library, table[attack].run, table[attack].asked)
        for attack in ours
        for library, table in {OURS: ours, **theirs}.items()
        if attack in table
    ]


def _ours(norm: str, given: str, budget: Budget) -> Table:
    """Return the library's attacks that take a ball, or a norm: the cheapest first."""
    table: Table = {}
    for key, entry in REGISTRY.items():
        parameters = inspect.signature(entry.function).parameters
        if given not in parameters or norm not in entry.norms or key in _NOT_HERE:
            continue
        if entry.kind == "universal":
            continue
        for name, options, asked in _entries(key, entry, budget):
            run = _bounded if given == "ball" else _minimal
            table[name] = Attack(partial(run, partial(entry.function, **options)), asked)
    return dict(sorted(table.items(), key=lambda item: item[1].asked))


def _entries(key: str, entry: Entry, budget: Budget) -> list[tuple[str, dict[str, Any], int]]:
    """Return in which versions an attack takes part: name, options, steps asked for."""
    name, apgd = NAMES.get(key, entry.name), {"steps": budget.apgd}
    search = {"steps": budget.cw, "binary_search_steps": budget.searches}
    special: dict[str, list[tuple[str, dict[str, Any], int]]] = {
        "fgsm": [(name, {}, 1)],
        "pgd": [
            (name, {"steps": budget.steps}, budget.steps),
            (f"{name}, clean start", {"steps": budget.steps, "random_start": False}, budget.steps),
        ],
        "apgd": [
            (name, apgd, budget.apgd),
            ("APGD-DLR", {**apgd, "loss": losses.dlr}, budget.apgd),
        ],
        "multi_targeted": [
            (name, {**apgd, "targets": budget.targets}, budget.apgd * budget.targets)
        ],
        "square": [(name, {"queries": budget.queries}, budget.queries)],
        # One run of APGD, five targets, FMN.
        "autoattack": [(name, {**apgd, "queries": budget.queries}, 7 * budget.apgd)],
        "deepfool": [(name, {"steps": budget.deepfool}, budget.deepfool)],
        "carlini_wagner": [(name, search, budget.cw * budget.searches)],
        "hop_skip_jump": [(name, {"steps": budget.hops}, budget.hops)],
        "sigma_zero": [(name, {"steps": budget.sparse}, budget.sparse)],
        "fab": [
            (
                name,
                {"steps": budget.minimal, "targets": budget.targets},
                budget.minimal * budget.targets,
            )
        ],
    }
    return special.get(key, [(name, {"steps": budget.minimal}, budget.minimal)])


# Both tell an attack where in the data set the images stand, from `first` on.
def _bounded(
    attack: Callable[..., Tensor],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball | Anywhere,
    seed: int,
    first: int = 0,
) -> Tensor:
    indices = range(first, first + len(images))
    return attack(model, images, labels, ball, seed=seed, indices=indices)


def _minimal(
    attack: Callable[..., Any],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball | Anywhere,
    seed: int,
    first: int = 0,
) -> Tensor:
    indices = range(first, first + len(images))
    found = attack(model, images, labels, ball.norm, seed=seed, indices=indices)
    images_adv: Tensor = found.images_adv
    return images_adv
