"""Chapter 2's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from within_epsilon.exercises import verdict
from within_epsilon.exercises.chapter2 import PARAMETERS, SHAPES
from within_epsilon.losses import cross_entropy
from within_epsilon.threat import Ball

RIGHT_SHAPES = {name: shape for name, (shape, _) in SHAPES.items()}
RIGHT = RIGHT_SHAPES | {"parameters": PARAMETERS}


def _shapes(**changed):
    return RIGHT | changed


def _strict(labels, k):
    if labels.min() < 1 or labels.max() > k:
        raise ValueError("labels must run from 1 to k")
    return labels - 1


def _in_place(labels, k):
    labels -= 1
    return labels


def _without_the_lower_end(labels, k):
    if labels.max() > k:
        raise ValueError("too many classes")
    return labels - 1


def _without_the_upper_end(labels, k):
    if labels.min() < 1:
        raise ValueError("no class below 1")
    return labels - 1


def _by_assertion(labels, k):
    assert labels.min() >= 1
    assert labels.max() <= k
    return labels - 1


def _over_axes(axes):
    def lengths(delta, norm):
        if norm == "linf":
            return delta.abs().amax(dim=axes)
        return delta.norm(p=int(norm[1]), dim=axes)

    return lengths


def _signed(delta, norm):
    rows = delta.flatten(1)
    by_norm = {"linf": rows.amax(dim=1), "l2": rows.norm(dim=1), "l1": rows.sum(dim=1)}
    return by_norm[norm]


def _of_the_batch(delta, norm):
    return Ball(norm, 1.0).length(delta.flatten()[None]).repeat(len(delta))


def _without_root(delta, norm):
    lengths = Ball(norm, 1.0).length(delta)
    return lengths.square() if norm == "l2" else lengths


def _by_vector_norm(delta, norm):
    order = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
    return torch.stack([torch.linalg.vector_norm(one, order) for one in delta])


def _table(model, images, labels, deltas):
    return torch.stack([cross_entropy(model(images + delta), labels) for delta in deltas])


def _by_broadcasting(model, images, labels, deltas):
    k, n = len(deltas), len(images)
    moved = (images + deltas.unsqueeze(1)).flatten(0, 1)
    return cross_entropy(model(moved), labels.repeat(k)).view(k, n).max(dim=0).values.mean()


WRONG = [
    ("2.1", [(32,)], "must be a dictionary"),
    ("2.1", {"labels": (32,), "logits": ...}, "nothing yet for images, logits"),
    ("2.1", _shapes(labels=(32, 200)), "labels is not (32, 200): one class number"),
    ("2.1", _shapes(losses=()), "losses is not ()"),
    ("2.1", _shapes(mean_loss=(1,)), "mean_loss is not (1,)"),
    ("2.1", _shapes(gradient=(3, 64, 64)), "the shape of what it is taken in"),
    ("2.1", _shapes(weight=(512, 200)), "outputs in the first axis"),
    ("2.1", _shapes(parameters=102_400), "biases"),
    ("2.1", _shapes(parameters=712), "does not have 712"),
    ("2.2", lambda y, k: y, "classes 1 to 10 must become 0 to 9"),
    ("2.2", lambda y, k: y - y.min(), "not every batch contains class 1"),
    ("2.2", lambda y, k: y % k, "classes 1 to 10 must become 0 to 9"),
    ("2.2", lambda y, k: (y - 1).float(), "torch.int64"),
    ("2.2", lambda y, k: (y - 1).sum(), "labels of shape (10,), got shape ()"),
    ("2.2", _in_place, "changed the `labels` that it was given"),
    ("2.2", _by_assertion, "raise a ValueError, not AssertionError"),
    ("2.2", _without_the_lower_end, "count from 0 already"),
    ("2.2", _without_the_upper_end, "no class 11"),
    ("2.3", lambda d, p: Ball(p, 1.0).length(d.flatten()[None]), "one number per picture"),
    ("2.3", _of_the_batch, "whole batch, repeated"),
    ("2.3", _over_axes((1, 2, 3)), "called with delta = float32 of shape (7, 10)"),
    ("2.3", _over_axes((-2, -1)), "one number per picture"),
    ("2.3", _signed, "up and down count alike"),
    ("2.3", _without_root, "take the root"),
    ("2.4", lambda *a: _table(*a).mean(dim=1).max(), "stands inside"),
    ("2.4", lambda *a: _table(*a).max(), "where is the mean"),
    ("2.4", lambda *a: _table(*a).mean(), "takes the worst"),
    ("2.4", lambda *a: _table(*a).amax(dim=0).sum(), "divide by m"),
    ("2.4", lambda *a: _table(*a).amax(dim=1).mean(), "over the pictures"),
    ("2.4", lambda *a: _table(*a).amax(dim=0), "must return one number"),
    ("2.4", lambda *a: torch.tensor(1.0), "got 1.000"),
    (
        "2.4",
        lambda m, x, y, d: (
            cross_entropy(m((x + d[:, None]).clamp(0, 1).flatten(0, 1)), y.repeat(len(d)))
            .view(len(d), -1)
            .amax(0)
            .mean()
        ),
        "clipped",
    ),
    ("2.1", _shapes(images="(3, 64, 64)"), "the batch comes first"),
    ("2.1", _shapes(parameters=(102_600, 1)), "for parameters a number"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


ALSO_RIGHT = [
    ("2.1", RIGHT),
    ("2.1", _shapes(**{name: list(shape) for name, shape in RIGHT_SHAPES.items()})),
    ("2.1", _shapes(**{name: torch.Size(shape) for name, shape in RIGHT_SHAPES.items()})),
    ("2.1", _shapes(labels=32, losses=32)),
    ("2.2", _strict),
    ("2.3", _by_vector_norm),
    ("2.3", lambda d, p: Ball(p, 1.0).length(d)),
    ("2.4", _by_broadcasting),
    ("2.4", lambda *a: _table(*a).double().amax(dim=0).mean().detach().numpy()),
    ("2.1", {name: str(value) for name, value in RIGHT.items()}),
    ("2.1", {name: np.array(value) for name, value in RIGHT.items()}),
    ("2.2", lambda y, k: _strict(y, k).tolist()),
    ("2.2", lambda y, k: _strict(y, k).numpy()),
    ("2.3", lambda d, p: Ball(p, 1.0).length(d).double().numpy()),
    (
        "2.3",
        lambda d, p: [
            np.linalg.norm(one.numpy().ravel(), {"linf": np.inf, "l2": 2, "l1": 1}[p]) for one in d
        ],
    ),
    ("2.4", lambda *a: _table(*a).amax(dim=0).mean().item()),
]


@pytest.mark.parametrize(("number", "attempt"), ALSO_RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"


@pytest.mark.parametrize("stub", [{}, dict.fromkeys(SHAPES, ...)])
def test_a_dictionary_without_shapes_is_not_attempted_yet(stub):
    assert verdict("2.1", stub) == "not attempted yet"


def test_shapes_are_those_of_real_tensors():
    """The key is not typed in from memory: a network of the exercise's sizes agrees."""
    body = torch.nn.Sequential(
        torch.nn.AvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(768, 512),
        torch.nn.Linear(512, 200),
    )
    images = torch.rand(32, 3, 64, 64, requires_grad=True)
    labels = torch.zeros(32, dtype=torch.int64)
    logits = body(images)
    losses = cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(losses.sum(), images)
    real = {
        "images": images,
        "labels": labels,
        "logits": logits,
        "losses": losses,
        "mean_loss": losses.mean(),
        "gradient": gradient,
        "lengths": Ball("l2", 1.0).length(gradient),
        "weight": body[-1].weight,
    }
    assert {name: tuple(tensor.shape) for name, tensor in real.items()} == RIGHT_SHAPES
    assert sum(theta.numel() for theta in body[-1].parameters()) == PARAMETERS
