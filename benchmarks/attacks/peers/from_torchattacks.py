"""torchattacks."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from peers.common import Anywhere, Attack, Budget, Table, resolve, step_size
from within_epsilon.threat import Ball

# Further than any two pictures are apart: FAB hands over no more than what lies within.
_ANYWHERE = 1e6
_SEEDED = ("APGD", "APGDT", "FAB", "Square")
_COUNTS_CLASSES = ("APGDT", "FAB")
# AutoAttack's targeted parts have nine targets, however many classes there are; these classes
# have as many as they are told of classes, but for one.
_MOST = 10


def _make(
    name: str,
    options: dict[str, Any],
    model: nn.Module,
    images: Tensor,
    ball: Ball | Anywhere,
    seed: int,
) -> Any:
    import torchattacks

    options = resolve(ball, options)
    if name in _SEEDED:
        options["seed"] = seed
    if name in _COUNTS_CLASSES:
        with torch.no_grad():
            options["n_classes"] = min(model(images[:2]).shape[1], _MOST)
    return getattr(torchattacks, name)(model, **options)


def _run(
    name: str,
    options: dict[str, Any],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball | Anywhere,
    seed: int,
) -> Tensor:
    images_adv: Tensor = _make(name, options, model, images, ball, seed)(images, labels)
    return images_adv


def _autoattack(
    steps: int,
    queries: int,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball | Anywhere,
    seed: int,
) -> Tensor:
    """Run AutoAttack's four parts with as many steps as published: 100, not this class's 10."""
    import torchattacks

    common = {"norm": ball.norm.capitalize(), "eps": ball.epsilon}
    parts = {
        "APGD": {"steps": steps, "loss": "ce"},
        "APGDT": {"steps": steps},
        "FAB": {"steps": steps, "multi_targeted": True},
        "Square": {"n_queries": queries},
    }
    made = [_make(name, common | own, model, images, ball, seed) for name, own in parts.items()]
    images_adv: Tensor = torchattacks.MultiAttack(made)(images, labels)
    return images_adv


def within(norm: str, budget: Budget) -> Table:
    """Return the attacks within a ball; there are none for l1."""
    if norm == "l1":
        return {}
    kind = norm.capitalize()

    def make(name: str, asked: int, **options: Any) -> Attack:
        ball = {"eps": lambda ball: ball.epsilon}
        return Attack(partial(_run, name, ball | options), asked)

    pgd = "PGD" if norm == "linf" else "PGDL2"
    step = {"alpha": partial(step_size, steps=budget.steps), "steps": budget.steps}
    apgd = {"norm": kind, "steps": budget.apgd}
    thorough = partial(_autoattack, budget.apgd, budget.queries)
    table = {
        "PGD": make(pgd, budget.steps, **step),
        "PGD, clean start": make(pgd, budget.steps, **step, random_start=False),
        "APGD-CE": make("APGD", budget.apgd, **apgd, loss="ce"),
        "APGD-DLR": make("APGD", budget.apgd, **apgd, loss="dlr"),
        "APGD-T": make("APGDT", budget.apgd * budget.targets, **apgd),
        "Square": make("Square", budget.queries, norm=kind, n_queries=budget.queries),
        "AutoAttack": Attack(thorough, budget.apgd * (1 + 2 * budget.targets)),
    }
    return {"FGSM": make("FGSM", 1), **table} if norm == "linf" else table


def minimal(norm: str, budget: Budget) -> Table:
    """Return the minimal-norm attacks: its FAB knows no l1, though it takes the name."""
    if norm not in ("linf", "l2"):
        return {}
    fab = {"norm": norm.capitalize(), "eps": _ANYWHERE, "steps": budget.minimal}
    table = {"FAB": Attack(partial(_run, "FAB", fab), budget.minimal)}
    if norm == "l2":
        deepfool = partial(_run, "DeepFool", {"steps": budget.deepfool})
        table["DeepFool"] = Attack(deepfool, budget.deepfool)
        table["C&W"] = Attack(partial(_run, "CW", {"steps": budget.cw}), budget.cw)
    return table
