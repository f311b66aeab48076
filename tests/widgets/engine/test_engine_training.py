"""Training in the page: the recipe is torch's, and so is what comes of it."""

from __future__ import annotations

import base64
import json
import zlib
from functools import cache
from math import sqrt
from typing import Any

import node_engine
import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from within_epsilon import attacks
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy
from within_epsilon.models import small_cnn
from within_epsilon.threat import Ball
from within_epsilon.widgets.engine import ENGINE
from within_epsilon.widgets.training import RUNS, network, pack_digits

pytestmark = pytest.mark.usefixtures("node")

BALL = Ball("linf", 0.3)


def train(**changed: Any) -> dict[str, Any]:
    """Train in the engine."""
    options = {"epsilon": 0.3, "steps": 1, "start": "clean", "epochs": 1, "seed": 0, "watched": 0}
    stops = changed.pop("stops", [])
    answer: dict[str, Any] = node_engine.call(
        "train", description=network(), options=options | changed, stops=stops
    )
    return answer


def body_with(weights: str) -> nn.Sequential:
    """Return torch's network with weights of the engine's."""
    body = small_cnn()
    shapes = {name: theta.shape for name, theta in body.named_parameters()}
    found = load(base64.b64decode(weights))
    body.load_state_dict({name: found[name].view(shape) for name, shape in shapes.items()})
    return body.eval()


@cache
def beginning(seed: int) -> str:
    """Return the weights that the engine draws: those after no epoch."""
    weights: str = train(epochs=0, steps=0, seed=seed)["weights"]
    return weights


def test_the_digits_that_travel_are_the_librarys() -> None:
    committed = zlib.decompress((ENGINE / "digits.bin").read_bytes())
    assert committed == zlib.decompress(pack_digits())
    train_split, held_out, _ = digits()
    assert int.from_bytes(committed[:2], "little") == len(train_split)
    levels = np.frombuffer(committed, np.uint8)[-64 * len(held_out) :]
    np.testing.assert_array_equal(levels, (held_out.images * 16).flatten().numpy())


def test_weights_begin_as_torchs_do() -> None:
    """Uniform up to one over the root of a weight's number of inputs, biases too."""
    first, again, other = (body_with(beginning(seed)) for seed in (0, 0, 1))
    for name, module in first.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        bound = 1 / sqrt(module.weight[0].numel())
        drawn = torch.cat([module.weight.flatten(), module.bias]).detach() / bound
        assert 0.9 < drawn.abs().max() <= 1, name
        assert drawn.mean().abs() < 3 / sqrt(3 * len(drawn)), name
        assert float(drawn.std()) == pytest.approx(1 / sqrt(3), abs=0.08), name
        assert torch.equal(module.weight, again.get_submodule(name).weight)
        assert not torch.equal(module.weight, other.get_submodule(name).weight)


def random_numbers(seed: int, n: int) -> list[float]:
    """Return what `makeRandom` of random.js draws."""
    mask = 2**32 - 1
    found = []
    for i in range(1, n + 1):
        bits = (seed + i * 0x9E3779B9) & mask
        bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & mask
        bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & mask
        found.append((bits ^ (bits >> 16)) / 2**32)
    return found


