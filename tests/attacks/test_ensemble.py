"""The ensemble: as strong as each of its members, and no gradient spent on who has fallen."""

from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import (
    apgd,
    autoattack,
    count_evaluations,
    describe,
    multi_targeted,
    square,
    stages_of,
)
from within_epsilon.threat import Ball

BALLS = {"linf": Ball("linf", 0.1), "l2": Ball("l2", 0.4), "l1": Ball("l1", 0.6)}
every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS)
SHORT = {"steps": 20, "targets": 3, "queries": 60}


def bent(classes=5):
    """Return a small network of 3 x 4 pixels that is far from linear, with its examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, classes)
        model = nn.Sequential(nn.Flatten(), *layers).double().eval()
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.5)
        images = torch.rand(40, 1, 3, 4, dtype=torch.float64)
        with torch.no_grad():
            model[-1].bias -= model(images).mean(dim=0)  # all classes occur
    labels = model(images).argmax(dim=1)
    labels[:3] = (labels[:3] + 1) % classes  # the model is wrong about three
    return model, images, labels


def standing(model, images, labels):
    with torch.no_grad():
        return model(images).argmax(dim=1) == labels


@every_ball
def test_it_is_as_strong_as_every_member(ball):
    model, images, labels = bent()
    images_adv = autoattack(model, images, labels, ball, **SHORT)
    survivors = standing(model, images_adv, labels)
    assert 0 < survivors.sum() < 37
    assert torch.equal(images_adv[:3], images[:3])
    assert ball.admits(images, images_adv).all()
    for member in (
        partial(apgd, steps=20),
        partial(multi_targeted, steps=20, targets=3, candidates=9),
        partial(square, queries=60),
    ):
        alone = standing(model, member(model, images, labels, ball), labels)
        assert (alone | ~survivors).all()


def passes(model, images, labels, ball):
    """Return what each attack is called, whom it was given, and the sizes of its passes."""
    asked, found = [], []
    hook = model.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    right = int(standing(model, images, labels).sum())

    def note(name, images_adv, alive):
        found.append((name, found[-1][-1] if found else right, asked[:], int(alive.sum())))
        assert torch.equal(alive, standing(model, images_adv, labels))
        asked.clear()

    asked.clear()
    autoattack(model, images, labels, ball, **SHORT, callback=note)
    hook.remove()
    assert found[0][2].pop(0) == len(images)
    return [(name, given, sizes) for name, given, sizes, _ in found]


@every_ball
def test_who_has_fallen_costs_nothing_more(ball):
    model, images, labels = bent()
    ours = passes(model, images, labels, ball)
    # In a ball of radius 0 nobody falls: what everything costs an example.
    full = passes(model, images, labels, Ball(ball.norm, 0))
    assert [name for name, *_ in ours] == ["APGD", "targeted APGD-DLR", "FMN", "Square"]
    assert ours[0][1] == 37
    for (_, alive, sizes), (_, everyone, most) in zip(ours, full, strict=True):
        assert everyone == 37
        assert sum(sizes) / alive <= sum(most) / everyone
        # A few take several of their runs at once, but no pass takes more than were given.
        assert max(sizes) <= len(images)


class OfOneSize(nn.Module):
    """A model whose passes all take 100 rows, so that their number changes no rounding."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        missing = images.detach()[:1].expand(100 - len(images), *images.shape[1:])
        return self.model(torch.cat([images, missing]))[: len(images)]


@every_ball
def test_runs_side_by_side_find_what_they_find_one_after_the_other(ball):
    body, images, labels = bent()
    model = OfOneSize(body).eval()
    alive = standing(model, autoattack(model, images, labels, ball, **SHORT), labels)
    rows = torch.cat([alive.nonzero().squeeze(1), (~alive).nonzero().squeeze(1)[3:9]])
    given = model, images[rows], labels[rows], ball
    attacks = stages_of(partial(autoattack, version="standard", steps=20, seed=5), ball)[:3]
    for attack in (*attacks, partial(apgd, steps=9, restarts=3)):
        found = attack(*given, indices=rows, at_once=1)
        for number in (2, 7, len(rows), 100):
            assert torch.equal(attack(*given, indices=rows, at_once=number), found)


def test_it_costs_a_third_of_its_members_on_everything():
    model, images, labels = bent()
    ball, steps, targets = Ball("linf", 0.15), 20, 3
    with count_evaluations(model) as spent:
        autoattack(model, images, labels, ball, **SHORT)
    everything = len(images) * steps * (1 + targets + 1)
    assert spent.gradients * 3 < everything


@pytest.mark.parametrize("classes", [2, 3])
@every_ball
def test_few_classes_will_do(ball, classes):
    model, images, labels = bent(classes)
    images_adv = autoattack(model, images, labels, ball, **SHORT)
    alive = standing(model, images_adv, labels)
    alone = standing(model, apgd(model, images, labels, ball, steps=20), labels)
    assert (alone | ~alive).all()


def test_masked_gradients_are_no_help():
    body, images, labels = bent()

    class Masked(nn.Module):
        def forward(self, images):
            logits = body(images)
            return logits.detach() + 0 * logits

    model, counts = Masked().eval(), {}
    autoattack(
        model,
        images,
        labels,
        BALLS["linf"],
        steps=5,
        queries=300,
        callback=lambda name, _, alive: counts.__setitem__(name, int(alive.sum())),
    )
    assert counts["Square"] < 0.8 * counts["FMN"]


def test_it_stops_when_nobody_stands():
    model, images, labels = bent()
    names = []
    autoattack(
        model,
        images,
        labels,
        Ball("linf", 1.0),
        **SHORT,
        callback=lambda name, *_: names.append(name),
    )
    assert len(names) < 4


def test_its_name_tells_its_members():
    name = "fast ensemble (APGD, targeted APGD-DLR, FMN, Square), 100 steps"
    assert describe(autoattack) == name
    assert describe(partial(autoattack, seed=3, targets=None)) == name
    fewer = "fast ensemble (APGD, targeted APGD-DLR, FMN, Square), 20 steps, 100 queries"
    assert describe(partial(autoattack, steps=20, queries=100)) == fewer
    assert describe(partial(apgd, steps=20, restarts=2)) == "APGD, 20 steps, 2 restarts"
    assert describe(multi_targeted) == "targeted APGD-DLR, 9 targets, 100 steps"


@pytest.mark.parametrize("setting", ["steps", "targets", "queries"])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting}: expected at least 1, received 0"):
        autoattack(*bent(), BALLS["linf"], **{setting: 0})
