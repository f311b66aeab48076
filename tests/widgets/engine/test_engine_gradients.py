"""Logits and gradients of the page's engine, against torch."""

from __future__ import annotations

import json

import node_engine
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from kinks import off_kinks
from node_engine import Network
from piecewise import Piece, torch_gradient
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire

from within_epsilon.data import digits, fetch, photo
from within_epsilon.losses import cross_entropy
from within_epsilon.models import Classifier, digits_classifier, mlp, photo_classifier
from within_epsilon.runtime import seed_everything
from within_epsilon.widgets.engine import ENGINE, describe, weights

pytestmark = pytest.mark.usefixtures("node")

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


def torch_plainly(model: Classifier, image: Tensor, label: int) -> Tensor:
    """Differentiate the loss of one image in its pixels."""
    images = image[None].clone().requires_grad_()
    loss = cross_entropy(model(images), torch.tensor([label]))
    return torch.autograd.grad(loss.sum(), images)[0][0]


def squeezenet() -> Network:
    """Return the photo network as the page has it."""
    description = json.loads((ENGINE / "networks" / "squeezenet1_0.json").read_text())
    content = fetch("compressed_SqueezeNet.net").read_bytes()
    return Network(description, content, "deep-compression")


@pytest.mark.photo
@pytest.mark.parametrize("kernels", KERNELS)
def test_squeezenet(kernels: str) -> None:
    photos = torch.cat([photo("chelsea"), photo("coffee"), photo("chelsea").flip(3)])
    images = torch.cat([pictures((3, 224, 224)), photos])
    if kernels == "javascript":
        images = images[[1, 3, 6, 9]]  # 30 times slower
    assert_like_torch(photo_classifier(), squeezenet(), images, kernels)


@pytest.mark.photo
def test_squeezenet_where_its_gradient_is_one() -> None:
    """Hold the gradient to torch's plainly, with no word on the piece.

    On a photo as it is, torch's own gradients in float32 and float64 may differ by 0.1, because
    of kinks within rounding. So torch moves each image off them, by a quarter of a grey level
    at most and without asking the engine; the flat colours, which must stay flat, are two that
    are clear of kinks.
    """
    model, network = photo_classifier(), squeezenet()
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 224, 224, generator=generator)
    normal = torch.randn(3, 224, 224, generator=generator)
    blocks = torch.rand(3, 112, 112, generator=generator).round()
    blocks = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    colours = torch.tensor([[168, 15, 237], [135, 70, 169]]) / 255
    flat = list(colours[:, :, None, None].expand(-1, -1, 224, 224).contiguous())
    saturated = [noise.round(), blocks, (0.5 + normal).clamp(0, 1)]
    faint = [0.495 + 0.01 * noise, 0.45 + 0.1 * noise]
    noisy = [noise, *faint, (0.5 + 0.2 * normal).clamp(0, 1)]
    photos = [photo("chelsea")[0], photo("coffee")[0], photo("chelsea")[0].flip(2)]
    given = torch.stack([*flat, *saturated, *noisy, *photos])
    with torch.no_grad():
        labels = [int(model(image[None]).argmin()) for image in given]
    layers = network.description["layers"]
    clear = [off_kinks(model, layers, x, y) for x, y in zip(given, labels, strict=True)]
    assert all(map(torch.equal, clear[:2], flat))
    found = node_engine.gradients(network, torch.stack(clear), torch.tensor(labels))
    for image, label, ours in zip(clear, labels, found, strict=True):
        expected = torch_plainly(model, image, label)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(ours.gradient, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernels", KERNELS)
def test_digits_networks(kernels: str) -> None:
    seed_everything(0)
    images = torch.cat([pictures((1, 8, 8)), digits().test.images[:12]])
    for model in (digits_classifier(), Classifier(mlp(64, 100, 30, 10), 0.3, 0.2)):
        network = Network(describe(model, (1, 8, 8)), weights(model))
        assert_like_torch(model, network, images, kernels)
        labels = torch.arange(len(images)) % 10
        found = node_engine.gradients(network, images, labels, kernels)
        for image, label, ours in zip(images, labels, found, strict=True):
            expected = torch_plainly(model, image, int(label))
            torch.testing.assert_close(ours.gradient, expected, rtol=0, atol=1e-5)


def layer(draw: st.DrawFn, channels: int) -> tuple[nn.Module, int]:
    """Draw a layer, with how many channels it puts out."""
    size, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["conv", "conv", "pool", "fire"]))
    if kind == "pool":
        return nn.MaxPool2d(size, stride, ceil_mode=draw(st.booleans())), channels
    if kind == "fire":
        narrow, one, three = (draw(st.integers(1, 4)) for _ in range(3))
        return Fire(channels, narrow, one, three), one + three
    out = draw(st.integers(1, 6))
    conv = nn.Conv2d(channels, out, size, stride, padding=draw(st.integers(0, 3)))
    if draw(st.booleans()):
        conv.weight.data *= torch.rand_like(conv.weight) < 0.3  # sparse, to whole filters of zeros
    return nn.Sequential(conv, *[nn.ReLU() for _ in range(draw(st.integers(0, 1)))]), out


@st.composite
def networks(draw: st.DrawFn) -> tuple[Classifier, tuple[int, int, int]]:
    """Draw a small classifier that torch can run on images of a shape."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 13)), draw(st.integers(1, 40))
    channels, layers = shape[0], []
    for _ in range(draw(st.integers(1, 4))):
        module, channels = layer(draw, channels)
        layers.append(module)
    body = nn.Sequential(*layers)
    try:
        size = body(torch.zeros(1, *shape)).numel()
    except RuntimeError:  # a window larger than what is left of the image
        assume(False)
    ends = {
        "linear": [nn.Flatten(), nn.Dropout(), nn.Linear(size, 7)],
        "mean": [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    }
    end = draw(st.sampled_from(sorted(ends)))
    assume(end == "linear" or channels > 1)  # two classes or more
    body.extend(ends[end])
    mean = torch.rand(shape[0]).tolist()
    return Classifier(body, mean, [m + 0.1 for m in mean]).eval(), shape


@pytest.mark.parametrize("kernels", KERNELS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=networks())
def test_any_small_network(kernels: str, drawn: tuple[Classifier, tuple[int, int, int]]) -> None:
    model, shape = drawn
    network = Network(describe(model, shape), weights(model))
    images = torch.rand(2, *shape)
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmin(dim=1)
    for i, ours in enumerate(node_engine.gradients(network, images, labels, kernels)):
        torch.testing.assert_close(ours.logits, logits[i], rtol=1e-5, atol=1e-5)
        piece = Piece(model, network.description["layers"], ours.pieces)
        expected = torch_gradient(piece, images[i], int(labels[i]))
        torch.testing.assert_close(ours.gradient, expected, rtol=1e-4, atol=1e-6)
        assert piece.gap < 2e-6
