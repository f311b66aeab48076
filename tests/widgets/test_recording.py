"""Models of other precisions in the explorers: what is shown is what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, pgd, random_noise
from within_epsilon.data import digits
from within_epsilon.models import Classifier, digits_classifier
from within_epsilon.threat import Ball
from within_epsilon.widgets import DigitLab, EpsilonExplorer, PGDExplorer, PhotoLab
from within_epsilon.widgets.recording import in_float32

BALL = Ball("linf", 0.1)
IMAGES, LABELS = digits().test[:1]


def plane(model: nn.Module, images: Tensor) -> PGDExplorer:
    noise = random_noise(IMAGES, BALL).to(images)
    return PGDExplorer(model, images, LABELS, BALL, fgsm(model, images, LABELS, BALL), noise)


EXPLORERS: dict[str, Any] = {
    "epsilon": lambda model, images: EpsilonExplorer(model, images, target=3, epsilon=0.1),
    "photo": lambda model, images: PhotoLab(model, images, targets=[3], epsilon=0.1),
    "digit": lambda model, images: DigitLab(model, model, names="ab", images=images),
    "plane": plane,
}


def whole(dtype: torch.dtype) -> nn.Module:
    return digits_classifier().to(dtype)


def body_alone(dtype: torch.dtype) -> nn.Module:
    """A classifier around a converted body: its own constants are float32."""
    return Classifier(digits_classifier().body.to(dtype), categories="0123456789").eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("model_in", [whole, body_alone])
@pytest.mark.parametrize("kind", EXPLORERS)
def test_explorers_take_models_of_any_precision(
    kind: str, model_in: Any, dtype: torch.dtype
) -> None:
    model = model_in(dtype)
    explorer = EXPLORERS[kind](model, IMAGES.to(dtype))
    assert "<img" in explorer.still()
    state = explorer.page_state()
    if kind != "plane":
        assert explorer.perturbed().dtype == torch.float32
        assert (explorer.perturbed() - IMAGES).abs().max() <= 0.1 + 1e-6
    if kind == "digit":
        assert all("missing" not in network for network in state["networks"])
    assert {tensor.dtype for tensor in model.parameters()} == {dtype}


def test_a_half_precision_model_answers_for_itself() -> None:
    model = whole(torch.bfloat16)
    alike = in_float32(model)
    expected = model(IMAGES.bfloat16())
    assert torch.equal(alike(IMAGES), expected.float())
    assert not torch.equal(alike(IMAGES), digits_classifier()(IMAGES))
    assert alike.categories == model.categories
    images_adv = pgd(alike, IMAGES, LABELS, Ball("linf", 0.3), steps=10)
    assert images_adv.dtype == torch.float32
    assert model(images_adv.bfloat16()).argmax(1) != LABELS
    assert in_float32(alike) is alike
    single = digits_classifier()
    assert in_float32(single) is single


def test_no_explorer_changes_the_mode_of_a_models_parts() -> None:
    model = Classifier(nn.Sequential(digits_classifier().body.to(torch.bfloat16), nn.Dropout(0.0)))
    model.body[0].eval()
    modes = [module.training for module in model.modules()]
    for make in EXPLORERS.values():
        make(model, IMAGES.bfloat16()).page_state()
        assert [module.training for module in model.modules()] == modes
