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


def _lead(logits, labels, fill=-torch.inf):
    own = logits.gather(1, labels[:, None])
    return own[:, 0] - logits.scatter(1, labels[:, None], fill).amax(dim=1)


def _lead_by_sorting(logits, labels):
    two = logits.topk(2, dim=1)
    own = _own(logits, labels)
    return own - torch.where(two.indices[:, 0] == labels, two.values[:, 1], two.values[:, 0])


def _leads(logits, labels):
    return [
        row[y] - max(z for i, z in enumerate(row) if i != y)
        for row, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]


def _table(logits, labels):
    own = logits.gather(1, labels[:, None])
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def _jacobian(function, images):
    rows = torch.autograd.functional.jacobian(function, images).abs().flatten(2).sum(dim=2)
    return bool((rows - torch.diag(rows.diag())).any())


def _alone(function, images):
    together = function(images)
    one_by_one = torch.cat([function(image[None]) for image in images])
    return not torch.allclose(together, one_by_one, atol=1e-6)


def _move_one(function, images):
    for i in range(len(images)):
        moved = images.clone()
        moved[i] += 0.5
        change = function(moved) - function(images)
        change[i] = 0
        if change.abs().max() > 1e-6:
            return True
    return False


def _first_only(function, images):
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(function(images)[0], images)
    return bool(gradient[1:].any())


def _numel(tensors):
    return sum(tensor.numel() for tensor in tensors)


def _by_name(network):
    seen = {id(p): p.numel() for _, p in network.named_parameters() if p.requires_grad}
    return float(sum(seen.values()))


WRONG = [
    ("0.3", lambda z, y: -_lead(z, y), "the sign"),
    ("0.3", lambda z, y: _own(z, y) - z.amax(dim=1), "the largest *other*"),
    ("0.3", lambda z, y: _lead(z, y, 0.0), "minus infinity"),
    ("0.3", _table, "a table of shape (4, 4)"),
    ("0.3", lambda z, y: _lead(z, y) + 1, "it must be"),
    ("0.5", lambda net: len(list(net.parameters())), "you count tensors"),
    ("0.5", lambda net: sum(p.numel() for p in net.parameters() if p.dim() > 1), "the bias"),
    ("0.5", lambda net: sum(t.numel() for t in net.state_dict().values()), "counts once"),
    ("0.5", lambda net: _numel([*net.parameters(), *net.buffers()]), "buffer"),
    ("0.5", lambda net: _numel(net.parameters()), "asks for no gradient"),
    ("0.4", lambda f, x: False, "it is True: it subtracts the mean of the batch"),
    ("0.4", lambda f, x: True, "it is False"),
    ("0.4", _first_only, "look at every image"),
    ("0.4", lambda f, x: _first_only(f, x) or not torch.equal(f(x), f(x)), "look at every image"),
    ("0.4", lambda f, x: f(x) > 0, "one True or False"),
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
    ("0.3", _lead),
    ("0.3", _lead_by_sorting),
    ("0.3", _leads),
    ("0.4", _jacobian),
    ("0.4", _alone),
    ("0.4", _move_one),
    ("0.5", lambda net: _numel(p for p in net.parameters() if p.requires_grad)),
    ("0.5", lambda net: torch.tensor(_numel(p for p in net.parameters() if p.requires_grad))),
    ("0.5", _by_name),
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
