"""foolbox."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from peers.common import Anywhere, Attack, Budget, Table, resolve, step_size
from within_epsilon.threat import Ball


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
    import foolbox

    attack = getattr(foolbox.attacks, name)(**resolve(ball, options))
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
    epsilon = ball.epsilon if within else None
    images_adv: Tensor
    _, images_adv, _ = attack(wrapped, images, labels, epsilons=epsilon)
    return images_adv


def _make(name: str, asked: int, *, within: bool = False, **options: Any) -> Attack:
    return Attack(partial(_run, name, options, within), asked)


def within(norm: str, budget: Budget) -> Table:
    """Return the attacks within a ball."""
    kind = norm.capitalize()
    make = partial(_make, f"{kind}PGD", budget.steps, within=True)
    step = {"abs_stepsize": partial(step_size, steps=budget.steps), "steps": budget.steps}
    return {
        "FGSM": _make(f"{kind}FastGradientAttack", 1, within=True),
        "PGD": make(**step),
        "PGD, clean start": make(**step, random_start=False),
    }


def minimal(norm: str, budget: Budget) -> Table:
    """Return the minimal-norm attacks."""
    if norm == "l0":
        return {}
    fmn = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack"}[norm]
    table = {"FMN": _make(fmn, budget.minimal, steps=budget.minimal)}
    if norm != "l1":
        deepfool = f"{norm.capitalize()}DeepFoolAttack"
        table["DeepFool"] = _make(deepfool, budget.deepfool, steps=budget.deepfool)
    if norm == "l2":
        search = {"steps": budget.cw, "binary_search_steps": budget.searches}
        table["DDN"] = _make("DDNAttack", budget.minimal, steps=budget.minimal)
        table["C&W"] = _make("L2CarliniWagnerAttack", budget.cw * budget.searches, **search)
        table["HopSkipJump"] = _make("HopSkipJumpAttack", budget.hops, steps=budget.hops)
    return table


def further(norm: str, budget: Budget) -> Table:
    """Return attacks that are only looked at."""
    if norm != "l2":
        return {}
    search = {"steps": budget.cw, "binary_search_steps": budget.searches}
    return {
        "NewtonFool": _make("NewtonFoolAttack", budget.minimal, steps=budget.minimal),
        "EAD": _make("EADAttack", budget.cw * budget.searches, **search),
    }
