"""Counts of what an attack asks for, against what its method says."""

import pytest
import torch
from torch import nn

from within_epsilon.attacks import count_evaluations, noise_control, pgd
from within_epsilon.threat import Ball

IMAGES, LABELS = torch.full((7, 4), 0.5), torch.zeros(7, dtype=torch.int64)
BALL = Ball("linf", 0.1)


def test_images_are_counted_and_not_calls():
    model = nn.Linear(4, 3).eval()
    with count_evaluations(model) as spent:
        pgd(model, IMAGES, LABELS, BALL, steps=5)
        assert (spent.forwards, spent.gradients) == (35, 35)
        pgd(model, IMAGES[:2], LABELS[:2], BALL, steps=5, restarts=3)
        assert (spent.forwards, spent.gradients) == (35 + 2 * 3 * 6, 35 + 2 * 3 * 5)
        noise_control(model, IMAGES, LABELS, BALL)
        model(IMAGES)
    assert (spent.forwards, spent.gradients) == (35 + 36 + 7, 35 + 30)
    model(IMAGES).sum().backward()  # after the block
    assert (spent.forwards, spent.gradients) == (35 + 36 + 7, 35 + 30)


def test_what_is_no_tensor_is_left_to_the_attack_to_refuse():
    class Pair(nn.Identity):
        def forward(self, images):
            return images, images

    model = Pair().eval()
    with count_evaluations(model) as spent, pytest.raises(TypeError, match="Classifier"):
        pgd(model, IMAGES, LABELS, BALL, steps=5)
    assert spent.forwards == 0
    assert not model._forward_hooks
