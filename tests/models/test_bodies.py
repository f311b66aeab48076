"""Bodies that are more than a plain module: compiled, parallel, scripted, quantised."""

import warnings

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.utils.checkpoint import checkpoint

from within_epsilon.attacks import fgsm, square
from within_epsilon.data import digits
from within_epsilon.models import Classifier, digits_classifier
from within_epsilon.modes import training_modules
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
IMAGES, LABELS = digits().test[:6]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Checkpointed(nn.Module):
    def __init__(self, net, use_reentrant):
        super().__init__()
        self.net, self.use_reentrant = net, use_reentrant

    def forward(self, images):
        return checkpoint(self.net, images, use_reentrant=self.use_reentrant)


def dynamically_quantised(net):
    return quantization.quantize_dynamic(net, {nn.Linear})


def statically_quantised(net):
    """Return a network that is quantised to its very end: its logits are, too."""
    net = nn.Sequential(quantization.QuantStub(), net).eval()
    net.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(net)
    prepared(IMAGES)
    return quantization.convert(prepared)


DIFFERENTIABLE = {
    "compiled": lambda net: torch.compile(net, backend="aot_eager"),
    "parallel": nn.DataParallel,
    "scripted": torch.jit.script,
    "traced": lambda net: torch.jit.trace(net, IMAGES),
    "frozen": lambda net: torch.jit.freeze(torch.jit.script(net)),
    "checkpointed": lambda net: Checkpointed(net, use_reentrant=False),
}


@pytest.mark.parametrize("wrap", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)
def test_bodies_with_gradients_answer_and_are_attacked_like_the_plain_one(wrap):
    plain = Classifier(digits_classifier().body, 0.1, 0.9).eval()
    model = Classifier(wrap(digits_classifier().body), 0.1, 0.9).eval()
    assert training_modules(model) == []
    torch.testing.assert_close(model(IMAGES), plain(IMAGES))
    expected = fgsm(plain, IMAGES, LABELS, BALL)
    assert (fgsm(model, IMAGES, LABELS, BALL) - expected).abs().max() < 1e-6
    assert model.predict(IMAGES, top=1)[0][0].index == plain.predict(IMAGES, top=1)[0][0].index


@pytest.mark.parametrize("wrap", [dynamically_quantised, statically_quantised])
def test_quantised_bodies_answer_and_fall_to_attacks_without_gradients(wrap):
    model = Classifier(wrap(digits_classifier().body))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what convert() makes bears the flag of train mode
        answers = model.predict(IMAGES, top=1)
    expected = digits_classifier().predict(IMAGES, top=1)
    assert [row[0].index for row in answers] == [row[0].index for row in expected]
    images_adv = square(model, IMAGES, LABELS, Ball("linf", 0.3), queries=50)
    assert (model(images_adv).argmax(1) != LABELS).any()


def test_reentrant_checkpoints_are_refused_with_the_remedy():
    model = Classifier(Checkpointed(digits_classifier().body, use_reentrant=True)).eval()
    assert torch.equal(model(IMAGES), digits_classifier()(IMAGES))
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        fgsm(model, IMAGES, LABELS, BALL)


def test_a_classifier_compiles_as_one_graph():
    plain = Classifier(digits_classifier().body, 0.1, 0.9, "0123456789").eval()
    model = torch.compile(plain, backend="eager", fullgraph=True)
    assert torch.equal(model(IMAGES), plain(IMAGES))
    assert model.predict(IMAGES[:1], top=1) == plain.predict(IMAGES[:1], top=1)
