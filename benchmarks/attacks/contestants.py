"""Who competes: every attack as one call, ours and those of the libraries that are installed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import peers
from peers import Run, Table
from torch import Tensor, nn

from within_epsilon import attacks, losses

OURS = "within-epsilon"


@dataclass(frozen=True)
class Contestant:
    """One library's version of an attack."""

    attack: str
    library: str
    run: Run


def contestants(norm: str) -> list[Contestant]:
    """Return all that attack within a ball of this norm, ours first in each attack."""
    return _enter(_ours(), {library: peers.attacks(library, norm) for library in _installed()})


def minimal_contestants(norm: str) -> list[Contestant]:
    """Return all that look for the smallest perturbation in this norm."""
    tables = {library: peers.minimal_attacks(library, norm) for library in _installed()}
    return _enter(_ours_minimal(norm), tables)


def _installed() -> list[str]:
    return [library for library, module in peers.PEERS.items() if find_spec(module)]


def _enter(ours: Table, tables: dict[str, Table]) -> list[Contestant]:
    return [
        Contestant(attack, library, table[attack])
        for attack in ours
        for library, table in {OURS: ours, **tables}.items()
        if attack in table
    ]


def _ours() -> Table:

    table: dict[str, Callable[..., Tensor]] = {
        "FGSM": attacks.fgsm,
        f"PGD-{peers.STEPS}": partial(attacks.pgd, steps=peers.STEPS),
        peers.CLEAN: partial(attacks.pgd, steps=peers.STEPS, random_start=False),
        "APGD-CE": partial(attacks.apgd, steps=peers.APGD_STEPS),
        "APGD-DLR": partial(attacks.apgd, steps=peers.APGD_STEPS, loss=losses.dlr),
        "APGD-T": partial(attacks.multi_targeted, steps=peers.APGD_STEPS),
        "Square": partial(attacks.square, queries=peers.QUERIES),
        "AutoAttack": partial(attacks.autoattack, queries=peers.QUERIES),
    }
    return {name: _seeded(attack) for name, attack in table.items()}


def _ours_minimal(norm: str) -> Table:
    table: dict[str, Callable[..., attacks.Minimal]] = {
        "FMN": partial(attacks.fmn, norm=norm, steps=peers.FMN_STEPS)
    }
    if norm != "l1":
        table["DeepFool"] = partial(attacks.deepfool, norm=norm, steps=50)
    if norm == "l2":
        search = {"steps": peers.CW_STEPS, "binary_search_steps": peers.CW_SEARCHES}
        table["C&W"] = partial(attacks.carlini_wagner, **search)
        table["boundary"] = partial(attacks.boundary, steps=peers.HOPS)
    return {name: _images_only(attack) for name, attack in table.items()}


def _images_only(attack: Callable[..., attacks.Minimal]) -> Run:
    def run(model: nn.Module, images: Tensor, labels: Tensor, *_: object) -> Tensor:
        return attack(model, images, labels).images_adv

    return run


def _seeded(attack: Callable[..., Tensor]) -> Run:
    return lambda model, images, labels, ball, seed: attack(model, images, labels, ball, seed=seed)
