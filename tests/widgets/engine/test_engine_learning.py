"""The gradient in weights and biases, and training with it, against torch."""

from __future__ import annotations

import node_engine
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from node_engine import Network
from test_engine_gradients import KERNELS, networks
from torch import Tensor

from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy
from within_epsilon.models import Classifier, mlp, small_cnn
from within_epsilon.runtime import seed_everything
from within_epsilon.widgets.engine import describe, weights

pytestmark = pytest.mark.usefixtures("node")

STEP = 0.01


def assert_learns_like_torch(
    model: Classifier, images: Tensor, labels: Tensor, kernels: str, rtol: float = 1e-5
) -> None:
    """Hold the summed gradients to torch's, and the network after one step along them."""
    answer = node_engine.call(
        "learn",
        kernels,
        network=Network(describe(model, images.shape[1:]), weights(model)).job(),
        images=[node_engine.encode(image) for image in images],
        labels=labels.tolist(),
        step=STEP,
    )
    parameters = dict(model.body.named_parameters())
    loss = cross_entropy(model(images), labels).sum()
    slopes = torch.autograd.grad(loss, list(parameters.values()))
    assert set(answer["gradients"]) == set(parameters)
    for (name, theta), slope in zip(parameters.items(), slopes, strict=True):
        found = node_engine.decode(answer["gradients"][name]).view_as(theta)
        scale = max(1.0, float(slope.abs().max()))
        torch.testing.assert_close(found, slope, rtol=0, atol=rtol * scale)
        theta.data -= STEP * slope
    first = images[:1].clone().requires_grad_()
    logits = model(first)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels[:1]).sum(), first)
    torch.testing.assert_close(node_engine.decode(answer["logits"]), logits[0], rtol=0, atol=1e-4)
    found = node_engine.decode(answer["gradient"]).view_as(gradient)
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kernels", KERNELS)
def test_gradients_in_the_weights_are_torchs(kernels: str) -> None:
    """One digit at a time to 1e-5, a minibatch to 1e-5 of its largest slope."""
    seed_everything(0)
    images, labels = digits().train[:16]
    for body, mean in ((small_cnn(), 0.0), (mlp(64, 30, 10), 0.3)):
        model = Classifier(body, mean, 0.5)
        assert_learns_like_torch(model, images[:1], labels[:1], kernels)
        assert_learns_like_torch(model, images, labels, kernels)


@pytest.mark.parametrize("kernels", KERNELS)
def test_weights_that_are_zero_learn_too(kernels: str) -> None:
    seed_everything(0)
    images, labels = digits().train[:4]
    model = Classifier(small_cnn())
    for theta in model.parameters():
        theta.data *= torch.rand_like(theta) < 0.5
    assert_learns_like_torch(model, images, labels, kernels)


@pytest.mark.parametrize("kernels", KERNELS)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(drawn=networks())
def test_any_small_network_learns(
    kernels: str, drawn: tuple[Classifier, tuple[int, int, int]]
) -> None:
    """Any kernel size, stride and padding; with branches and without."""
    model, shape = drawn
    assume(list(model.body.parameters()))
    images = torch.rand(2, *shape)
    assert_learns_like_torch(model, images, model(images).argmin(dim=1), kernels, rtol=1e-4)
