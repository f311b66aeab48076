"""A patch fools wherever it is pasted; a grey or a random one of its size does not."""

import warnings

import pytest
import torch
from torch import nn

from within_epsilon.attacks import adversarial_patch, apply_patch
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.runtime import example_generators


@pytest.fixture(scope="module")
def model():
    """Return the digits network."""
    return digits_classifier()


@pytest.mark.parametrize("turned", [{}, {"max_angle": 20.0, "scales": (0.9, 1.1)}])
def test_it_fools_on_held_out_digits_far_more_than_grey_and_random_patches(model, turned):
    train, test = digits().train, digits().test
    patch = adversarial_patch(
        model, train.images[:500], train.labels[:500], size=3, epochs=10, **turned
    )
    assert patch.shape == (1, 3, 3)
    assert not patch.requires_grad
    assert ((patch >= 0) & (patch <= 1)).all()
    generator = torch.Generator().manual_seed(0)
    candidates = [patch, torch.full_like(patch, 0.5)]
    candidates += [torch.rand(patch.shape, generator=generator) for _ in range(5)]
    errors = []
    for candidate in candidates:
        generators = example_generators(range(len(test.images)), seed=9)
        images_adv = apply_patch(test.images, candidate, generators, **turned)
        errors.append((model(images_adv).argmax(dim=1) != test.labels).float().mean().item())
    assert errors[0] > errors[1] + 0.15
    assert errors[0] > sum(errors[2:]) / 5 + 0.15


def test_targeted_it_leads_to_the_target(model):
    train, test = digits().train, digits().test
    targets = torch.full((500,), 8)
    options = {"size": 5, "epochs": 10}
    patch = adversarial_patch(model, train.images[:500], targets, targeted=True, **options)
    others = test.images[test.labels != 8]
    hits = []
    for candidate in (patch, torch.full_like(patch, 0.5)):
        pasted = apply_patch(others, candidate, example_generators(range(len(others)), 9))
        hits.append((model(pasted).argmax(dim=1) == 8).float().mean().item())
    assert hits[0] > hits[1] + 0.2


def test_upright_every_pixel_of_the_patch_is_copied_once_and_nothing_else_changes():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 2, 6, 5, generator=generator)
    patch = torch.rand(2, 3, 2, generator=generator)
    pasted = apply_patch(images, patch, example_generators(range(200), 0))
    places = set()
    for before, after in zip(images, pasted, strict=True):
        rows, columns = (before != after).any(dim=0).nonzero().T
        top, left = int(rows.min()), int(columns.min())
        places.add((top, left))
        torch.testing.assert_close(after[:, top : top + 3, left : left + 2], patch)
        after = after.clone()
        after[:, top : top + 3, left : left + 2] = before[:, top : top + 3, left : left + 2]
        assert torch.equal(after, before)
    assert places == {(top, left) for top in range(4) for left in range(4)}


def test_turned_and_scaled_it_stays_inside_and_keeps_its_area():
    images = torch.zeros(200, 1, 24, 24)
    options = {"max_angle": 45.0, "scales": (0.5, 2.0)}
    pasted = apply_patch(images, torch.ones(1, 8, 8), example_generators(range(200), 0), **options)
    area = pasted.sum(dim=(1, 2, 3))
    # Scaled between a half and twice, uniformly: 64 times between 1/4 and 4, 1.75 on average.
    assert 64 / 4 - 6 <= area.min() < 40
    assert 180 < area.max() <= 64 * 4 + 16
    assert abs(area.mean() / 64 - 1.75) < 0.25
    whole = apply_patch(images, torch.ones(1, 24, 24), example_generators(range(200), 0))
    assert torch.equal(whole, torch.ones_like(whole))


class Unknown(nn.Module):
    """Changes nothing, but for all that one can see its mode might matter."""

    def forward(self, logits):
        return logits.clone() if self.training else logits


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_seed_dtype_mode_and_parameters(dtype):
    train = digits().train
    images, labels = train.images[:40].to(dtype), train.labels[:40]
    network = nn.Sequential(digits_classifier().to(dtype), Unknown())
    network.train()
    weights = list(network.parameters())
    weights[0].grad = torch.full_like(weights[0], 7)
    before = images.clone()
    state = torch.random.get_rng_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, again, other = (
            adversarial_patch(
                network, images.requires_grad_(), labels, size=3, epochs=3, batch_size=9, seed=s
            )
            for s in (0, 0, 1)
        )
    assert [str(w.message)[:26] for w in caught] == ["the model is in train mode"] * 3
    assert caught[0].filename == __file__
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == dtype
    assert network.training
    assert (weights[0].grad == 7).all()
    assert all(weight.grad is None for weight in weights[1:])
    assert torch.equal(images, before)
    assert not first.requires_grad
    assert images.grad is None
    pasted = apply_patch(images, first, example_generators(range(40), 0))
    assert pasted.dtype == dtype
    assert ((pasted >= 0) & (pasted <= 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: expected at least 1"),
        ({"size": 9}, "fits into 8 pixels"),
        ({"size": 7, "max_angle": 10.0}, "smaller scales or max_angle"),
        ({"size": 3, "scales": (2.0, 1.0)}, "smallest <= largest"),
        ({"size": 3, "epochs": 0}, "epochs: expected at least 1"),
        ({"size": 3, "step_size": 0.0}, "step_size"),
    ],
)
def test_unusable_arguments_are_refused_with_a_remedy(model, options, message):
    train = digits().train
    with pytest.raises(ValueError, match=message):
        adversarial_patch(model, train.images[:9], train.labels[:9], **options)


def test_a_patch_of_other_channels_is_refused():
    generators = example_generators(range(2), 0)
    with pytest.raises(ValueError, match=r"\(C, h, w\)"):
        apply_patch(torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 3), generators)
