"""Attacks on models that may refuse to answer."""

from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import describe, fgsm, pgd, unnoticed, unnoticed_margin
from within_epsilon.data import digits
from within_epsilon.defences import Detector
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.models import digits_classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.training import fit

BALL = Ball("linf", 0.15)
TEST = digits().test[:60]


class Wary(nn.Module):
    """Refuses what looks attacked to a second network: a class before or behind the ten."""

    def __init__(self, first=False):
        super().__init__()
        train = digits().train[:400]
        attacked = pgd(digits_classifier(), *train, BALL, steps=20)
        kinds = torch.arange(2).repeat_interleave(400)
        torch.manual_seed(0)
        alarm, options = mlp(64, 50, 2), {"epochs": 20, "batch_size": 32, "step_size": 0.1}
        fit(alarm, (torch.cat([train[0], attacked]), kinds), progress=False, **options)
        self.detector, self.first = Detector(digits_classifier(), alarm), first
        self.eval()

    def forward(self, images):
        logits = self.detector(images)
        return logits.roll(1, dims=1) if self.first else logits


def test_the_margin_is_above_zero_exactly_where_it_answers_wrongly():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 5, generator=generator)
    labels = torch.randint(0, 4, (500,), generator=generator)
    answers = logits.argmax(dim=1)
    wrong = (answers != labels) & (answers != 4)
    assert torch.equal(unnoticed_margin(logits, labels) > 0, wrong)
    assert torch.equal(unnoticed_margin(logits, labels, reject=4) > 0, wrong)
    first = logits.roll(1, dims=1)
    assert torch.equal(unnoticed_margin(first, labels + 1, reject=0) > 0, wrong)


@pytest.mark.parametrize("first", [False, True])
def test_it_pays_to_mind_the_refusal(first):
    model, reject = Wary(first=first), 0 if first else -1
    labels = TEST[1] + first
    loss = partial(unnoticed_margin, reject=reject)
    standing = {}
    for name, attack in {"bare": pgd, "minds": partial(pgd, loss=loss)}.items():
        careful = partial(unnoticed, attack=attack, reject=reject)
        report = robust_accuracy(model, (TEST[0], labels), careful, BALL, diagnose=False, seed=3)
        standing[name] = report.robust
        images_adv = careful(model, TEST[0], labels, BALL)
        with torch.no_grad():
            refused = model(images_adv).argmax(dim=1) == reject % 11
        # What is refused is the clean image, which was refused before.
        assert torch.equal(images_adv[refused], TEST[0][refused])
    assert standing["bare"] > 50
    assert standing["minds"] < standing["bare"] - 15


def test_seed_and_positions_go_on_to_those_who_take_them():
    model, seen = Wary(), []

    def notes(model, images, labels, ball, *, seed=0, indices=None):
        seen.append((seed, indices))
        return images

    options = {"seed": 7, "indices": [4, 5]}
    unnoticed(model, TEST[0][:2], TEST[1][:2], BALL, attack=notes, **options)
    assert seen == [(7, [4, 5])]
    unnoticed(model, TEST[0][:2], TEST[1][:2], BALL, attack=fgsm, **options)
    assert describe(partial(unnoticed, attack=fgsm)) == "unnoticed, fgsm"


@pytest.mark.parametrize("reject", [11, -12])
def test_a_class_that_is_none_is_refused(reject):
    with pytest.raises(ValueError, match="reject: expected one of the model's classes"):
        unnoticed_margin(torch.zeros(2, 11), torch.zeros(2).long(), reject=reject)
    with pytest.raises(ValueError, match="at least 3"):
        unnoticed_margin(torch.zeros(2, 2), torch.zeros(2).long())