def order_of(epoch: int, n: int, seed: int = 0) -> list[int]:
    """Return the order of the training digits in an epoch."""
    order = list(range(n))
    draws = random_numbers((seed << 20) + (epoch << 12) + n, n - 1)
    for last, draw in zip(range(n - 1, 0, -1), draws, strict=True):
        other = int(draw * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def one_epoch(body: nn.Module, attack: Any) -> float:
    """Train with torch's own optimiser in the same order; return the mean loss."""
    images, labels = digits().train[:]
    optimiser = torch.optim.Adam(body.parameters(), lr=2e-3)
    losses = []
    for batch in torch.tensor(order_of(1, len(labels))).split(64):
        moved = attack(body, images[batch], labels[batch])
        loss = cross_entropy(body(moved), labels[batch])
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("steps", [0, 1])
def test_an_epoch_is_torchs(steps: int) -> None:
    """Minibatches, FGSM, the mean loss and Adam: the same weights after 19 steps of 2e-3."""
    attack = {
        0: lambda body, images, labels: images,
        1: lambda body, images, labels: attacks.fgsm(body, images, labels, BALL),
    }
    body = body_with(beginning(0))
    before = [theta.detach().clone() for theta in body.parameters()]
    loss = one_epoch(body, attack[steps])
    answer = train(steps=steps)
    assert answer["points"][1]["loss"] == pytest.approx(loss, abs=1e-4)
    found = body_with(answer["weights"])
    for theta, ours, start in zip(body.parameters(), found.parameters(), before, strict=True):
        assert (theta - start).abs().max() > 5e-3
        torch.testing.assert_close(ours, theta, rtol=0, atol=2e-4)


def test_stopped_and_gone_on_comes_to_the_same_weights() -> None:
    """Stopped within a minibatch, while it counts, and between epochs."""
    options = {"epochs": 2, "steps": 2, "start": "random"}
    whole = train(**options)
    cut = train(**options, stops=[1, 150, 230, 1200, 1500])
    assert cut == whole
    assert [point["epoch"] for point in whole["points"]] == [0, 1, 2]


@pytest.mark.parametrize("start", ["clean", "random", "noise"])
def test_a_larger_ball_makes_training_harder(start: str) -> None:
    """The mean loss after an epoch, of any start, and with steps that differ in number."""
    small, large = (
        train(epsilon=e, steps=3, start=start)["points"][-1]["loss"] for e in (0.05, 0.3)
    )
    assert small < large
    assert train(steps=1, start=start)["points"][-1]["loss"] != large


def read_right(body: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return body(images).argmax(dim=1) == labels


def test_counts_are_torchs() -> None:
    """Clean and FGSM to the digit; PGD, which starts elsewhere, within five of 200."""
    answer = train(epochs=4, steps=2, start="random", epsilon=0.1, watched=5)
    point, body = answer["points"][-1], body_with(answer["weights"])
    images, labels = digits().validation[:]
    ball = Ball("linf", 0.1)
    right = read_right(body, images, labels)
    assert point["clean"] == int(right.sum())
    stepped = attacks.fgsm(body, images, labels, ball)
    assert point["fgsm"] == int((right & read_right(body, stepped, labels)).sum())
    holds = right.clone()

    def look(step: int, images_adv: Tensor, losses: Tensor) -> None:
        holds.logical_and_(read_right(body, images_adv, labels))

    attacks.pgd(body, images, labels, ball, steps=20, callback=look)
    assert abs(point["pgd"] - int(holds.sum())) <= 5
    assert 20 < point["pgd"] < point["fgsm"] < point["clean"]
    shown = torch.stack([node_engine.decode(image) for image in point["images"]]).view(5, 1, 8, 8)
    assert (shown - images[:5]).abs().max() <= 0.1
    assert body(shown).argmax(dim=1).tolist() == point["answers"]


def test_the_recorded_runs_are_the_engines() -> None:
    """Their first epochs; .ci/record_training.py writes them."""
    for run in json.loads(RUNS.read_text(encoding="utf-8")):
        options = {key: run[key] for key in ("epsilon", "steps", "start", "seed")}
        points = train(**options, epochs=2)["points"]
        found = [[point["clean"], point["fgsm"], point["pgd"]] for point in points]
        assert found == run["points"][:3]
        assert len(run["points"]) == len(run["answers"]) == run["epochs"] + 1


def torch_run(seed: int, steps: int, epochs: int) -> nn.Module:
    """Train by the same recipe with torch: the engine's first weights, shuffles of its own kind."""
    body = body_with(beginning(seed))
    optimiser = torch.optim.Adam(body.parameters(), lr=2e-3)
    images, labels = digits().train[:]
    for epoch in range(1, epochs + 1):
        for batch in torch.tensor(order_of(epoch, len(labels), seed)).split(64):
            call = (body, images[batch], labels[batch], BALL)
            moved = attacks.pgd(*call, steps=steps, seed=1000 * seed + epoch, indices=batch)
            optimiser.zero_grad()
            cross_entropy(body(moved), labels[batch]).mean().backward()
            optimiser.step()
    return body


@pytest.mark.slow
@pytest.mark.timeout(2400)  # seconds; a few minutes on a machine of one's own
def test_robust_accuracy_is_torchs_over_five_seeds() -> None:
    """PGD with three steps, 60 epochs, ε = 0.3: the means differ by one standard error at most.

    Both begin with the same weights, take the digits in the same order, and are judged by the
    same attack on the same 400 test digits. Where the inner attacks start, each draws by itself.
    """
    images, labels = digits().test[:]

    def robust(body: nn.Module) -> float:
        images_adv = attacks.pgd(body, images, labels, BALL, steps=40, restarts=2)
        return float(read_right(body, images_adv, labels).double().mean())

    options = {"steps": 3, "start": "random", "epochs": 60}
    ours = [robust(body_with(train(seed=seed, **options)["weights"])) for seed in range(5)]
    theirs = [robust(torch_run(seed, 3, 60)) for seed in range(5)]
    error = np.std(theirs, ddof=1) / sqrt(5)
    assert abs(np.mean(ours) - np.mean(theirs)) <= error, (ours, theirs)
    assert min(np.mean(ours), np.mean(theirs)) > 0.2  # FGSM would leave one digit in a hundred


@pytest.mark.slow
def test_fgsm_collapses_within_the_epochs_that_the_page_takes() -> None:
    """How long they take is for `make benchmark-engine TABLES=training` to say."""
    last = train(epochs=60, watched=5)["points"][-1]
    assert last["pgd"] <= 4 < 60 < last["fgsm"]
