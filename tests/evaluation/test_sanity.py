"""The checklist: it finds every broken defence and no honest model, and each line can fail."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import BackwardAs, count_evaluations, pgd
from within_epsilon.data import digits
from within_epsilon.defences import (
    Detector,
    Quantised,
    RandomlyTransformed,
    Saturated,
    Voting,
    dropout_mlp,
    k_winners_mlp,
)
from within_epsilon.evaluation import Check, SanityReport, sanity_report
from within_epsilon.losses import margin_loss
from within_epsilon.models import digits_classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.training import fit

BALL = Ball("linf", 0.1)
TRAIN, TEST = digits().train, digits().test[:100]
SEEDS = range(3)
# Half of what it does by default, for the lines that need no more.
quick = partial(sanity_report, steps=20, queries=100)


def trained(model, seed, examples=TRAIN, epochs=12, step_size=0.1):
    options = {"epochs": epochs, "step_size": step_size, "momentum": 0.9, "seed": seed}
    fit(model, examples, batch_size=32, progress=False, **options)
    return model


def plain(seed, *sizes):
    torch.manual_seed(seed)
    return trained(mlp(*(sizes or (64, 100, 10))), seed)


def trained_against_pgd(seed, epsilon=0.15, steps=4, epochs=12):
    torch.manual_seed(seed)
    model = mlp(64, 100, 10)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for rows in [*torch.randperm(len(TRAIN)).split(64)] * epochs:
        images, labels = TRAIN[rows]
        images = pgd(model, images, labels, Ball("linf", epsilon), steps=steps)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return model.eval()


def two_classes(seed):
    torch.manual_seed(seed)
    return trained(mlp(64, 16, 2), seed, (TRAIN.images, TRAIN.labels % 2), epochs=6)


def random_transformation(seed):
    torch.manual_seed(seed)
    return trained(RandomlyTransformed(mlp(64, 100, 10)), seed, epochs=20)


def detector(seed):
    model = plain(seed)
    attacked = pgd(model, *TRAIN[:], BALL, steps=20)
    kinds = torch.arange(2).repeat_interleave(len(attacked))
    torch.manual_seed(seed)
    alarm = trained(mlp(64, 100, 2), seed, (torch.cat([TRAIN.images, attacked]), kinds), epochs=20)
    return Detector(model, alarm)


def left_in_train_mode(seed):
    torch.manual_seed(seed)
    return trained(dropout_mlp(64, 100, 100, 10), seed, epochs=20).train()


def k_winners(seed):
    torch.manual_seed(seed)
    return trained(k_winners_mlp(64, 400, 10), seed, step_size=0.05)


class MeanSparse(nn.Module):
    """Puts the mean in the place of activations that lie close to it, as of 2024's leaders."""

    def __init__(self, values):
        super().__init__()
        self.mean, self.reach = values.mean(dim=0), 0.5 * values.std(dim=0)

    def forward(self, values):
        close = (values - self.mean).abs() < self.reach
        return torch.where(close, self.mean.expand_as(values), values)


def mean_sparsified(seed):
    flat, first, relu, last = plain(seed, 64, 200, 10)
    with torch.no_grad():
        values = first(flat(TRAIN.images))
    return nn.Sequential(flat, first, MeanSparse(values), relu, last).eval()


