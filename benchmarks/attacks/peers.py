"""The other libraries' attacks, each as one call: (model, images, labels, ball, seed) -> images.

All are given the same steps and, where one can be set, the same step size. What a library does
not have in some norm is left out. The libraries are imported when they are first called.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball

Run = Callable[[nn.Module, Tensor, Tensor, Ball, int], Tensor]
Table = dict[str, Run]

# Distribution and module of each library.
PEERS = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "adversarial-robustness-toolbox": "art",
}
STEPS, APGD_STEPS, QUERIES, FMN_STEPS, CW_STEPS, CW_SEARCHES = 40, 100, 1000, 100, 200, 9
# Rounds of the boundary attack: all libraries then ask about 2,450 times for each example.
HOPS = 10
CLEAN = f"PGD-{STEPS}, clean start"


def step_size(ball: Ball) -> float:
    """Return the step that everybody's PGD takes: enough of them cross the ball."""
    return 2.5 * ball.epsilon / STEPS


def resolve(ball: Ball, options: dict[str, Any]) -> dict[str, Any]:
    """Fill in the options that depend on the ball."""
    return {name: value(ball) if callable(value) else value for name, value in options.items()}


def attacks(library: str, norm: str) -> Table:
    """Return a library's attacks within a ball."""
    tables = {
        "torchattacks": _torchattacks,
        "foolbox": _foolbox,
        "adversarial-robustness-toolbox": _art,
    }
    return tables[library](norm)


def minimal_attacks(library: str, norm: str) -> Table:
    """Return a library's minimal-norm attacks."""
    if library == "foolbox":
        return _foolbox_minimal(norm)
    if library == "torchattacks" and norm == "l2":
        return {
            "DeepFool": partial(_run_torchattacks, "DeepFool", {}, False),
            "C&W": partial(_run_torchattacks, "CW", {"steps": CW_STEPS}, False),
        }
    if library == "adversarial-robustness-toolbox" and norm == "l2":
        search = {"max_iter": CW_STEPS // 10, "binary_search_steps": CW_SEARCHES}
        return {
            "DeepFool": partial(_run_art, "DeepFool", {"max_iter": 50}, None),
            "C&W": partial(_run_art, "CarliniL2Method", search, None),
        }
    return {}


def _run_torchattacks(
    name: str,
    options: dict[str, Any],
    within: bool,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    seed: int,
) -> Tensor:
    import torchattacks

    seed_everything(seed)
    radius = {"eps": ball.epsilon} if within else {}
    attack = getattr(torchattacks, name)(model, **radius, **resolve(ball, options))
    images_adv: Tensor = attack(images, labels)
    return images_adv


def _torchattacks(norm: str) -> Table:
    if norm == "l1":
        return {}
    kind = norm.capitalize()
    make = partial(partial, _run_torchattacks)
    name, pgd = "PGD" if norm == "linf" else "PGDL2", {"alpha": step_size, "steps": STEPS}
    apgd = {"norm": kind, "steps": APGD_STEPS}
    table = {
        f"PGD-{STEPS}": make(name, pgd, True),
        CLEAN: make(name, {**pgd, "random_start": False}, True),
        "APGD-CE": make("APGD", {**apgd, "loss": "ce"}, True),
        "APGD-DLR": make("APGD", {**apgd, "loss": "dlr"}, True),
        "APGD-T": make("APGDT", {**apgd, "n_classes": 10}, True),
        "Square": make("Square", {"norm": kind, "n_queries": QUERIES}, True),
        "AutoAttack": _thorough,
    }
    if norm == "linf":
        table["FGSM"] = make("FGSM", {}, True)
    return table


def _thorough(model: nn.Module, images: Tensor, labels: Tensor, ball: Ball, seed: int) -> Tensor:
    """Run AutoAttack's four parts with as many steps as published: 100, not this class's 10."""
    import torchattacks

    common = {"norm": ball.norm.capitalize(), "eps": ball.epsilon, "seed": seed}
    targets = {"n_classes": 10, **common}
    parts = [
        torchattacks.APGD(model, steps=APGD_STEPS, loss="ce", **common),
        torchattacks.APGDT(model, steps=APGD_STEPS, **targets),
        torchattacks.FAB(model, steps=APGD_STEPS, multi_targeted=True, **targets),
        torchattacks.Square(model, n_queries=QUERIES, **common),
    ]
    images_adv: Tensor = torchattacks.MultiAttack(parts)(images, labels)
    return images_adv


def _run_foolbox(
    name: str,
    options: dict[str, Any],
    within: bool,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    seed: int,
) -> Tensor:
    import foolbox

    seed_everything(seed)
    attack = getattr(foolbox.attacks, name)(**resolve(ball, options))
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
    epsilon = ball.epsilon if within else None
    _, images_adv, _ = attack(wrapped, images, labels, epsilons=epsilon)
    return images_adv


def _foolbox(norm: str) -> Table:
    kind = norm.capitalize()
    make = partial(partial, _run_foolbox)
    pgd = {"abs_stepsize": step_size, "steps": STEPS}
    return {
        "FGSM": make(f"{kind}FastGradientAttack", {}, True),
        f"PGD-{STEPS}": make(f"{kind}PGD", pgd, True),
        CLEAN: make(f"{kind}PGD", {**pgd, "random_start": False}, True),
    }


def _foolbox_minimal(norm: str) -> Table:
    make = partial(partial, _run_foolbox)
    fmn = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack"}[norm]
    table = {"FMN": make(fmn, {"steps": FMN_STEPS}, False)}
    if norm != "l1":
        deepfool = f"{norm.capitalize()}DeepFoolAttack"
        table["DeepFool"] = make(deepfool, {"steps": 50}, False)
    if norm == "l2":
        search = {"steps": CW_STEPS, "binary_search_steps": CW_SEARCHES}
        table["C&W"] = make("L2CarliniWagnerAttack", search, False)
        table["boundary"] = make("HopSkipJumpAttack", {"steps": HOPS}, False)
    return table


def _run_art(
    name: str,
    options: dict[str, Any],
    norm: str | None,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    seed: int,
) -> Tensor:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    seed_everything(seed)
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    loss = nn.CrossEntropyLoss()
    estimator = PyTorchClassifier(
        model, loss, images.shape[1:], classes, clip_values=(0, 1), device_type="cpu"
    )
    options = {"batch_size": len(images), "verbose": False} | resolve(ball, options)
    if norm is not None:
        order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
        options |= {"norm": order, "eps": ball.epsilon}
    if name == "FastGradientMethod":
        del options["verbose"]
    images_adv = getattr(evasion, name)(estimator, **options).generate(
        images.numpy(), labels.numpy()
    )
    model.eval()
    return torch.from_numpy(images_adv)


def _art(norm: str) -> Table:
    make = partial(partial, _run_art)
    pgd = {"eps_step": step_size, "max_iter": STEPS}
    name = "ProjectedGradientDescentPyTorch"
    apgd = {
        "eps_step": lambda ball: 2 * ball.epsilon,
        "max_iter": APGD_STEPS,
        "nb_random_init": 1,
        "loss_type": "cross_entropy",
    }
    return {
        "FGSM": make("FastGradientMethod", {}, norm),
        f"PGD-{STEPS}": make(name, {**pgd, "num_random_init": 1}, norm),
        CLEAN: make(name, {**pgd, "num_random_init": 0}, norm),
        "APGD-CE": make("AutoProjectedGradientDescent", apgd, norm),
    }
