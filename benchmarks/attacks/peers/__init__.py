"""The other libraries' attacks, each as one call: (model, images, labels, ball, seed) -> images.

All are given the same steps and, where one can be set, the same step size. What a library does
not have in some norm is left out. The libraries are imported when they are first called.
"""

from collections.abc import Callable

from peers import from_adv_lib, from_art, from_foolbox, from_torchattacks
from peers.common import FULL, NAMES, SHORT, Anywhere, Attack, Budget, Run, Table, step_size

# Distribution and module of each library.
PEERS = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "adversarial-robustness-toolbox": "art",
    "adv-lib": "adv_lib",
}
_MODULES = {
    "torchattacks": from_torchattacks,
    "foolbox": from_foolbox,
    "adversarial-robustness-toolbox": from_art,
    "adv-lib": from_adv_lib,
}


def attacks(library: str, norm: str, budget: Budget = FULL) -> Table:
    """Return a library's attacks within a ball."""
    return _MODULES[library].within(norm, budget)


def minimal_attacks(library: str, norm: str, budget: Budget = FULL) -> Table:
    """Return a library's minimal-norm attacks."""
    return _MODULES[library].minimal(norm, budget)


def further_attacks(library: str, norm: str, budget: Budget = FULL) -> Table:
    """Return minimal-norm attacks that are looked at, but compared with none of ours."""
    further: Callable[[str, Budget], Table] = getattr(_MODULES[library], "further", _none)
    return further(norm, budget)


def _none(_norm: str, _budget: Budget) -> Table:
    return {}


__all__ = [
    "FULL",
    "NAMES",
    "PEERS",
    "SHORT",
    "Anywhere",
    "Attack",
    "Budget",
    "Run",
    "Table",
    "attacks",
    "further_attacks",
    "minimal_attacks",
    "step_size",
]
