"""Modules that a model keeps where torch does not look: found, named, and left as they were."""

import types
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import pgd
from within_epsilon.evaluation import accuracy, robust_curve
from within_epsilon.modes import training_modules
from within_epsilon.parts import modules_of
from within_epsilon.runtime import untouched
from within_epsilon.threat import Ball
from within_epsilon.verification import certify_smoothed

with torch.random.fork_rng():
    torch.manual_seed(0)
    HIDDEN = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    IMAGES = torch.rand(6, 1, 2, 2)
    LABELS = HIDDEN(IMAGES).argmax(dim=1)  # all right: of one alone there are no statistics


class Keeps(nn.Module):
    """Answers by a function, whose ingredients torch does not register."""

    def __init__(self, kept, answer):
        super().__init__()
        self.kept, self.answer = kept, answer

    def forward(self, images):
        return self.answer(self.kept, images)


class FromGlobals(nn.Module):
    def forward(self, images):
        return HIDDEN(images)


def closing_over(net):
    return lambda images: net(images)


def call(kept, images):
    return kept(images)


MODELS = {
    "list": Keeps([HIDDEN], lambda kept, x: kept[0](x)),
    "tuple": Keeps((0, HIDDEN), lambda kept, x: kept[1](x)),
    "dictionary": Keeps({"net": HIDDEN}, lambda kept, x: kept["net"](x)),
    "nested": Keeps([{"nets": (HIDDEN,)}], lambda kept, x: kept[0]["nets"][0](x)),
    "partial": Keeps(partial(HIDDEN), call),
    "method": Keeps(types.MethodType(nn.Module.__call__, HIDDEN), call),
    "closure": Keeps(closing_over(HIDDEN), call),
    "global": FromGlobals(),
}


@pytest.fixture(autouse=True)
def in_train_mode():
    HIDDEN.train()
    yield
    HIDDEN.eval()


@pytest.mark.parametrize("where", MODELS)
def test_what_is_kept_elsewhere_is_found_and_its_mode_is_warned_of(where):
    model = MODELS[where].eval()
    (name,) = training_modules(model)
    assert dict(modules_of(model))[name] is HIDDEN[1]
    for use in (
        lambda: accuracy(model, IMAGES, LABELS),
        lambda: pgd(model, IMAGES, LABELS, Ball("linf", 1e-4), steps=1),
        lambda: robust_curve(model, (IMAGES, LABELS), pgd, "linf", [1e-4]),
    ):
        with pytest.warns(UserWarning, match=r"train mode.*which model\.eval\(\) does not reach"):
            use()
    HIDDEN.eval()
    assert training_modules(model) == []


@pytest.mark.parametrize("where", MODELS)
def test_what_is_kept_elsewhere_stays_as_it_was(where):
    before = [buffer.clone() for buffer in HIDDEN.buffers()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accuracy(MODELS[where], IMAGES, LABELS)
        certify_smoothed(MODELS[where], IMAGES[:2], 0.1, n=20, n_selection=5)
    assert all(map(torch.equal, before, HIDDEN.buffers()))


class Attribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.HIDDEN = nn.Linear(4, 3)

    def forward(self, images):
        return self.HIDDEN(images.flatten(1))


def test_an_attribute_of_a_globals_name_is_no_alarm():
    assert training_modules(Attribute()) == []


class Rewrites(nn.Module):
    """Keeps its own statistics, by new tensors in the old ones' place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("seen", torch.zeros(0))
        self.register_buffer("last", None)
        self.register_buffer("graph", torch.eye(2).to_sparse())

    def forward(self, images):
        self.mean = 0.9 * self.mean + 0.1 * images.detach().mean()
        self.seen.resize_(len(images)).fill_(1)
        self.last = images.detach()
        self.register_buffer("another", images.detach().mean())
        return images.flatten(1)


def test_buffers_that_are_replaced_resized_or_added_are_put_back():
    model = Rewrites()
    mean, names = model.mean, list(dict(model.named_buffers()))
    with untouched(model):
        model(torch.rand(5, 3))
    assert model.mean is mean
    assert mean.item() == 0
    assert model.seen.shape == (0,)
    assert model.last is None
    assert list(dict(model.named_buffers())) == names
