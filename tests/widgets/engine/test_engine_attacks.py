"""Attacks of the page's engine, against the library's."""

from __future__ import annotations

import json
from typing import Any

import node_engine
import pytest
import torch
from node_engine import Network, decode, encode
from torch import Tensor

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits, fetch, photo
from within_epsilon.losses import cross_entropy, margin
from within_epsilon.models import Classifier, digits_classifier, photo_classifier
from within_epsilon.threat import Ball
from within_epsilon.widgets.engine import ENGINE, describe, weights

pytestmark = pytest.mark.usefixtures("node")


def digits_network() -> tuple[Classifier, Network]:
    model = digits_classifier()
    return model, Network(describe(model, (1, 8, 8)), weights(model))


def attack(network: Network, name: str, images: Tensor, labels: Tensor, **options: Any) -> Any:
    """Return the points that the engine visited, for each image: (step, image, loss, logits)."""
    found = node_engine.call(
        "attack",
        network=network.job(),
        name=name,
        images=[encode(image) for image in images],
        labels=labels.tolist(),
        options=options,
    )
    return [
        [(p["step"], decode(p["image"]).view(images.shape[1:]), p["loss"]) for p in points]
        for points in found
    ]


def assert_same_verdict(
    model: Classifier, ball: Ball, images: Tensor, labels: Tensor, ours: Tensor, theirs: Tensor
) -> None:
    """Both in the ball exactly; same class and loss where rounding does not decide them."""
    assert ball.admits(images, ours).all()
    with torch.no_grad():
        one, two = model(ours), model(theirs)
    decided = margin(two, two.argmax(dim=1)).abs() > 0.05
    assert decided.float().mean() > 0.8
    assert torch.equal(one.argmax(dim=1)[decided], two.argmax(dim=1)[decided])
    losses = cross_entropy(one, labels), cross_entropy(two, labels)
    torch.testing.assert_close(*losses, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("targeted", [False, True])
def test_digits_get_the_librarys_verdict(targeted: bool) -> None:
    model, network = digits_network()
    images, labels = digits().test.images[:20], digits().test.labels[:20]
    labels = (labels + 1) % 10 if targeted else labels
    for epsilon in (0.05, 0.2):
        ball = Ball("linf", epsilon)
        found = attack(network, "fgsm", images, labels, epsilon=epsilon, targeted=targeted)
        ours = torch.stack([points[-1][1] for points in found])
        theirs = fgsm(model, images, labels, ball, targeted=targeted)
        assert_same_verdict(model, ball, images, labels, ours, theirs)
        options = {"steps": 20, "targeted": targeted}
        options_here = {**options, "epsilon": epsilon, "randomStart": False}
        found = attack(network, "pgd", images, labels, **options_here)
        ours = torch.stack([points[-1][1] for points in found])
        theirs = pgd(model, images, labels, ball, random_start=False, **options)
        assert_same_verdict(model, ball, images, labels, ours, theirs)


@pytest.mark.photo
def test_photos_get_the_librarys_verdict() -> None:
    model = photo_classifier()
    description = json.loads((ENGINE / "networks" / "squeezenet1_0.json").read_text())
    content = fetch("compressed_SqueezeNet.net").read_bytes()
    network = Network(description, content, "deep-compression")
    images = torch.cat([photo("chelsea"), photo("coffee")])
    labels = model(images).argmax(dim=1)
    for epsilon, targeted, steps in ((1, False, 10), (2, True, 20)):
        ball = Ball("linf", epsilon / 255)
        goals = torch.tensor([404, 404]) if targeted else labels
        options = {"steps": steps, "targeted": targeted}
        options_here = {**options, "epsilon": ball.epsilon, "randomStart": False}
        found = attack(network, "pgd", images, goals, **options_here)
        ours = torch.stack([points[-1][1] for points in found])
        theirs = pgd(model, images, goals, ball, random_start=False, **options)
        assert_same_verdict(model, ball, images, goals, ours, theirs)


def test_pgd_visits_and_scores_every_point() -> None:
    model, network = digits_network()
    images, labels = digits().test.images[:3], digits().test.labels[:3]
    ball = Ball("linf", 0.1)
    found = attack(network, "pgd", images, labels, epsilon=0.1, steps=5, seed=1)
    other = attack(network, "pgd", images, labels, epsilon=0.1, steps=5, seed=2)
    again = attack(network, "pgd", images, labels, epsilon=0.1, steps=5, seed=1)
    for i, points in enumerate(found):
        assert [step for step, _, _ in points] == [0, 1, 2, 3, 4, 5]
        for _, image, loss in points:
            assert ball.admits(images[i : i + 1], image[None]).all()
            expected = cross_entropy(model(image[None]), labels[i : i + 1]).item()
            assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert points[-1][2] > points[0][2]
        assert torch.equal(points[-1][1], again[i][-1][1])
        start = points[0][1] - images[i]
        assert not torch.equal(points[0][1], other[i][0][1])
        free = (images[i] > 0.1) & (images[i] < 0.9)  # where [0, 1] does not cut the start short
        assert start[free].abs().mean() == pytest.approx(0.05, abs=0.02)  # uniform: half the reach
        assert start[free].abs().max() <= 0.1 + 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_attack_both_of_chapter_10_holds_from_every_start(seed: int) -> None:
    """What the chapter says of its digit lab, which draws other starts in the page than here."""
    networks = [digits_classifier(), digits_classifier(robust="linf")]
    image, label = digits().test.images[19:20], digits().test.labels[19:20]
    assert label.item() == 0

    def both_read_it(attacked: int, epsilon: float) -> list[bool]:
        model = networks[attacked]
        network = Network(describe(model, (1, 8, 8)), weights(model))
        options = {"epsilon": epsilon, "steps": 20, "seed": seed}
        (points,) = attack(network, "pgd", image, label, **options)
        with torch.no_grad():
            return [model(points[-1][1][None]).argmax().item() == 0 for model in networks]

    assert both_read_it(0, 0.08) == [True, True]
    assert both_read_it(0, 0.14) == [False, True]
    assert both_read_it(0, 0.25) == [False, True]
    assert both_read_it(1, 0.25)[1]
    assert not both_read_it(1, 0.3)[0]
    assert both_read_it(1, 0.35) == [False, False]


def test_noise_is_as_large_as_the_ball_and_balanced() -> None:
    _, network = digits_network()
    images, labels = digits().test.images[:8], digits().test.labels[:8]
    found = attack(network, "noise", images, labels, epsilon=0.1, seed=3)
    noisy = torch.stack([points[-1][1] for points in found])
    assert all(len(points) == 1 for points in found)
    assert Ball("linf", 0.1).admits(images, noisy).all()
    inside = (images > 0.1) & (images < 0.9)
    delta = (noisy - images)[inside]
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.1))
    assert (delta > 0).float().mean() == pytest.approx(0.5, abs=0.15)


def test_a_step_is_the_librarys_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(4000, generator=generator)
    clean[:400] = torch.tensor([0.0, 1.0, 1e-8, 0.5]).repeat(100)
    for epsilon, step_size in ((8 / 255, 2 / 255), (0.3, 0.3), (0.0, 0.1), (1e-3, -3e-4)):
        ball = Ball("linf", epsilon)
        noise = 2 * torch.rand(4000, generator=generator) - 1
        image = ball.perturb(clean[None], epsilon * noise[None])[0]
        gradient = noise.flip(0)
        gradient[::7] = 0
        answer = node_engine.call(
            "step",
            clean=encode(clean),
            image=encode(image),
            gradient=encode(gradient),
            stepSize=step_size,
            epsilon=epsilon,
        )
        region = ball.within(clean[None])
        expected = region.step(image[None], gradient[None], step_size)[0]
        assert torch.equal(decode(answer), expected)
        assert ball.admits(clean[None], decode(answer)[None]).all()
