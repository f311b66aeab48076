"""Every warning about a doubtful evaluation: it fires where it should, and only there."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import (
    apgd,
    autoattack,
    count_evaluations,
    fgsm,
    noise_control,
    pgd,
)
from within_epsilon.data import digits
from within_epsilon.evaluation import DoubtfulEvaluationWarning, robust_accuracy
from within_epsilon.losses import margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
TEST = digits().test
EXAMPLES = TEST.images[:100], TEST.labels[:100]


class Changed(nn.Module):
    """The digits network behind something that changes pixels or logits."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.network = digits_classifier()
        self.before, self.after = before or nn.Identity(), after or nn.Identity()
        self.eval()

    def forward(self, images):
        return self.after(self.network(self.before(images)))


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


class Reversed(torch.autograd.Function):
    """The identity, with minus its gradient."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return -gradient


def noisy(images):
    return images + 0.2 * torch.rand_like(images)


SHORT = partial(pgd, steps=1, step_size=1e-4, random_start=False)
FLAT = "the gradient in the pixels is zero for 64 of the first 64 attacked examples"
DOUBTFUL = {
    "probabilities": (Changed(after=nn.Softmax(dim=1)), fgsm, ["return the logits"]),
    "probabilities, coarse": (
        nn.Sequential(
            Does(lambda x: x.bfloat16()), digits_classifier().bfloat16(), nn.Softmax(1)
        ).eval(),
        noise_control,
        ["return the logits"],
    ),
    "random": (Changed(before=Does(noisy)), fgsm, ["differ for 64 of the first 64.*average"]),
    "detached": (Changed(before=Does(torch.detach)), noise_control, ["no usable gradient.*detach"]),
    "flat": (
        Changed(before=Does(lambda images: (images * 16).round() / 16)),
        fgsm,
        [FLAT + ".*margin_loss"],
    ),
    "saturated": (Changed(after=Does(lambda logits: 1e6 * logits)), fgsm, [FLAT]),
    "weak": (digits_classifier(), SHORT, [r"FGSM\) fools \d+ of the first 64.*only 0.*more steps"]),
    "falling": (
        Changed(before=Does(Reversed.apply)),
        pgd,
        ["^the loss fell.* in 64 of 64 runs.*step_size"],
    ),
}


def warnings_of(model, attack, examples=EXAMPLES, ball=BALL, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        robust_accuracy(model, examples, attack, ball, **options)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("model", "attack", "patterns"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_only_looks_robust_is_warned_about_once(model, attack, patterns):
    with pytest.warns(DoubtfulEvaluationWarning) as caught:
        robust_accuracy(model, EXAMPLES, attack, BALL)
    assert len({str(warning.message) for warning in caught}) == len(caught)
    for pattern in patterns:
        with pytest.warns(DoubtfulEvaluationWarning, match=pattern):
            robust_accuracy(model, EXAMPLES, attack, BALL)


@pytest.mark.parametrize("ball", [BALL, Ball("l2", 0.5), Ball("l1", 2.0), Ball("linf", 0)], ids=str)
@pytest.mark.parametrize(
    "attack",
    [
        fgsm,
        pgd,
        noise_control,
        partial(pgd, steps=10, restarts=2, loss=margin_loss),
        [fgsm, partial(pgd, steps=10)],
        partial(apgd, steps=10),
        partial(autoattack, steps=4, targets=2, queries=10),
    ],
    ids=["fgsm", "pgd", "noise", "margin", "ensemble", "apgd", "autoattack"],
)
@pytest.mark.parametrize("batch_size", [30, 256])
def test_an_honest_model_gets_no_warning(attack, ball, batch_size):
    assert warnings_of(digits_classifier(), attack, ball=ball, batch_size=batch_size) == []


@pytest.mark.parametrize(("model", "attack", "patterns"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_warnings_do_not_depend_on_batches_and_can_be_switched_off(model, attack, patterns):
    found = {}
    for batch_size in (11, 64, 256):
        torch.manual_seed(0)
        found[batch_size] = warnings_of(model, attack, batch_size=batch_size)
    assert found[11] == found[64] == found[256] != []
    assert warnings_of(model, attack, diagnose=False) == []


def test_an_attack_that_leaves_the_model_in_train_mode_is_warned_about():
    def own(model, images, labels, ball):
        images_adv = fgsm(model, images, labels, ball)
        model.train()
        return images_adv

    (message,) = warnings_of(digits_classifier(), own)
    assert message.startswith("the model is in train mode")


def passes_on(model, images, labels, ball, **options):
    return fgsm(model, images, labels, ball, **options)


def averages(model, images, labels, ball, loss=nn.functional.cross_entropy, callback=None):
    images_adv = fgsm(model, images, labels, ball)
    if callback is not None:
        callback(1, images_adv, loss(model(images_adv), labels))
    return images_adv


def counts(model, images, labels, ball, loss=lambda logits: logits.sum(), callback=None):
    if callback is not None:
        callback("begun")
        callback(1, images, torch.zeros(len(images)))  # no step 0
        callback(step=2)
    return fgsm(model, images, labels, ball)


@pytest.mark.parametrize("attack", [passes_on, averages, counts])
def test_an_attack_of_ones_own_may_mean_something_else_by_options_and_losses(attack):
    assert warnings_of(digits_classifier(), attack) == []


def test_a_model_in_train_mode_is_warned_about_once_though_the_attack_would_too():
    model = digits_classifier().train()
    for batch_size in (10, 100):
        (message,) = warnings_of(model, pgd, batch_size=batch_size)
        assert message.startswith("the model is in train mode")


def test_a_saturated_loss_is_no_doubt_when_the_attack_has_a_better_one():
    model = Changed(after=Does(lambda logits: 1e6 * logits))
    assert warnings_of(model, partial(pgd, steps=5, loss=margin_loss)) == []


@pytest.mark.parametrize("attack", [fgsm, partial(pgd, steps=3)], ids=["fgsm", "pgd"])
@pytest.mark.parametrize("batch_size", [10, 400])
def test_looking_for_doubts_costs_what_it_says(attack, batch_size):
    model, data = digits_classifier(), (TEST.images, TEST.labels)
    spent = {}
    for diagnose in (True, False):
        with count_evaluations(model) as spent[diagnose]:
            robust_accuracy(model, data, attack, BALL, batch_size=batch_size, diagnose=diagnose)
    # The callback's own scoring of the last step is for whole batches.
    scored = 0 if attack is fgsm else 400 if batch_size == 400 else 70
    assert spent[True].gradients - spent[False].gradients == 64
    assert spent[True].forwards - spent[False].forwards <= 2 * 64 + scored


def test_a_callback_of_the_readers_own_is_left_alone():
    steps = []
    watch = partial(pgd, steps=3, callback=lambda step, images_adv, losses: steps.append(step))
    assert warnings_of(digits_classifier(), watch, batch_size=50) == []
    assert steps == [0, 1, 2, 3] * 2
