"""SGD against torch's own, and the loop around it."""

import re
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim import LBFGS, SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from within_epsilon import runtime
from within_epsilon.attacks import fgsm, fmn, pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.threat import Ball
from within_epsilon.training import (
    Adversarial,
    History,
    SingleStep,
    Trades,
    fit,
    minibatches,
    sgd_step,
    standard,
)

BALL = Ball("linf", 0.15)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1.5}, "epochs: expected a whole number, received 1.5"),
        ({"epochs": "3"}, "epochs: expected a whole number, received '3'"),
        ({"batch_size": 1.5}, "batch_size: expected a whole number"),
        ({"step_size": "0.1"}, "step_size: expected a number, received '0.1'"),
        ({"optimizer": "adam"}, r"optimizer.*torch\.optim\.Adam, lr=0\.002\), received 'adam'"),
        ({"optimizer": lambda _: None}, "optimizer: .* made None"),
        ({"optimizer": partial(SGD, lr=0.1), "schedule": "cosine"}, "schedule.* 'cosine'"),
        ({"optimizer": partial(SGD, lr=0.1), "schedule": lambda _: 3}, "schedule: .* made 3"),
        ({"objective": None}, "objective.* received None"),
        ({"objective": "trades"}, "objective.*Adversarial.* received 'trades'"),
        ({"objective": pgd}, "objective.*Adversarial.*pgd.* argument: 'ball'"),
        ({"objective": Adversarial}, "objective.*received <class"),
        ({"objective": nn.CrossEntropyLoss()}, r"objective.*received CrossEntropyLoss\(\)"),
        ({"objective": lambda model, images, labels: 0.5}, "loss: expected a tensor"),
        ({"attack": "pgd", "ball": BALL, "validation": blobs()}, "attack: .* received 'pgd'"),
    ],
)
def test_things_of_another_kind_are_refused_before_any_step(options, message):
    model = network()
    before = [theta.detach().clone() for theta in model.parameters()]
    rule = {} if "optimizer" in options else {"step_size": 0.1}
    with pytest.raises(TypeError, match=message):
        fit(model, blobs(), **{"epochs": 1, "batch_size": 8, **rule, **options})
    assert all(map(torch.equal, before, model.parameters()))


def test_a_step_of_infinite_length_is_refused():
    with pytest.raises(ValueError, match="step_size: expected a finite number, received inf"):
        fit(network(), blobs(), epochs=1, batch_size=8, step_size=float("inf"))


def test_weights_that_are_lost_at_the_start_are_not_blamed_on_the_step_size():
    model = network()
    name, theta = next(iter(model.named_parameters()))
    theta.data[0] = torch.nan
    with pytest.raises(ValueError, match=rf"finite weights .* in {re.escape(name)}"):
        fit(model, blobs(), epochs=1, batch_size=8, step_size=0.1)


def test_images_in_another_precision_than_the_model_are_explained():
    images, labels = blobs().images, blobs().labels
    for objective in (standard, Adversarial(fgsm, BALL)):
        with pytest.raises(TypeError, match=r"expected torch\.float32.*received torch\.float64"):
            fit(
                network(),
                (images.double(), labels),
                objective,
                epochs=1,
                batch_size=8,
                step_size=0.1,
            )


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_an_optimizer_may_measure_the_loss_by_itself(search):
    """LBFGS asks several times a step; on all examples at once it does what it does alone."""
    images, labels = blobs().images.double(), blobs().labels
    ours, theirs = network().double(), network().double()
    make = partial(LBFGS, lr=0.1, max_iter=4, line_search_fn=search)
    options = {"batch_size": len(images), "optimizer": make, "progress": False}
    history = fit(ours, (images, labels), epochs=3, **options)
    optimizer, losses = make(theirs.parameters()), []

    def measure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(theirs(images), labels)
        loss.backward()
        return loss

    losses = [optimizer.step(measure).item() for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    torch.testing.assert_close(history.train_losses, losses, rtol=1e-9, atol=1e-9)
    for own, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-7, atol=1e-7)


