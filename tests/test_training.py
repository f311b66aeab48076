"""SGD against torch's own, and the loop around it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from within_epsilon.training import History, fit, minibatches, sgd_step


def blobs(n=120, seed=0):
    """Return three separable classes as images of four pixels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    centres = torch.tensor([[0.2, 0.2, 0.8, 0.5], [0.8, 0.2, 0.2, 0.5], [0.2, 0.8, 0.2, 0.5]])
    images = centres[labels] + 0.05 * torch.randn(n, 4, generator=generator)
    return SimpleNamespace(images=images.clamp(0, 1), labels=labels)


def network(seed=0, *, dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


@pytest.mark.parametrize(
    ("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.5, 0.1)]
)
def test_steps_equal_those_of_torch(momentum, weight_decay):
    options = {"momentum": momentum, "weight_decay": weight_decay}
    ours, theirs = network(), network()
    data = blobs()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, **options)
    velocities = [torch.zeros_like(theta) for theta in ours.parameters()]
    for _ in range(5):
        for model in (ours, theirs):
            model.zero_grad()
            nn.functional.cross_entropy(model(data.images), data.labels).backward()
        sgd_step(ours.parameters(), 0.1, velocities=velocities, **options)
        optimizer.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_a_plain_step_needs_no_velocities_and_skips_frozen_parameters():
    free, frozen = torch.tensor([1.0], requires_grad=True), torch.tensor([1.0])
    free.grad = torch.tensor([3.0])
    sgd_step([free, frozen], 0.5)
    assert (free.item(), frozen.item()) == (-0.5, 1.0)
    with pytest.raises(ValueError, match="velocities"):
        sgd_step([free], 0.5, momentum=0.9)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (10, 10), (10, 64), (1, 1)])
def test_minibatches_hold_every_example_once(n, batch_size):
    batches = list(minibatches(n, batch_size, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size


def test_minibatches_differ_from_epoch_to_epoch():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(minibatches(50, 7, generator))) for _ in range(2))
    assert not torch.equal(first, second)


def test_fit_learns_and_reports(capsys):
    model, seen = network(), []
    history = fit(
        model,
        blobs(),
        epochs=15,
        batch_size=16,
        step_size=0.2,
        momentum=0.9,
        validation=blobs(seed=1),
        callback=lambda epoch, history: seen.append((epoch, len(history.train_losses))),
    )
    assert isinstance(history, History)
    assert history.train_losses[0] > 0.5
    assert history.train_losses[-1] < 0.05
    assert history.validation_accuracies[-1] == 1
    assert len(history.validation_accuracies) == 15
    assert seen == [(epoch, epoch + 1) for epoch in range(15)]
    assert not model.training
    assert capsys.readouterr() == ("", "")


def test_the_reported_loss_is_the_epochs_mean():
    # With steps of length 0 the network stays, and the mean over unequal batches is exact.
    model, data = network(), blobs(50)
    history = fit(model, data, epochs=1, batch_size=16, step_size=0.0)
    expected = nn.functional.cross_entropy(model(data.images), data.labels)
    assert history.train_losses == pytest.approx([expected.item()])
    assert history.validation_accuracies == []


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    def train(seed):
        model = network(dropout=0.5)
        fit(model, blobs(), epochs=2, batch_size=16, step_size=0.1, seed=seed)
        return model[0].weight.detach()

    first = train(1)
    torch.rand(1)
    state = torch.random.get_rng_state()
    assert torch.equal(train(1), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(train(2), first)


def test_a_step_size_that_diverges_is_named():
    with pytest.raises(ValueError, match=r"step_size=1e\+30 is too large, try 1e\+29"):
        fit(network(), blobs(), epochs=5, batch_size=16, step_size=1e30)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch_size"), ({"epochs": 0}, "epochs")],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit(network(), blobs(), **{"epochs": 1, "batch_size": 8, "step_size": 0.1, **options})
