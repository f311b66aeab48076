"""The zoo of broken defences: each does what its docstring says."""

import pytest
import torch
from torch import nn

from within_epsilon.data import digits
from within_epsilon.defences import (
    Detector,
    KWinners,
    Quantised,
    RandomlyTransformed,
    Saturated,
    Voting,
    dropout_mlp,
    k_winners_mlp,
)
from within_epsilon.models import digits_classifier, mlp

IMAGES = digits().test.images[:20]


def slope(model):
    leaf = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).logsumexp(dim=1).sum(), leaf)
    return gradient


def test_a_quantiser_has_levels_and_no_slope():
    model = Quantised(digits_classifier(), levels=5)
    levels = torch.arange(5) / 4
    assert torch.isin(model.quantise(IMAGES), levels).all()
    assert (model.quantise(IMAGES) - IMAGES).abs().max() <= 1 / 8
    assert torch.equal(model(IMAGES), digits_classifier()(model.quantise(IMAGES)))
    assert (slope(model) == 0).all()


def test_saturation_changes_no_answer():
    network = digits_classifier()
    logits = Saturated(network, temperature=0.01)(IMAGES)
    torch.testing.assert_close(logits, 100 * network(IMAGES))


def test_a_random_transformation_differs_by_image_and_call_and_can_be_none():
    network = digits_classifier()
    model = RandomlyTransformed(network)
    same = IMAGES[:1].expand(20, -1, -1, -1)
    torch.manual_seed(0)
    one, two = model(same), model(same)
    assert len(one.unique(dim=0)) == 20
    assert not torch.isclose(one, two).all(dim=1).any()
    still = RandomlyTransformed(network, degrees=0, shift=0, zoom=0)
    torch.testing.assert_close(still(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-4)
    turned = RandomlyTransformed(nn.Identity(), shift=0, zoom=0)(IMAGES)
    assert turned.shape == IMAGES.shape
    # A turn and no other change: what is spread evenly around the middle stays.
    assert (turned.mean() - IMAGES.mean()).abs() < 0.02


def test_a_detector_adds_a_class_that_wins_where_the_alarm_does():
    torch.manual_seed(0)
    network, alarm = digits_classifier(), mlp(64, 2)
    logits, raised = Detector(network, alarm)(IMAGES), alarm(IMAGES).argmax(dim=1) == 1
    assert 0 < raised.sum() < len(IMAGES)
    assert torch.equal(logits[:, :-1], network(IMAGES))
    assert torch.equal(logits.argmax(dim=1) == 10, raised)
    assert Detector.reject % 11 == 10


def test_votes_are_whole_and_the_majority_wins():
    def constant(kind):
        layer = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        nn.init.zeros_(layer[1].weight)
        layer[1].bias.data = 9.0 * nn.functional.one_hot(torch.tensor(kind), 10)
        return layer

    votes = Voting(constant(3), constant(5), constant(3))(IMAGES)
    assert votes[0].tolist() == [0, 0, 0, 2, 0, 1, 0, 0, 0, 0]
    assert (slope(Voting(digits_classifier())) == 0).all()


def test_k_winners_pass_and_no_others():
    values = torch.tensor([[3.0, -1.0, 2.0, 0.5], [0.1, 0.2, 0.3, 0.4]])
    expected = torch.tensor([[3.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.3, 0.4]])
    assert torch.equal(KWinners(2)(values), expected)
    assert torch.equal(KWinners(9)(values), values)
    model = k_winners_mlp(64, 200, 10, share=0.1)
    assert [type(layer) for layer in model][1:] == [nn.Linear, KWinners, nn.Linear]
    assert (model[:3](IMAGES) != 0).sum(dim=1).eq(20).all()


def test_dropout_stands_between_layers_and_ends_with_eval():
    model = dropout_mlp(64, 50, 10, rate=0.5)
    assert [type(layer) for layer in model][1:] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert not torch.equal(model(IMAGES), model(IMAGES))
    model.eval()
    assert torch.equal(model(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Quantised(nn.Identity(), levels=1), "levels: expected at least 2"),
        (lambda: Saturated(nn.Identity(), temperature=0), "temperature: expected a number > 0"),
        (Voting, "models"),
        (lambda: KWinners(0), "winners"),
        (lambda: k_winners_mlp(64), "sizes: expected two"),
        (lambda: dropout_mlp(), "sizes: expected two"),
    ],
)
def test_what_makes_no_defence_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
