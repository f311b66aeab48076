"""Chapter 11's checks see through plausible wrong answers and say what is wrong."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise, product

import pytest
import torch
from torch import nn

from within_epsilon import attacks
from within_epsilon.attacks import Averaged, BackwardAs, unnoticed_margin
from within_epsilon.defences import Voting
from within_epsilon.exercises import verdict
from within_epsilon.losses import dlr, margin_loss
from within_epsilon.models import digits_classifier


def _planted(bugs):
    """Return an evaluation with some of the four mistakes."""

    def evaluate(model, images, labels, ball):
        model.train("mode" in bugs)
        seen = nn.Sequential(model, nn.Softmax(dim=1)) if "softmax" in bugs else model
        seen.train(model.training)
        loss = nn.functional.cross_entropy if "softmax" in bugs else attacks_loss
        loss = partial(loss, reduction="none") if "softmax" in bugs else loss
        right = model(images).argmax(dim=1) == labels
        runs = [right]
        for seed in range(5):
            images_adv = attacks.pgd(seen, images, labels, ball, seed=seed, loss=loss)
            runs.append(right & (model(images_adv).argmax(dim=1) == labels))
        runs = torch.stack(runs).double()
        stands = runs[1:].mean(dim=0) if "mean" in bugs else runs.amin(dim=0)
        n = right.sum() if "denominator" in bugs else len(labels)
        return (stands.sum() / n).item()

    return evaluate


attacks_loss = margin_loss
SIGNS = {
    "mode": "which of the two is judged",
    "softmax": "lost its slope",
    "denominator": "robust accuracy 0.5",
    "mean": "the mean of the runs",
}


@pytest.mark.filterwarnings("ignore:the model is in train mode")
@pytest.mark.parametrize("chosen", list(product([False, True], repeat=4)))
def test_the_check_names_exactly_the_mistakes_that_are_in(chosen):
    bugs = {bug for bug, there in zip(SIGNS, chosen, strict=True) if there}
    said = verdict("11.6", _planted(bugs))
    assert (said == "correct") == (not bugs), said
    assert {bug for bug, words in SIGNS.items() if words in said} == bugs, said


def test_an_image_that_is_wrong_without_attack_stays_lost():
    def never_looks_at_clean_images(model, images, labels, ball):
        stands = torch.ones(len(images), dtype=torch.bool)
        for seed in range(5):
            images_adv = attacks.pgd(
                model.eval(), images, labels, ball, seed=seed, loss=margin_loss
            )
            stands &= model(images_adv).argmax(dim=1) == labels
        return stands.double().mean().item()

    assert "carry them to pictures that are right" in verdict("11.6", never_looks_at_clean_images)


@pytest.mark.parametrize("loss", [margin_loss, dlr])
def test_any_loss_of_differences_repairs_the_second_mistake(loss):
    def evaluate(model, images, labels, ball):
        stands = model.eval()(images).argmax(dim=1) == labels
        for seed in range(5):
            images_adv = attacks.pgd(model, images, labels, ball, seed=seed, loss=loss)
            stands &= model(images_adv).argmax(dim=1) == labels
        return stands.double().mean().item()

    assert verdict("11.6", evaluate) == "correct"


def _on(seen, **options):
    def attack(model, images, labels, ball):
        return attacks.pgd(seen(model), images, labels, ball, **options)

    return attack


def _opened(model):
    quantised = model[1].model
    return nn.Sequential(BackwardAs(quantised.quantise), quantised.model)


def _doubts(lost, few=4, leave_out=""):
    def more(one, other):
        return one - other > few

    found = {
        "noise": more(lost["noise"], lost["pgd"]),
        "one step": more(lost["fgsm"], lost["pgd"]),
        "scores": more(lost["scores"], lost["pgd"]),
        "more steps": any(more(a, b) for a, b in pairwise(lost["by_steps"])),
        "larger ball": any(more(a, b) for a, b in pairwise(lost["by_epsilon"])),
        "no bound": more(lost["n"], lost["unbounded"]),
    }
    return [name for name, there in found.items() if there and name != leave_out]


class _Joint(nn.Module):
    """Networks, and what to make of their logits, (M, N, k)."""

    def __init__(self, members, join):
        super().__init__()
        self.members, self.join = nn.ModuleList(members), join
        self.eval()

    def forward(self, images):
        return self.join(torch.stack([member(images) for member in self.members]))


def _on_vote(join, pick=slice(None), attack=attacks.pgd, **options):
    def past(members, images, labels, ball):
        return attack(_Joint(members[pick], join), images, labels, ball, **options)

    return past


def _mean(logits):
    return logits.mean(dim=0)


def _even(logits):
    return logits.log_softmax(dim=2).logsumexp(dim=0)


def _vote(members, images, labels, ball):
    return attacks.pgd(Voting(*members).eval(), images, labels, ball, steps=20)


def _stranger(members, images, labels, ball):
    return attacks.pgd(digits_classifier(), images, labels, ball, steps=20)


CASES = {
    "11.1": {
        "correct": lambda values, images: images + (values - images).detach(),
        "not attempted": lambda values, images: ...,
        "images themselves": lambda values, images: images,
        "kept out of the graph": lambda values, images: images + values - images,
        "no gradient leads": lambda values, images: values.detach(),
        "not that of the identity": lambda values, images: (
            2 * images + (values - 2 * images).detach()
        ),
        "not those of `values`": lambda values, images: images + values.detach(),
    },
    "11.2": {
        "correct": lambda draws: draws.log_softmax(dim=2).logsumexp(dim=0).log_softmax(dim=1),
        "the mean of the logarithms": lambda draws: draws.log_softmax(dim=2).mean(dim=0),
        "not their sum": lambda draws: draws.log_softmax(dim=2).logsumexp(dim=0),
        "and yours to": lambda draws: draws.log_softmax(dim=2).logsumexp(dim=0) + 7,
        "mean of the logits": lambda draws: draws.mean(dim=0),
        "those are the probabilities": lambda draws: draws.softmax(dim=2).mean(dim=0),
        "infinite or NaN": lambda draws: draws.softmax(dim=2).mean(dim=0).log(),
        "small probabilities are not": lambda draws: (
            draws.softmax(dim=2).mean(dim=0) + 1e-6
        ).log(),
        "shape (4, 3)": lambda draws: draws.softmax(dim=2).mean(dim=1).log(),
        "not the mean of": lambda draws: draws.log_softmax(dim=2).amax(dim=0),
    },
    "11.3": {
        "correct": unnoticed_margin,
        "the model refuses, and you say": lambda z, y: margin_loss(z[:, :-1], y),
        "class 1 is above": lambda z, y: -unnoticed_margin(z, y),
        "its signs are right": lambda z, y: 2 * unnoticed_margin(z, y),
        "but the model refuses, and": lambda z, y: margin_loss(z, y),
    },
    "11.4": {
        "correct": _doubts,
        "in a set or a list": lambda lost: "noise",
        "none of the six names": lambda lost: ["steps"],
        "mind more than 4": partial(_doubts, few=3),
        "it does not say 'noise'": lambda lost: [],
        "it does not say 'no bound'": partial(_doubts, leave_out="no bound"),
    },
    "11.5": {
        "correct": _on(_opened, steps=20, loss=margin_loss),
        "it has not moved": _on(lambda model: model, steps=20),
        "still stand": partial(attacks.square, queries=100),
        "more than ε": lambda model, images, labels, ball: 1 - images,
    },
    "11.7": {
        "correct": _on_vote(_even, steps=20),
        "not attempted": lambda *_: ...,
        "Noise does as much": _vote,
        "heard alone": _on_vote(_mean, steps=20),
        "Is it their own slope": _stranger,
        "still stand": lambda members, images, labels, ball: images,
        "more than ε": lambda members, images, labels, ball: 1 - images,
        "pictures of shape": lambda members, images, labels, ball: labels,
        "no numbers": lambda members, images, labels, ball: images * float("nan"),
    },
}


@pytest.mark.filterwarnings("ignore:the model is in train mode")
@pytest.mark.parametrize(
    ("number", "words"), [(number, words) for number, cases in CASES.items() for words in cases]
)
def test_what_the_check_says(number, words):
    said = verdict(number, CASES[number][words])
    assert words in said
    assert said == "correct" or said.startswith(("wrong, because", "not attempted"))


def test_other_right_answers_are_right():
    through = verdict("11.1", lambda values, images: values.detach() + images - images.detach())
    assert through == "correct"
    assert verdict("11.1", lambda v, x: BackwardAs(lambda _: v)(x)) == "correct"
    by_count = verdict(
        "11.2", lambda draws: draws.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(draws))
    )
    assert by_count == "correct"
    for kind in (set, tuple, frozenset, iter, lambda names: dict.fromkeys(names).keys()):
        assert verdict("11.4", lambda lost, kind=kind: kind(_doubts(lost))) == "correct"
    named = verdict("11.4", lambda lost: dict.fromkeys(_doubts(lost), True))
    assert "in a set or a list" in named
    averaged = _on(lambda model: Averaged(_opened(model), 3), steps=10, loss=margin_loss)
    assert verdict("11.5", averaged) == "correct"


@pytest.mark.parametrize(
    "past",
    [
        _on_vote(_mean, steps=20, loss=margin_loss),
        _on_vote(_mean, slice(1, 2), steps=20),  # what fools one fools the others
        _on_vote(_mean, slice(1, 3), attack=attacks.apgd, steps=20),
        _on_vote(lambda logits: (logits / logits.std(dim=2, keepdim=True)).mean(dim=0), steps=20),
        _on_vote(_even, attack=attacks.fgsm),
    ],
)
def test_any_way_past_the_vote_is_right(past):
    assert verdict("11.7", past) == "correct"


def test_downhill_and_square_do_not_get_past_the_vote():
    def square(members, images, labels, ball):
        return attacks.square(Voting(*members).eval(), images, labels, ball, queries=200)

    assert "still stand" in verdict("11.7", square)
    downhill = _on_vote(_even, steps=20, loss=lambda z, y: -margin_loss(z, y))
    assert "still stand" in verdict("11.7", downhill)