def test_an_optimizer_that_measures_by_itself_and_diverges_leaves_the_weights():
    model = network()
    before = [theta.detach().clone() for theta in model.parameters()]
    with pytest.raises(ValueError, match=r"lr=1e\+30 is too large"):
        fit(model, blobs(), epochs=2, batch_size=120, optimizer=partial(LBFGS, lr=1e30))
    assert all(map(torch.equal, before, model.parameters()))


class Scaled(Dataset):
    """Has images and labels too, but reading it does more: there lies its transform."""

    def __init__(self, data):
        self.images, self.labels = data.images / 10, data.labels
        self.reads = 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.reads += 1
        return self.images[index] * 10, int(self.labels[index])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(*pair(blobs())))


class Pictures(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.new("L", (2, 2)), 0


def pair(data):
    return data.images, data.labels


def rows(data):
    return list(zip(*pair(data), strict=True))


@pytest.mark.parametrize(
    "form",
    [
        pair,
        lambda data: list(pair(data)),
        vars,
        lambda data: TensorDataset(*pair(data)),
        rows,
        Scaled,
        lambda data: Subset(rows(data), range(len(data.labels))),
    ],
    ids=["pair", "list", "mapping", "TensorDataset", "rows", "transform", "Subset"],
)
def test_examples_may_come_in_any_form_and_teach_the_same(form):
    models = network(), network()
    options = {"epochs": 2, "batch_size": 50, "step_size": 0.2, "progress": False}
    expected = fit(models[0], blobs(), validation=blobs(seed=1), **options)
    found = fit(models[1], form(blobs()), validation=form(blobs(seed=1)), **options)
    assert found.train_losses == pytest.approx(expected.train_losses, abs=1e-6)
    assert found.validation_accuracies == expected.validation_accuracies
    torch.testing.assert_close(models[1][0].weight, models[0][0].weight)


def test_a_data_set_is_read_anew_in_every_epoch():
    data = Scaled(blobs(30))
    fit(network(), data, epochs=3, batch_size=8, step_size=0.1)
    assert data.reads == 90


def test_a_loader_brings_its_own_minibatches_and_the_seed_decides_its_shuffles():
    sizes = []

    class Counting(nn.Linear):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)

    def train(seed):
        model = nn.Sequential(Counting(4, 3))
        nn.init.zeros_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        loader = DataLoader(TensorDataset(*pair(blobs(50))), 20, shuffle=True)
        fit(model, loader, epochs=1, batch_size=7, step_size=0.5, seed=seed)
        return model[0].weight.detach()

    first = train(1)
    assert sizes == [20, 20, 10]
    assert torch.equal(train(1), first)
    assert not torch.equal(train(2), first)
    fit(network(), DataLoader(Stream(), 16), epochs=1, batch_size=16, step_size=0.1)


@pytest.mark.parametrize(
    ("split", "error", "message"),
    [
        (digits(), TypeError, r"digits\(\)\.train.*received a Digits"),
        (Stream(), TypeError, "DataLoader"),
        (None, TypeError, "received a NoneType"),
        (Pictures(), TypeError, "ToTensor"),
        (DataLoader([{"pixels": torch.zeros(4), "class": 0}]), TypeError, "images and labels"),
        ((blobs().images.numpy(), blobs().labels.numpy()), TypeError, "torch.as_tensor"),
        ((blobs().images * 255, blobs().labels), ValueError, "divide by 255"),
        (TensorDataset(blobs().images * 255, blobs().labels), ValueError, "divide by 255"),
        ((blobs().images, blobs().labels[1:]), ValueError, r"expected shape \(120,\)"),
        (TensorDataset(*pair(blobs(0))), ValueError, "at least one example"),
        (DataLoader(TensorDataset(*pair(blobs(3))), 4, drop_last=True), ValueError, "at least one"),
    ],
)
def test_what_holds_no_examples_is_refused_with_a_remedy(split, error, message):
    with pytest.raises(error, match=message):
        fit(network(), split, epochs=1, batch_size=8, step_size=0.1)


