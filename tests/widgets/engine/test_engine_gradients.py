"""Logits and gradients of the page's engine, against torch."""

from __future__ import annotations

import json

import node_engine
import pytest
import torch
from node_engine import Network
from piecewise import Piece, torch_gradient
from torch import Tensor, nn

from within_epsilon.data import digits, fetch, photo
from within_epsilon.losses import cross_entropy
from within_epsilon.models import Classifier, digits_classifier, mlp, photo_classifier
from within_epsilon.runtime import seed_everything
from within_epsilon.widgets.engine import ENGINE, describe, weights

pytestmark = pytest.mark.skipif(bool(node_engine.missing()), reason=node_engine.missing())

KERNELS = ("wasm", "javascript")


def pictures(shape: tuple[int, int, int]) -> Tensor:
    """Return images of every kind: flat, saturated, noisy, regular."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, *shape, generator=generator)
    rows, columns = (torch.arange(n) for n in shape[1:])
    board = ((rows[:, None] // 4 + columns // 4) % 2).float().expand(shape)
    ramp = (columns / shape[2]).expand(shape)
    flat = [torch.full(shape, level) for level in (0.0, 0.5, 1.0)]
    return torch.stack([*flat, noise[0], noise[1].round(), noise[2] * 0.01, board, ramp, 1 - ramp])


def assert_like_torch(
    model: Classifier, network: Network, images: Tensor, kernels: str, atol: float = 1e-5
) -> None:
    """Hold logits, losses and gradients to torch's."""
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmin(dim=1)
    labels[::2] = logits.argmax(dim=1)[::2]
    losses = cross_entropy(logits, labels)
    found = node_engine.gradients(network, images, labels, kernels)
    for i, ours in enumerate(found):
        torch.testing.assert_close(ours.logits, logits[i], rtol=0, atol=1e-4)
        assert ours.loss == pytest.approx(losses[i].item(), rel=1e-4, abs=1e-6)
        piece = Piece(model, network.description["layers"], ours.pieces)
        expected = torch_gradient(piece, images[i], int(labels[i]))
        torch.testing.assert_close(ours.gradient, expected, rtol=0, atol=atol)
        assert piece.gap < 2e-6, f"image {i} is on another piece than torch's"
        assert expected.abs().max() > 0 or losses[i] < 1e-5


@pytest.mark.photo
@pytest.mark.parametrize("kernels", KERNELS)
def test_squeezenet(kernels: str) -> None:
    photos = torch.cat([photo("chelsea"), photo("coffee"), photo("chelsea").flip(3)])
    images = torch.cat([pictures((3, 224, 224)), photos])
    if kernels == "javascript":
        images = images[[1, 3, 6, 9]]  # 30 times slower
    description = json.loads((ENGINE / "networks" / "squeezenet1_0.json").read_text())
    content = fetch("compressed_SqueezeNet.net").read_bytes()
    network = Network(description, content, "deep-compression")
    assert_like_torch(photo_classifier(), network, images, kernels)


@pytest.mark.parametrize("kernels", KERNELS)
def test_digits_networks(kernels: str) -> None:
    seed_everything(0)
    images = torch.cat([pictures((1, 8, 8)), digits().test.images[:12]])
    for model in (digits_classifier(), Classifier(mlp(64, 100, 30, 10), 0.3, 0.2)):
        network = Network(describe(model, (1, 8, 8)), weights(model))
        assert_like_torch(model, network, images, kernels)
