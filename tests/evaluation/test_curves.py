"""Curves: against one evaluation per radius, and against exact distances."""

from functools import partial

import pytest
import torch
from test_accuracies import Threshold, examples

from within_epsilon.attacks import deepfool, fgsm, fmn, pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import accuracy, robust_accuracy, robust_curve, wilson_interval
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

EPSILONS = (0.0, 0.02, 0.1)
TEST = digits().test
DATA = TEST.images[:60], TEST.labels[:60]


def test_each_radius_is_that_of_an_evaluation_and_the_curve_never_falls():
    model, attack = digits_classifier(), partial(pgd, steps=5)
    curve = robust_curve(model, DATA, attack, "linf", [0.1, 0.0, 0.02], batch_size=25)
    assert curve.epsilons == EPSILONS
    assert curve.errors[0] == pytest.approx(1 - accuracy(model, DATA))
    assert list(curve.lost) == sorted(curve.lost)
    for epsilon, lost in zip(curve.epsilons, curve.lost, strict=True):
        report = robust_accuracy(model, DATA, attack, Ball("linf", epsilon), diagnose=False)
        assert lost >= 60 - report.robust
    assert curve.intervals()[2] == wilson_interval(curve.lost[2], 60)
    assert (curve.n, curve.attack) == (60, "PGD, 5 steps")


@pytest.mark.parametrize(
    ("attack", "norm"),
    [(fgsm, "linf"), (partial(fmn, norm="l2"), "linf"), (deepfool, "l2")],
)
def test_a_linear_model_is_lost_exactly_where_it_should_be(attack, norm):
    # One pixel decides, at 0.5; so its distance is the example's in every norm.
    curve = robust_curve(Threshold().eval(), examples(), attack, norm, [0.04, 0.051, 0.29, 0.31])
    assert curve.lost == (2, 6, 6, 8)


def test_unusable_radii_are_refused():
    with pytest.raises(ValueError, match="epsilons: expected at least one"):
        robust_curve(Threshold().eval(), examples(), fgsm, "linf", [])
    with pytest.raises(ValueError, match="epsilon: expected a radius >= 0"):
        robust_curve(Threshold().eval(), examples(), fgsm, "linf", [-0.1])
    with pytest.raises(ValueError, match="at least one example"):
        robust_curve(Threshold().eval(), [], fgsm, "linf", [0.1])


def test_a_bad_example_is_lost_at_every_radius():
    images, labels = examples()
    images[0] = torch.nan
    curve = robust_curve(Threshold().eval(), (images, labels), fmn_linf, "linf", [0.0, 0.051])
    assert curve.lost == (3, 7)
    assert list(curve.bad) == [0]


fmn_linf = partial(fmn, norm="linf")


def test_a_targeted_search_has_no_curve():
    with pytest.raises(ValueError, match="expected an untargeted one"):
        robust_curve(digits_classifier(), TEST, partial(fmn, targeted=True), "linf", [0.1])
