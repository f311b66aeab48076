"""Chapter 5's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon.exercises import verdict
from within_epsilon.exercises.variants import VARIABLE
from within_epsilon.losses import cross_entropy


def _step(*, clear=True, reduce=torch.mean, sign=1.0, result="before"):
    def sgd_step(model, images, labels, step_size):
        if clear:
            model.zero_grad()
        loss = reduce(cross_entropy(model(images), labels))
        loss.backward()
        with torch.no_grad():
            for theta in model.parameters():
                if theta.grad is not None:
                    theta -= sign * step_size * theta.grad
        after = cross_entropy(model(images), labels).mean()
        return {"before": loss, "after": after, "model": model, "nothing": None}[result]

    return sgd_step


def _clears_afterwards(model, images, labels, step_size):
    loss = _step(clear=False)(model, images, labels, step_size)
    model.zero_grad()
    return loss


def _by_autograd(model, images, labels, step_size):
    loss = cross_entropy(model(images), labels).mean()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for theta, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            theta.data -= step_size * gradient
    return loss.detach().double().numpy()


def _new_parameters(model, images, labels, step_size):
    loss = cross_entropy(model(images), labels).mean()
    names = [name for name, _ in model.named_parameters() if name != "idle"]
    parameters = [model.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(loss, parameters)
    for name, theta, gradient in zip(names, parameters, gradients, strict=True):
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(theta - step_size * gradient))
    return loss.item()


def _by_torch(model, images, labels, step_size):
    optimizer = torch.optim.SGD(model.parameters(), lr=step_size)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def _pieces(*, weigh, reduce=torch.mean):
    def full_gradient(model, images, labels, batch_size):
        parameters = list(model.parameters())
        total = [torch.zeros_like(theta) for theta in parameters]
        count = -(-len(images) // batch_size)
        for batch in torch.arange(len(images)).split(batch_size):
            loss = reduce(cross_entropy(model(images[batch]), labels[batch]))
            weight = weigh(len(batch), count, len(images))
            for into, part in zip(total, torch.autograd.grad(loss, parameters), strict=True):
                into += weight * part
        return total

    return full_gradient


def _by_backward(model, images, labels, batch_size, *, clear=True):
    if clear:
        model.zero_grad()
    for batch in torch.arange(len(images)).split(batch_size):
        share = len(batch) / len(images)
        (share * nn.functional.cross_entropy(model(images[batch]), labels[batch])).backward()
    return [theta.grad for theta in model.parameters()]


def _at_once(model, images, labels, batch_size):
    return _by_backward(model, images, labels, len(images))


def _keep(losses, patience, *, strict=True):
    kept = 0
    for epoch, value in enumerate(losses):
        if value < losses[kept] or (not strict and value <= losses[kept]):
            kept = epoch
        if epoch - kept >= patience:
            break
    return kept


def _keep_lowest(losses, patience):
    """Cut at the stop, then `np.nanargmin`."""
    end = next(
        (e + 1 for e in range(patience, len(losses)) if _stale(losses[: e + 1], patience)),
        len(losses),
    )
    return np.nanargmin(losses[:end])


def _stale(losses, patience):
    return len(losses) - 1 - np.nanargmin(losses) >= patience


def _choose(errors, step_sizes):
    means = errors.mean(dim=1)
    return step_sizes[means.where(means.isfinite(), torch.inf).argmin()]


def _choose_by_numpy(errors, step_sizes):
    return np.array(step_sizes)[np.nanargmin(np.mean(errors.numpy(), axis=1))]


def _choose_by_hand(errors, step_sizes):
    sums = {a: sum(row) for a, row in zip(step_sizes, errors.tolist(), strict=True)}
    return torch.tensor(min((a for a in sums if sums[a] == sums[a]), key=sums.__getitem__))


def _choose_by(rule, *, diverged=torch.nan):
    """Fill in what diverged, judge each row by a rule, and take the lowest row but for NaN."""

    def choose(errors, step_sizes):
        values = rule(errors.where(~errors.isnan(), diverged)).nan_to_num(torch.inf)
        return step_sizes[values.argmin()]

    return choose


def _mean(errors):
    return errors.mean(dim=1)


def _by_experiment(curvatures, momentum):
    def diverges(step_size):
        for curvature in curvatures:
            theta, velocity = 1.0, 0.0
            for _ in range(2000):
                velocity = momentum * velocity + curvature * theta
                theta -= step_size * velocity
            if not abs(theta) < 1:
                return True
        return False

    low, high = 0.0, 10.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if diverges(middle) else (middle, high)
    return low


def _consecutive_rises(losses, patience):
    rises, kept = 0, 0
    for epoch in range(1, len(losses)):
        rises = rises + 1 if losses[epoch] >= losses[epoch - 1] else 0
        kept = epoch if losses[epoch] < losses[kept] else kept
        if rises >= patience:
            break
    return kept


WRONG = [
    ("5.1", _step(clear=False), "clear them first"),
    ("5.1", _step(reduce=torch.sum), "take the mean"),
    ("5.1", _step(sign=-1.0), "*up* the loss"),
    ("5.1", _step(sign=0.5), "away from where torch.optim.SGD"),
    ("5.1", _step(sign=0.0), "no parameter has moved"),
    ("5.1", _step(result="after"), "before the step"),
    ("5.1", _step(result="model"), "a number"),
    ("5.1", _new_parameters, "in place"),
    ("5.1", _clears_afterwards, "before the first step"),
    ("5.1", _step(result="nothing"), "returns nothing"),
    ("5.2", _pieces(weigh=lambda size, count, n: 1 / count), "weigh a batch by its size"),
    ("5.2", _pieces(weigh=lambda size, count, n: 1), "the number of batches"),
    ("5.2", _pieces(weigh=lambda size, count, n: 1, reduce=torch.sum), "divide by 48"),
    ("5.2", _pieces(weigh=lambda size, count, n: 8 / n), "off by up to"),
    ("5.2", lambda *a: _by_backward(*a, clear=False), "lay in .grad"),
    ("5.2", _at_once, "only 8 fit"),
    ("5.2", lambda *a: _by_backward(*a)[:-1], "one tensor per parameter"),
    ("5.2", lambda *a: torch.cat([g.flatten() for g in _by_backward(*a)]), "one tensor per"),
    ("5.3", lambda e, a: a[e.mean(dim=1).argmin()], "`argmin` takes NaN for the lowest"),
    ("5.3", lambda e, a: a[np.argmin(e.numpy().mean(axis=1))], "`argmin` takes NaN"),
    ("5.3", _choose_by(lambda e: e.nanmean(dim=1)), "the next run may diverge"),
    ("5.3", _choose_by(_mean, diverged=0.0), "all 4 runs diverged"),
    (
        "5.3",
        _choose_by(_mean, diverged=100.0),
        "where 1 of 4 runs diverged; the mean of the others",
    ),
    ("5.3", _choose_by(lambda e: e.amin(dim=1)), "for its best run"),
    ("5.3", _choose_by(lambda e: e.amax(dim=1)), "for its worst run"),
    ("5.3", _choose_by(lambda e: e.median(dim=1).values), "for its median run"),
    ("5.3", lambda e, a: a.index(_choose(e, a)), "it returns the row, 2"),
    ("5.3", lambda e, a: e[a.index(_choose(e, a))].mean(), "the lowest mean error; return its"),
    ("5.3", lambda e, a: min(a), "0.01, where the mean error is 21.0%; right is 0.1"),
    ("5.3", lambda e, a: a[_mean(e).isfinite().nonzero().max()], "it chooses 2.7"),
    ("5.3", lambda e, a: 0.2, "none of the step sizes 0.01, 0.03"),
    ("5.4", lambda losses, patience: min(range(len(losses)), key=losses.__getitem__), "computed"),
    ("5.4", lambda losses, patience: _keep(losses, patience, strict=False), "equals"),
    ("5.4", _keep, "NaN"),  # nan is never undercut
    ("5.4", _consecutive_rises, "new *lowest*"),
    ("5.4", lambda losses, patience: _keep(losses, patience) + 1, "counted from 0"),
    ("5.4", lambda losses, patience: 0.5, "the number of an epoch, got 0.5"),
    ("5.5", lambda curvatures, momentum: 2 / max(curvatures), "limit without momentum"),
    ("5.5", lambda curvatures, momentum: 2 * (1 - momentum) / max(curvatures), "to and fro"),
    ("5.5", lambda curvatures, momentum: 2 * (1 + momentum) / min(curvatures), "the flattest of"),
    ("5.5", lambda curvatures, momentum: 2 / sum(curvatures), "the sum of the curvatures"),
    ("5.5", lambda curvatures, momentum: 3 / max(curvatures), "does not converge: try it"),
    ("5.5", lambda curvatures, momentum: "2/L", "must return a number"),
    ("5.5", lambda curvatures, momentum: -1.0, "positive"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    # Other ways than the printed solution to be right.
    ("5.1", _by_torch),
    ("5.1", _by_autograd),
    ("5.1", lambda *a: [_step()(*a).item()][0]),
    ("5.2", lambda m, *a: dict(zip(dict(m.named_parameters()), _by_backward(m, *a), strict=True))),
    ("5.2", lambda *a: [g.double().numpy() for g in _by_backward(*a)]),
    ("5.2", _by_backward),
    ("5.2", _pieces(weigh=lambda size, count, n: size / n)),
    ("5.3", _choose),
    ("5.3", _choose_by_numpy),
    ("5.3", _choose_by_hand),
    ("5.3", lambda e, a: np.float32(_choose(e, a))),
    ("5.4", _keep_lowest),
    ("5.4", lambda losses, patience: np.int64(_keep_lowest(losses, patience))),
    ("5.4", lambda losses, patience: torch.tensor(float(_keep_lowest(losses, patience)))),
    ("5.5", lambda curvatures, momentum: np.max(curvatures) ** -1.0 * 2 * (1 + momentum)),
    ("5.5", _by_experiment),
    ("5.5", lambda curvatures, momentum: 1.999 * (1 + momentum) / max(curvatures)),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"


@pytest.mark.parametrize("seed", ["1", "2", "2026"])
def test_a_class_of_its_own_has_other_runs_to_choose_from_and_the_same_traps(seed, monkeypatch):
    monkeypatch.setenv(VARIABLE, seed)
    for number, attempt, _ in WRONG:
        if number == "5.3":
            assert verdict(number, attempt).startswith("wrong, because "), attempt
    assert verdict("5.3", _choose) == verdict("5.3", _choose_by_numpy) == "correct"
    book = iter([0.1, 0.2, 0.1])
    assert "none of the step sizes" in verdict("5.3", lambda errors, step_sizes: next(book))
