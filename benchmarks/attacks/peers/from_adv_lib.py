"""adv-lib."""

from functools import partial
from math import inf
from typing import Any

from torch import Tensor, nn

from peers.common import Anywhere, Attack, Budget, Table, resolve, step_size
from within_epsilon.threat import Ball

_ORDERS = {"linf": inf, "l2": 2, "l1": 1}


def _run(
    name: str,
    options: dict[str, Any],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball | Anywhere,
    _seed: int,
) -> Tensor:
    from adv_lib import attacks

    images_adv: Tensor = getattr(attacks, name)(model, images, labels, **resolve(ball, options))
    return images_adv


def _make(name: str, asked: int, **options: Any) -> Attack:
    return Attack(partial(_run, name, options), asked)


def within(norm: str, budget: Budget) -> Table:
    """Return the attacks within a ball."""
    # For l1 as published: three phases, the first in a ball three times as wide. And every other
    # class is a target: of ten, nine.
    make = partial(
        _make,
        eps=lambda ball: ball.epsilon,
        norm=_ORDERS[norm],
        n_iter=budget.apgd,
        use_large_reps=norm == "l1",
    )
    asked = budget.apgd
    table = {
        "APGD-CE": make("apgd", asked, loss_function="ce"),
        "APGD-DLR": make("apgd", asked, loss_function="dlr"),
        "APGD-T": make("apgd_targeted", asked * budget.targets),
    }
    if norm == "linf":
        pgd = partial(
            _make,
            "pgd_linf",
            budget.steps,
            ε=lambda ball: ball.epsilon,
            steps=budget.steps,
            absolute_step_size=partial(step_size, steps=budget.steps),
        )
        table |= {"PGD": pgd(), "PGD, clean start": pgd(random_init=False)}
    return table


def minimal(norm: str, budget: Budget) -> Table:
    """Return the minimal-norm attacks."""
    if norm == "l0":
        return {"σ-zero": _make("sigma_zero", budget.sparse, num_steps=budget.sparse)}
    order, steps = {"norm": _ORDERS[norm]}, budget.minimal
    table = {
        "FMN": _make("fmn", steps, **order, steps=steps),
        "FAB": _make("fab", steps, **order, n_iter=steps),
    }
    if norm != "l1":
        table["DeepFool"] = _make("df", budget.deepfool, **order, steps=budget.deepfool)
    if norm == "l2":
        # Rounding to 256 levels, its default, is nothing that the others do.
        table["DDN"] = _make("ddn", steps, steps=steps, levels=None)
        search = {"max_iterations": budget.cw, "binary_search_steps": budget.searches}
        table["C&W"] = _make("carlini_wagner_l2", budget.cw * budget.searches, **search)
    return table