def test_a_minibatch_of_one_is_explained_where_batchnorm_cannot_take_it():
    options = {"epochs": 1, "step_size": 0.1}
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    for net in (model, torch.jit.script(model)):
        with pytest.raises(ValueError, match=r"leaves no single one over.*drop_last=True"):
            fit(net, blobs(25), batch_size=8, **options)
    fit(model, blobs(24), batch_size=8, **options)
    fit(network(), blobs(25), batch_size=8, **options)  # nothing wrong with one without it
    with pytest.raises(RuntimeError, match="shapes"):  # other errors stay what they are
        fit(nn.Linear(5, 3), blobs(1), batch_size=1, **options)


class Detached(nn.Linear):
    def forward(self, images):
        return super().forward(images).detach()


@pytest.mark.parametrize("model", [network().requires_grad_(False), nn.Softmax(1), Detached(4, 3)])
def test_a_model_with_nothing_to_train_is_told_so(model):
    with pytest.raises(ValueError, match=r"frozen.*requires_grad_\(True\)"):
        fit(model, blobs(), epochs=1, batch_size=8, step_size=0.1)


def test_frozen_layers_stay_while_the_others_learn():
    model = network()
    model[0].requires_grad_(False)
    before = [theta.clone() for theta in model.parameters()]
    fit(model, blobs(), epochs=1, batch_size=8, step_size=0.1, momentum=0.9)
    moved = [not torch.equal(*two) for two in zip(model.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_optimizer_of_torch_takes_the_place_of_the_books(momentum):
    models = network(), network()
    options = {"epochs": 3, "batch_size": 16}
    fit(models[0], blobs(), step_size=0.1, momentum=momentum, **options)
    fit(models[1], blobs(), optimizer=partial(SGD, lr=0.1, momentum=momentum), **options)
    torch.testing.assert_close(models[1][0].weight, models[0][0].weight)


@pytest.mark.parametrize("instance", [True, False])
@pytest.mark.parametrize(("rhythm", "steps"), [("epoch", 3), ("minibatch", 3 * 8)])
def test_a_schedule_takes_its_step_when_asked(instance, rhythm, steps):
    model = network()
    optimizer = Adam(model.parameters(), lr=0.1)
    schedule = partial(ExponentialLR, gamma=0.9)
    fit(
        model,
        blobs(),
        epochs=3,
        batch_size=16,
        optimizer=optimizer,
        schedule=schedule(optimizer) if instance else schedule,
        schedule_every=rhythm,
    )
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**steps)


def test_a_schedule_that_waits_for_a_plateau_looks_at_the_loss():
    model = network()
    optimizer = SGD(model.parameters(), lr=1e-6)
    plateau = partial(ReduceLROnPlateau, factor=0.5, patience=0, eps=0)
    fit(model, blobs(), epochs=4, batch_size=16, optimizer=optimizer, schedule=plateau)
    assert optimizer.param_groups[0]["lr"] < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "received neither"),
        ({"step_size": 0.1, "optimizer": SGD}, "none beside an optimizer"),
        ({"momentum": 0.9, "optimizer": SGD}, "none beside an optimizer"),
        ({"step_size": 0.1, "schedule": ExponentialLR}, "expected an optimizer"),
        ({"optimizer": SGD([torch.ones(1, requires_grad=True)], lr=0.1)}, "of this model's"),
        ({"step_size": -0.1}, "step_size: expected a number >= 0, received -0.1"),
        ({"step_size": float("nan")}, "step_size: expected a number >= 0"),
        ({"step_size": 0.1, "momentum": -0.9}, "momentum"),
        ({"step_size": 0.1, "momentum": 1}, "below 1, received 1"),
        ({"step_size": 0.1, "weight_decay": -1e-4}, "weight_decay"),
        ({"optimizer": partial(SGD, lr=0.1, maximize=True)}, "received maximize=True"),
        (
            {
                "optimizer": partial(SGD, lr=0.1),
                "schedule": partial(LambdaLR, lr_lambda=lambda step: 1 - 0.6 * step),
                "schedule_every": "minibatch",
            },
            "schedule: expected step sizes >= 0, received -0.02",
        ),
        ({"step_size": 0.1, "schedule_every": "week"}, "epoch or minibatch"),
        ({"step_size": 0.1, "keep": "first"}, "last or best"),
        ({"step_size": 0.1, "keep": "best"}, "never the test split"),
        ({"step_size": 0.1, "attack": pgd, "ball": BALL}, "never the test split"),
        ({"step_size": 0.1, "attack": pgd, "validation": blobs()}, "threat model of the attack"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit(network(), blobs(), epochs=1, batch_size=8, **options)


def test_a_schedule_of_another_optimizer_is_refused():
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    schedule = ExponentialLR(SGD(model.parameters(), lr=0.1), 0.9)
    with pytest.raises(ValueError, match="received one of another"):
        fit(model, blobs(), epochs=1, batch_size=8, optimizer=optimizer, schedule=schedule)


def test_robust_accuracy_is_measured_on_the_validation_split():
    model, held_out = network(), blobs(seed=1)
    options = {"epochs": 3, "batch_size": 16, "step_size": 0.1}
    history = fit(model, blobs(), validation=held_out, attack=fgsm, ball=BALL, **options)
    report = robust_accuracy(model, pair(held_out), fgsm, BALL, diagnose=False)
    assert history.robust_accuracies[-1] == report.robust_accuracy
    assert len(history.robust_accuracies) == 3
    assert history.robust_accuracies[-1] < history.validation_accuracies[-1]
    again = fit(network(), blobs(), Adversarial(fgsm, BALL), validation=held_out, **options)
    assert again.robust_accuracies == []
    objective = Adversarial(fgsm, BALL)  # whose ball the attack takes, for want of another
    assert fit(
        network(), blobs(), objective, validation=held_out, attack=fgsm, **options
    ).robust_accuracies


def test_the_best_epoch_is_kept_and_not_the_last():
    weights = []
    model = network()
    history = fit(
        model,
        blobs(),
        epochs=8,
        batch_size=16,
        step_size=3.0,  # too long: accuracy goes up and down
        validation=blobs(seed=1),
        attack=fgsm,
        ball=BALL,
        keep="best",
        callback=lambda *_: weights.append(model[0].weight.detach().clone()),
    )
    best = history.best_epoch
    assert history.robust_accuracies[best] == max(history.robust_accuracies)
    assert best < 7
    assert torch.equal(model[0].weight, weights[best])
    assert not torch.equal(model[0].weight, weights[-1])
    with pytest.raises(ValueError, match="expected accuracies to choose"):
        _ = History([0.1]).best_epoch


class Exploding(nn.Module):
    """Answers with NaN from a certain training pass on."""

    def __init__(self, passes):
        super().__init__()
        self.body, self.passes = network(), passes

    def forward(self, images):
        self.passes -= self.training
        return self.body(images) * (1 if self.passes >= 0 else float("nan"))


@pytest.mark.parametrize("objective", [standard, Adversarial(fgsm, BALL), SingleStep(BALL)])
def test_nan_stops_training_with_the_weights_of_the_last_good_epoch(objective):
    def train(model, epochs):
        fit(model, blobs(), objective, epochs=epochs, batch_size=16, step_size=0.1)
        return model.body[0].weight.detach()

    model = Exploding(passes=20)  # eight in an epoch
    with pytest.raises(ValueError, match=r"received nan in epoch 2.*weights of the end of epoch 1"):
        train(model, 5)
    assert torch.equal(model.body[0].weight, train(Exploding(passes=99), 2))
    assert not model.training


def test_weights_that_the_last_step_has_spoilt_are_noticed():
    model = network()
    before = model[0].weight.detach().clone()

    def steep(model, images, labels):  # a finite loss with an infinite gradient
        return torch.sqrt(model[3].bias.sum() * 0 + torch.zeros(len(images)))

    with pytest.raises(ValueError, match=r"weights: expected finite.*weights of the beginning"):
        fit(model, blobs(16), steep, epochs=1, batch_size=16, step_size=0.1)
    assert torch.equal(model[0].weight, before)
    assert torch.isfinite(model[3].bias).all()


def test_an_interruption_leaves_the_model_in_eval_mode():
    def interrupt(epoch, history):
        model.train()
        raise KeyboardInterrupt

    model = network()
    with pytest.raises(KeyboardInterrupt):
        fit(model, blobs(), epochs=3, batch_size=16, step_size=0.1, callback=interrupt)
    assert not model.training


def test_an_objective_of_ones_own_is_minimised():
    def brier(model, images, labels):
        probabilities = model(images).softmax(dim=1)
        return (probabilities - nn.functional.one_hot(labels, 3)).square().sum(dim=1)

    history = fit(network(), blobs(), brier, epochs=9, batch_size=16, step_size=0.5)
    assert history.train_losses[-1] < 0.2 * history.train_losses[0]
    with pytest.raises(ValueError, match="one value per example"):
        fit(
            network(),
            blobs(),
            lambda *given: brier(*given).mean(),
            epochs=1,
            batch_size=8,
            step_size=0.1,
        )


def test_progress_says_loss_accuracies_and_time_left(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(runtime, "_watched", lambda: True)
    monkeypatch.setattr(runtime, "tqdm", partial(runtime.tqdm, mininterval=0))

    def wait(epoch, history):
        time.sleep(1.1)

    fit(
        network(),
        blobs(),
        epochs=4,
        batch_size=16,
        step_size=0.1,
        validation=blobs(seed=1),
        attack=fgsm,
        ball=BALL,
        callback=wait,
    )
    shown = capsys.readouterr().err
    assert re.search(r"training: +\d+%.*<.*epoch.*loss \d\.\d+, clean \d+.*%, robust \d+", shown)


class WritesIn(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, images):
        return self.network(images.mul_(0.5))


@pytest.mark.parametrize("objective", ["standard", "TRADES"])
def test_a_model_that_writes_into_its_input_does_not_reach_the_examples(objective):
    images, labels = digits().train.images[:40].clone(), digits().train.labels[:40]
    before, options = images.clone(), {}
    if objective == "TRADES":
        options["objective"] = Trades(partial(pgd, steps=1), Ball("linf", 0.1))
    batches = DataLoader([(images, labels)], batch_size=None)
    fit(
        *(WritesIn(), batches),
        epochs=1,
        batch_size=8,
        step_size=0.1,
        validation=batches,
        attack=fgsm,
        ball=Ball("linf", 0.1),
        **options,
    )
    assert torch.equal(images, before)


class InOneBuffer(Dataset):
    """Examples that all come in the same memory."""

    def __init__(self, split):
        self.split, self.buffer = split, split.images[0].clone()

    def __len__(self):
        return len(self.split.labels)

    def __getitem__(self, number):
        return self.buffer.copy_(self.split.images[number]), int(self.split.labels[number])


def test_examples_that_come_in_the_same_memory_are_kept_apart():
    split, weights = blobs(), []
    for given in (split, InOneBuffer(split)):
        model = network()
        fit(model, given, epochs=2, batch_size=20, step_size=0.5)
        weights.append(torch.nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 1.5}, "epochs: expected a whole number, received 1.5"),
        ({"attack": "pgd"}, "attack: expected one such as attacks.pgd"),
        ({"attack": fmn}, "bring a minimal-norm attack's"),
    ],
)
def test_settings_of_another_kind_are_named(wrong, message):
    rest = {"validation": blobs(), "ball": BALL, "step_size": 0.5}
    with pytest.raises(TypeError, match=message):
        fit(network(), blobs(), batch_size=20, **({"epochs": 1} | rest | wrong))


def test_images_of_another_dtype_and_a_frozen_model_are_named():
    split = blobs()
    double = SimpleNamespace(images=split.images.double(), labels=split.labels)
    with pytest.raises(TypeError, match=r"convert with images.to\(torch.float32\)"):
        fit(network(), double, epochs=1, batch_size=20, step_size=0.5)
    frozen = network().requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        fit(frozen, split, epochs=1, batch_size=20, optimizer=partial(Adam, lr=0.1))
