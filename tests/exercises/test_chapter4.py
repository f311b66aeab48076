"""Chapter 4's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon import losses
from within_epsilon.exercises import verdict


def _picked(table, labels):
    return table.gather(1, labels.unsqueeze(1)).squeeze(1)


def _by_hand(logits, labels):
    return torch.logsumexp(logits, dim=1) - _picked(logits, labels)


def _by_softplus(logits, labels):
    column = labels.unsqueeze(1)
    gaps = (logits - logits.gather(1, column)).scatter(1, column, -torch.inf)
    return nn.functional.softplus(gaps.logsumexp(dim=1))


def _naive(logits, labels):
    exponentials = logits.exp()
    return exponentials.sum(dim=1).log() - _picked(logits, labels)


def _by_log1p(logits, labels):
    z_y = logits.gather(1, labels.unsqueeze(1))
    peak = (logits - z_y).amax(dim=1, keepdim=True)
    rivals = (logits - z_y - peak).exp().scatter(1, labels.unsqueeze(1), 0.0)
    return (peak + (torch.expm1(-peak) + rivals.sum(1, keepdim=True)).log1p()).squeeze(1)


def _gradient(logits, labels):
    rivals = logits.softmax(dim=1).scatter(1, labels[:, None], 0.0)
    return rivals.scatter(1, labels[:, None], -rivals.sum(dim=1, keepdim=True))


def _gradient_by_autograd(logits, labels):
    logits.requires_grad_()
    return torch.autograd.grad(losses.cross_entropy(logits, labels).sum(), logits)[0]


def _nested(model):
    last = model[-1]
    if isinstance(last, nn.Sequential):
        return nn.Sequential(*model[:-1], _nested(last))
    return model[:-1] if isinstance(last, nn.Softmax | nn.LogSoftmax) else model


def _rival_slopes_only(logits, labels):
    return _by_softplus(logits.detach(), labels) + (_by_hand(logits, labels) * 0)


def _logits(margin, wrong=1):
    labels = torch.arange(10)
    logits = margin * nn.functional.one_hot(labels, 10).float()
    logits[:wrong] = logits[:wrong].roll(1, dims=1)
    return logits, labels


def _rivals_tie():
    """One mistake, for which any of the nine rivals may be the answer."""
    logits = torch.zeros(10, 10)
    logits[:, 0] = 30.0
    logits[0, 0] = -30.0
    return logits, torch.zeros(10).long()


def _without(kind):
    return lambda model: nn.Sequential(*[part for part in model if not isinstance(part, kind)])


class _Log(nn.Module):
    def forward(self, probabilities):
        return probabilities.log()


def _log_after_softmax(model):
    return nn.Sequential(*model, _Log()) if isinstance(model[-1], nn.Softmax) else model


def _in_place(model):
    if isinstance(model[-1], nn.Sequential):
        _in_place(model[-1])
    elif isinstance(model[-1], nn.Softmax):
        del model[-1]
    return model


class _Inverse(nn.Module):
    """A model that undoes whatever softmax comes last by a hook that sees its input."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        last = model
        while isinstance(last, nn.Sequential):
            last = last[-1]
        self.last, self.seen = last, None
        last.register_forward_hook(lambda _module, given, _result: setattr(self, "seen", given[0]))

    def forward(self, inputs):
        result = self.model(inputs)
        return self.seen if isinstance(self.last, nn.Softmax) else result


def _halves(logits, labels, loss=nn.functional.cross_entropy):
    z = logits.detach().clone().requires_grad_()
    (weights,) = torch.autograd.grad(loss(z, labels).sum(), z)
    own = _picked(weights, labels) == 0
    return own.long() + (weights == 0).all(dim=1).long()


def _summed(z, y):
    return nn.functional.cross_entropy(z, y, reduction="sum")


def _by_formula(z, y):
    p = z.log_softmax(1).exp()
    rivals = p.scatter(1, y[:, None], 0.0)
    return [
        (a == 1).int() + (b == 0).all().int() for a, b in zip(_picked(p, y), rivals, strict=True)
    ]


def _by_margin(z, y, size=lambda m: m):
    margin = size(_picked(z, y) - z.scatter(1, y[:, None], -torch.inf).amax(dim=1))
    return (margin > 17).int() + (margin > 104).int()