class Residual(nn.Module):
    """Convolutions around which the values may pass, with BatchNorm and a smooth activation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.last = nn.Linear(8 * 16, 10)

    def forward(self, images):
        values = nn.functional.gelu(self.first(images))
        values = nn.functional.max_pool2d(torch.relu(values + self.body(values)), 2)
        return self.last(values.flatten(1))


def residual(seed):
    torch.manual_seed(seed)
    return trained(Residual(), seed, epochs=8)


class Prototypes(nn.Module):
    """Compares with 600 digits; far from all of them it says 8, and has no slope."""

    def __init__(self, _):
        super().__init__()
        images, labels = TRAIN[:600]
        self.register_buffer("images", images.flatten(1))
        self.register_buffer("votes", nn.functional.one_hot(labels, 10).float())
        self.register_buffer("eight", nn.functional.one_hot(torch.tensor(8), 10) / 50)
        self.eval()

    def forward(self, images):
        apart = (images.flatten(1).unsqueeze(1) - self.images).square().sum(dim=2)
        return (1 - apart / 3).relu() @ self.votes + self.eight


HONEST = {
    "the shipped network": lambda _: digits_classifier(),
    "standard": plain,
    "trained against PGD": trained_against_pgd,
    "linear": lambda seed: plain(seed, 64, 10),
    "two classes": two_classes,
    "residual": residual,
    "flat where it says 8": Prototypes,
}
# Each defence, and the lines of the list that have to give it away.
ZOO = {
    "quantised": (
        lambda seed: Quantised(plain(seed)),
        {
            *("gradients predict the loss", "scores alone find no more"),
            *("without a bound, all fall", "the loss has no jumps"),
        },
    ),
    "saturated": (
        lambda seed: Saturated(plain(seed)),
        {"the cross-entropy has a slope", "the margin loss finds little more"},
    ),
    "random transformation": (random_transformation, {"one image, one answer"}),
    "detector": (detector, {"the refusal is attacked too"}),
    "voting": (
        lambda seed: Voting(*(plain(10 * seed + member, 64, 50, 10) for member in (1, 2, 3))),
        {"gradients predict the loss", "without a bound, all fall"},
    ),
    "left in train mode": (left_in_train_mode, {"it is in eval mode"}),
    "k winners": (k_winners, {"scores alone find no more", "the loss has no jumps"}),
    "mean-sparsified": (mean_sparsified, {"the loss has no jumps"}),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", HONEST)
def test_no_honest_model_fails(kind, seed):
    if kind in ("the shipped network", "flat where it says 8") and seed > 0:
        pytest.skip("there is one only")
    model = HONEST[kind](seed)
    labels = TEST[1] % 2 if kind == "two classes" else TEST[1]
    report = sanity_report(model, (TEST[0], labels), BALL, seed=seed, queries=300)
    assert report.passed, report.to_text()
    assert report.clean >= 90


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_a_radius_that_hurts_is_no_failure(epsilon):
    """On such a network the margin loss, and restarts, do find more: that is no masking."""
    model = trained_against_pgd(0, epsilon=0.3, steps=7, epochs=15)
    report = sanity_report(model, TEST, Ball("linf", epsilon), queries=300)
    assert report.passed, report.to_text()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ZOO)
def test_every_broken_defence_fails(kind, seed):
    make, names = ZOO[kind]
    report = sanity_report(make(seed), TEST, BALL, seed=seed, queries=300)
    assert names <= {check.name for check in report.failed}, report.to_text()
    assert all(check.meaning and check.remedy for check in report.failed)


# --- each line ---


class Gradient(nn.Module):
    """The shipped network with a gradient that does what `way` says of it."""

    def __init__(self, way):
        super().__init__()
        self.network, self.way = digits_classifier(), way
        self.register_buffer("calls", torch.zeros(()))
        self.eval()

    def forward(self, images):
        self.calls += images.requires_grad
        factor = self.way(images.detach(), self.calls)
        return self.network(BackwardAs(lambda x: x, lambda x: factor * x)(images))


def on_the_grid(images, _):
    """Right where pixels are sixteenths, as in clean images, and reversed everywhere else."""
    off = (16 * images - (16 * images).round()).abs() > 1e-3
    return 1.0 - 2.0 * (off.flatten(1).double().mean(1) > 0.5).float().view(-1, 1, 1, 1)


GIVEN_AWAY = {
    "it returns logits": nn.Sequential(digits_classifier(), nn.Softmax(dim=1)),
    "steps make the loss rise": Gradient(lambda *_: -1.0),
    "PGD beats one step": Gradient(on_the_grid),
    "more steps help": Gradient(lambda _, calls: 1.0 if calls < 8 else -1.0),
}


@pytest.mark.parametrize("name", GIVEN_AWAY)
def test_each_line_can_fail(name):
    report = quick(GIVEN_AWAY[name].eval(), TEST, BALL)
    assert report[name].outcome == "failed", report.to_text()


def test_noise_gives_away_an_attack_that_goes_downhill():
    report = quick(Gradient(lambda *_: -1.0), TEST, Ball("linf", 0.3))
    assert report["PGD beats noise"].outcome == "failed", report.to_text()
    assert report["error grows with ε"].outcome == "passed"


def test_transfer_is_run_if_there_is_a_substitute():
    one, other = plain(1), plain(2)
    assert quick(one, TEST, BALL)["transfer finds no more"].outcome == "not run"
    report = quick(one, TEST, BALL, substitute=other)
    assert report["transfer finds no more"].outcome == "passed"
    report = quick(Voting(one), TEST, BALL, substitute=other)
    assert report["transfer finds no more"].outcome == "failed"


@pytest.mark.parametrize("seed", [5, 6])
def test_in_l2_the_winners_are_found_by_their_jumps(seed):
    """Square finds few there; on none of the honest networks does the loss jump at all."""
    report = quick(k_winners(seed), TEST, Ball("l2", 0.5))
    assert report["the loss has no jumps"].outcome == "failed", report.to_text()
    for make in (plain, trained_against_pgd, residual):
        report = quick(make(seed), TEST, Ball("l2", 0.5))
        assert report.passed, report.to_text()
        assert report["the loss has no jumps"].evidence.startswith("it jumps for 0 of 64")


@pytest.mark.parametrize("ball", [Ball("l2", 0.6), Ball("l1", 2.0)], ids=str)
def test_other_norms(ball):
    few = digits().test[:50]
    assert quick(digits_classifier(), few, ball).passed
    report = quick(Saturated(digits_classifier()), few, ball)
    assert report["the margin loss finds little more"].outcome == "failed"


def test_a_model_without_gradient_is_attacked_by_scores():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_classifier()

        def forward(self, images):
            return self.network(images.detach())

    report = quick(Detached().eval(), TEST, BALL)
    assert [check.name for check in report.failed] == ["gradients predict the loss"]
    assert report["PGD beats one step"].outcome == "not run"
    assert report.robust < 80


def test_a_mask_leaves_the_unbounded_attack_out():
    ball = Ball("linf", 0.3, mask=torch.arange(64).view(1, 1, 8, 8) < 32)
    report = quick(digits_classifier(), TEST, ball)
    assert report["without a bound, all fall"].outcome == "not run"
    assert report.passed


def test_averaging_is_for_random_models():
    check = quick(left_in_train_mode(0), TEST, BALL)["averaging finds no more"]
    assert check.outcome != "not run"
    check = quick(digits_classifier(), TEST, BALL)["averaging finds no more"]
    assert check.outcome == "not run"


# --- the report ---


def test_text_markdown_and_json_say_the_same():
    report = quick(Saturated(digits_classifier()), TEST, BALL)
    again = SanityReport.from_json(report.to_json())
    assert again.checks == report.checks
    assert str(again) == str(report)
    assert (again.n, again.clean, again.robust) == (100, 98, report.robust)
    text = report.to_text(44)
    assert max(map(len, text.splitlines())) <= 44
    flat = " ".join(text.split())
    for check in report.checks:
        assert " ".join(str(check).split()) in flat
        assert f"| {check.name} | {check.outcome} | {check.evidence} |" in report.to_markdown()
    for check in report.failed:
        assert check.meaning in flat
        assert check.remedy in flat
    assert "✗ the margin loss finds little more" in text
    assert "failed: the cross-entropy has a slope; the margin loss finds little more" in str(report)
    with pytest.raises(KeyError):
        report["no such line"]
    with pytest.raises(ValueError, match="sanity report"):
        SanityReport.from_json('{"ball": 3}')
    assert str(Check("a", "not run", "b")) == "– a: b"


def test_all_is_left_as_it_was_and_repeats():
    model, images = left_in_train_mode(0), TEST[0].clone()
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, two = (quick(model, (images, TEST[1]), BALL) for _ in range(2))
    assert one.checks == two.checks
    assert model.training
    assert torch.equal(images, TEST[0])
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in digits_classifier().parameters())


@pytest.mark.parametrize("robust", [None, "linf"])
def test_costs_what_it_says(robust):
    """No attack whose outcome is known from all attacks in turn is run again."""
    model, some = digits_classifier(robust=robust), digits().test[:20]
    with count_evaluations(model) as spent:
        sanity_report(model, some, BALL)
    assert spent.gradients <= 550 * 20
    assert spent.forwards <= 1200 * 20


def test_what_cannot_be_checked_is_refused():
    model = digits_classifier()
    with pytest.raises(ValueError, match="epsilon > 0"):
        sanity_report(model, TEST, Ball("linf", 0))
    with pytest.raises(ValueError, match="steps"):
        sanity_report(model, TEST, BALL, steps=0)
    with pytest.raises(TypeError):
        sanity_report(margin_loss, TEST, BALL)
