"""Chapter 0's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from within_epsilon.exercises import verdict


def _own(logits, labels):
    return logits[torch.arange(len(labels)), labels]


def _by_numpy(logits, labels):
    z = logits.numpy().astype(np.float64)
    return z - np.take_along_axis(z, labels.numpy()[:, None], axis=1)


def _row_by_row(logits, labels):
    return [[z - row[y] for z in row] for row, y in zip(logits.tolist(), labels, strict=True)]


def _slopes(function, images, *, reduce=torch.sum):
    images.requires_grad_()
    return torch.autograd.grad(reduce(function(images)), images)[0]


def _one_by_one(function, images):
    return [_slopes(function, image[None].clone())[0] for image in images]


def _by_backward(function, images):
    images.requires_grad_()
    function(images).sum().backward()
    return images.grad


def _of_the_first(function, images):
    return _slopes(function, images, reduce=lambda numbers: numbers[0])


WRONG = [
    ("0.1", lambda z, y: z - _own(z, y), "do not line up"),
    ("0.1", lambda z, y: z - (_own(z, y) if len(z) == z.shape[1] else _own(z, y)[:, None]), "row"),
    ("0.1", lambda z, y: _own(z, y)[:, None] - z, "sign"),
    ("0.1", lambda z, y: z - z.amax(1, keepdim=True), "not the largest"),
    ("0.1", lambda z, y: _own(z, y), "shape (3, 5)"),
    ("0.1", lambda z, y: z[:, :1] - z * 0, "it must be"),
    ("0.2", lambda f, x: _slopes(f, x, reduce=torch.mean), "5 times too small"),
    ("0.2", _by_backward, "left a gradient in the function's weights"),
    ("0.2", _of_the_first, "only the first"),
    ("0.2", lambda f, x: _slopes(f, x).sum(dim=0), "shape (5, 1, 3, 3)"),
    ("0.2", lambda f, x: 2 * _slopes(f, x), "wrong by up to"),
    ("0.2", lambda f, x: torch.autograd.grad(f(x), x), "scalar outputs"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    ("0.1", lambda z, y: z - z.gather(1, y[:, None])),
    ("0.1", _by_numpy),
    ("0.1", _row_by_row),
    ("0.2", _slopes),
    ("0.2", _one_by_one),
    ("0.2", lambda f, x: _slopes(f, x).double().numpy()),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