WRONG = [
    ("4.1", lambda: _logits(20.0), "one mistake among 10"),
    ("4.1", lambda: _logits(30.0, wrong=2), "only 8 of 10"),
    ("4.1", lambda: _logits(float("inf")), "finite"),
    ("4.1", lambda: (_logits(30.0)[0], torch.arange(1, 11)), "from 0 to 9"),
    ("4.1", lambda: (torch.zeros(10, 10), torch.zeros(10).long()), "another class tie"),
    ("4.1", lambda: _logits(30.0)[::-1], "shape"),
    ("4.2", lambda z, y: z.softmax(1), "e_y"),
    ("4.2", lambda z, y: -_gradient(z, y), "sign"),
    ("4.2", lambda z, y: _gradient(z, y) / len(y), "gradient of the mean"),
    ("4.2", lambda z, y: z.softmax(1) - nn.functional.one_hot(y, z.shape[1]), "rounded to 1"),
    ("4.2", lambda z, y: z.softmax(1).scatter(1, y[:, None], 0), "has a slope, too"),
    ("4.2", _gradient_by_autograd, "uses autograd"),
    ("4.3", lambda z, y: _by_hand(z, y).mean(), "one loss per row"),
    ("4.3", lambda z, y: -_by_hand(z, y), "the sign is wrong"),
    ("4.3", lambda z, y: _by_hand(z, (y + 1) % 10), "the loss is"),
    ("4.3", _naive, "take the largest out"),
    ("4.3", lambda z, y: -_picked(z.softmax(1), y).log(), "sure and wrong by 400"),
    ("4.3", _by_hand, "at margin 30 the loss"),
    ("4.3", lambda z, y: _by_softplus(z.detach(), y), "autograd cannot follow"),
    ("4.3", _rival_slopes_only, "the slope in the label's own logit"),
    ("4.3", lambda z, y: _by_softplus(z, y).detach().numpy(), "autograd cannot follow"),
    ("4.4", lambda model: model, "ends in a softmax"),
    ("4.4", lambda model: model[:-1], "logits of shape (40, 10), got shape (40, 64)"),
    ("4.4", lambda model: nn.Sequential(model, nn.Linear(10, 10)), "a model that returned logits"),
    ("4.4", lambda m: m[:-1] if isinstance(m[-1], nn.Softmax) else m, "an `nn.Sequential` itself"),
    ("4.4", _without(nn.Softmax), "inside"),
    ("4.4", _log_after_softmax, "cannot be undone"),
    ("4.4", lambda model: "removed", "must return a model"),
    ("4.5", lambda z, y: 2 * (_halves(z, y, _summed) == 2), "may have lost half"),
    ("4.5", lambda z, y: _halves(z, y, _summed) > 0, "1 where some rival is alive"),
    ("4.5", lambda z, y: _halves(z, y, losses.cross_entropy), "may have lost half"),
    ("4.5", lambda z, y: _halves(z.double() / 100, y, _summed), "is it PyTorch's loss"),
    ("4.5", lambda z, y: _by_margin(z, y, torch.abs), "a *wrong* answer"),
    ("4.5", lambda z, y: 2 - _halves(z, y, _summed), "is right"),
    ("4.5", lambda z, y: _halves(z, y, _summed).sum(), "shape (13,)"),
]


@pytest.mark.parametrize(("number", "attempt", "reason"), WRONG)
def test_a_plausible_wrong_answer_is_told_why(number, attempt, reason):
    said = verdict(number, attempt)
    assert said.startswith("wrong, because ")
    assert reason in said


RIGHT = [
    ("4.1", lambda: _logits(25.0)),
    ("4.1", _rivals_tie),
    ("4.1", lambda: tuple(part.tolist() for part in _logits(1000.0))),
    ("4.1", lambda: (_logits(25.0)[0].numpy(), _logits(25.0)[1].float().numpy())),
    ("4.2", _gradient),
    ("4.2", lambda z, y: _gradient(z.double(), y).numpy()),
    ("4.2", lambda z, y: _gradient(z, y).tolist()),
    (
        "4.2",
        lambda z, y: (
            z.double().softmax(1).numpy() - np.eye(z.shape[1])[y.numpy()]
            if z.max() < 20
            else _gradient(z, y)
        ),
    ),
    ("4.3", losses.cross_entropy),
    ("4.3", _by_softplus),
    ("4.3", _by_log1p),
    ("4.3", lambda z, y: losses.cross_entropy(z.double(), y)),
    ("4.3", lambda z, y: -_picked(z.double().log_softmax(1), y)),
    ("4.3", lambda z, y: _by_softplus(z.double(), y)),
    ("4.4", _in_place),
    ("4.4", _nested),
    ("4.4", _Inverse),
    ("4.5", lambda z, y: _halves(z, y, _summed)),
    ("4.5", _halves),
    ("4.5", _by_formula),
    ("4.5", _by_margin),
]


@pytest.mark.parametrize(("number", "attempt"), RIGHT)
def test_another_right_answer_is_correct(number, attempt):
    assert verdict(number, attempt) == "correct"
