"""The Adversarial Robustness Toolbox."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peers.common import Anywhere, Attack, Budget, Table, resolve, step_size
from within_epsilon.threat import Ball

_ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
# These have no `verbose` or no `batch_size`.
_WITHOUT = {"FastGradientMethod": ("verbose",)}


def _run(
    name: str,
    options: dict[str, Any],
    within: bool,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball | Anywhere,
    _seed: int,
) -> Tensor:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model(images[:2]).shape[1]
    loss = nn.CrossEntropyLoss()
    estimator = PyTorchClassifier(
        model, loss, images.shape[1:], classes, clip_values=(0, 1), device_type="cpu"
    )
    options = {"batch_size": len(images), "verbose": False} | resolve(ball, options)
    if within:
        options |= {"norm": _ORDERS[ball.norm], "eps": ball.epsilon}
    options = {key: value for key, value in options.items() if key not in _WITHOUT.get(name, ())}
    attack = getattr(evasion, name)(estimator, **options)
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def within(_norm: str, budget: Budget) -> Table:
    """Return the attacks within a ball."""
    name = "ProjectedGradientDescentPyTorch"
    step = {"eps_step": partial(step_size, steps=budget.steps), "max_iter": budget.steps}
    apgd = {
        "eps_step": lambda ball: 2 * ball.epsilon,
        "max_iter": budget.apgd,
        "nb_random_init": 1,
        "loss_type": "cross_entropy",
    }

    def make(name: str, asked: int, **options: Any) -> Attack:
        return Attack(partial(_run, name, options, True), asked)

    return {
        "FGSM": make("FastGradientMethod", 1),
        "PGD": make(name, budget.steps, **step, num_random_init=1),
        "PGD, clean start": make(name, budget.steps, **step, num_random_init=0),
        "APGD-CE": make("AutoProjectedGradientDescent", budget.apgd, **apgd),
    }


def minimal(norm: str, budget: Budget) -> Table:
    """Return the minimal-norm attacks."""
    if norm != "l2":
        return {}
    # Every step of its C&W halves and doubles its length some twenty times.
    steps = max(budget.cw // 10, 1)
    deepfool = partial(_run, "DeepFool", {"max_iter": budget.deepfool}, False)
    search = {"max_iter": steps, "binary_search_steps": budget.searches}
    return {
        "DeepFool": Attack(deepfool, budget.deepfool),
        "C&W": Attack(partial(_run, "CarliniL2Method", search, False), steps * budget.searches),
    }


def further(norm: str, budget: Budget) -> Table:
    """Return attacks that are only looked at."""
    if norm != "l2":
        return {}
    hops = {"max_iter": budget.hops, "max_eval": 1000, "init_eval": 100}
    return {"HopSkipJump": Attack(partial(_run, "HopSkipJump", hops, False), budget.hops)}
