"""What every attack promises, whatever its norm and method."""

import inspect
import random
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon import attacks
from within_epsilon.attacks import (
    REGISTRY,
    apgd,
    autoattack,
    fgsm,
    multi_targeted,
    noise_control,
    pgd,
    settings,
    square,
    takes,
)
from within_epsilon.attacks.core.linear import rival_gap
from within_epsilon.checks import BadExampleError
from within_epsilon.losses import cross_entropy, dlr, margin, margin_loss
from within_epsilon.threat import Ball

ATTACKS = {
    "fgsm": fgsm,
    "pgd": partial(pgd, steps=5),
    "pgd, clean start": partial(pgd, steps=5, random_start=False),
    "pgd, 3 restarts": partial(pgd, steps=4, restarts=3),
    "pgd, margin": partial(pgd, steps=4, loss=margin_loss),
    "pgd, momentum": partial(pgd, steps=4, momentum=1.0),
    "apgd": partial(apgd, steps=8),
    "apgd, 2 restarts, stopping early": partial(apgd, steps=8, restarts=2, early_stop=True),
    "apgd, margin": partial(apgd, steps=12, loss=margin_loss),
    "multi-targeted": partial(multi_targeted, steps=8),
    "multi-targeted, nearest": partial(multi_targeted, steps=8, targets=2, candidates=3),
    "autoattack": partial(autoattack, steps=8, targets=2, queries=10),
    "square": partial(square, queries=80),
    "noise": noise_control,
}
# Attacks that may find the very same point from another start.
AGREEING = [ATTACKS["pgd, 3 restarts"], *(a for name, a in ATTACKS.items() if "apgd" in name)]
AGREEING.append(ATTACKS["autoattack"])
BALLS = {"linf": Ball("linf", 0.1), "l2": Ball("l2", 0.5), "l1": Ball("l1", 1.5)}
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
every_follower = pytest.mark.parametrize(
    "attack", [a for name, a in ATTACKS.items() if name != "noise"], ids=list(ATTACKS)[:-1]
)
every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS)


def network(dtype=torch.float64):
    """Return a network of normalisation, smooth units and 4 classes, and its 12 examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(18, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 4)
        )
        images = torch.rand(12, 2, 3, 3, dtype=torch.float64)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = 0, 1  # at the edges of the range too
    model = model.to(torch.float64).eval()
    labels = model(images).argmax(dim=1)
    return model.to(dtype), images.to(dtype), labels


@every_attack
@every_ball
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_result_is_feasible_detached_and_of_the_same_kind(attack, ball, dtype):
    model, images, labels = network(dtype)
    before = images.clone()
    images_adv = attack(model, images.requires_grad_(), labels, ball)
    assert torch.equal(images, before)
    images = images.detach()
    assert images_adv.dtype == dtype
    assert images_adv.device == images.device
    assert images_adv.shape == images.shape
    assert not images_adv.requires_grad
    assert_feasible(images, images_adv, ball)
    black_and_white = images.round()
    assert_feasible(black_and_white, attack(model, black_and_white, labels, ball), ball)


def assert_feasible(images, images_adv, ball):
    assert ((images_adv >= 0) & (images_adv <= 1)).all()
    change = (images_adv.double() - images.double()).flatten(1)
    length = change.norm(dim=1, p={"linf": torch.inf, "l2": 2, "l1": 1}[ball.norm])
    assert (length <= ball.epsilon * (1 + 2**-20)).all()


def test_every_attack_of_the_registry_is_under_a_contract():
    here = {getattr(attack, "func", attack).__name__ for attack in ATTACKS.values()}
    within_a_ball = {name for name in REGISTRY if "ball" in arguments_of(name)}
    assert within_a_ball == here - {"noise_control"} | {"universal_perturbation"}


def arguments_of(name):
    return inspect.signature(getattr(attacks, name)).parameters


@every_attack
@every_ball
def test_the_layout_in_memory_does_not_matter(attack, ball):
    model, images, labels = network()
    expected = attack(model, images, labels, ball)
    apart = labels.repeat_interleave(2)[::2]
    turned = images.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    for laid_out in (images.contiguous(memory_format=torch.channels_last), turned):
        images_adv = attack(model, laid_out, apart, ball)
        torch.testing.assert_close(images_adv, expected, rtol=0, atol=1e-9)


@every_attack
@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_epsilon_zero_returns_the_images(attack, norm, dtype):
    model, images, labels = network(dtype)
    assert torch.equal(attack(model, images, labels, Ball(norm, 0)), images)


@every_attack
@every_ball
def test_neither_batching_nor_order_matters(attack, ball):
    model, images, labels = network()
    indices = torch.arange(100, 112)
    whole = attack(model, images, labels, ball, indices=indices)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    parts = [
        attack(model, images[part], labels[part], ball, indices=indices[part])
        for part in order.split([1, 4, 7])
    ]
    if attack is ATTACKS["autoattack"]:  # of two finds as good, rounding may choose the other
        assert torch.equal(model(torch.cat(parts)).argmax(1), model(whole[order]).argmax(1))
        return
    torch.testing.assert_close(torch.cat(parts), whole[order], rtol=0, atol=1e-9)


@every_attack
@every_ball
def test_the_seed_decides_and_the_global_generator_is_left_alone(attack, ball):
    model, images, labels = network()
    state = torch.random.get_rng_state()
    first, again = (attack(model, images, labels, ball, seed=1) for _ in range(2))
    other = attack(model, images, labels, ball, seed=2)
    elsewhere = attack(model, images, labels, ball, seed=1, indices=range(5, 17))
    assert torch.equal(first, again)
    assert torch.equal(state, torch.random.get_rng_state())
    if attack not in AGREEING:
        deterministic = attack is fgsm or attack is ATTACKS["pgd, clean start"]
        assert torch.equal(first, other) == deterministic
        assert torch.equal(first, elsewhere) == deterministic


@every_follower
@every_ball
def test_the_loss_moves_the_right_way(attack, ball):
    model, images, labels = network()
    targets = (labels + 1) % 4
    loss = settings(attack).get("loss", cross_entropy)
    with torch.no_grad():
        clean = loss(model(images), labels), loss(model(images), targets)
        raised = loss(model(attack(model, images, labels, ball)), labels)
    assert (raised > clean[0]).all()
    if not takes(attack, "targeted"):
        return
    towards = attack(model, images, targets, ball, targeted=True)
    with torch.no_grad():
        lowered = loss(model(towards), targets)
    assert (lowered < clean[1]).all()


@every_attack
@every_ball
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_mode_and_parameters_are_left_as_found(attack, ball, training):
    model, images, labels = network()
    model.append(nn.Dropout(0.1)).train(training)
    model[2].eval()  # a mixture of modes has to survive too
    model[1].weight.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model[4].weight.grad = torch.full_like(model[4].weight, 7)
    modes = [module.training for module in model.modules()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attack(model, images, labels, ball)
    looks = attack is not noise_control
    assert [str(w.message)[:26] for w in caught] == ["the model is in train mode"] * (
        training and looks
    )
    assert caught == [] or caught[0].filename == __file__
    assert [module.training for module in model.modules()] == modes
    assert not model[1].weight.requires_grad
    assert (model[4].weight.grad == 7).all()
    assert model[1].weight.grad is None
    assert model[4].bias.grad is None
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Outputs(nn.Module):
    """Returns what the function makes of the logits."""

    def __init__(self, function):
        super().__init__()
        self.body, self.function = network()[0], function
        self.eval()

    def forward(self, images):
        return self.function(self.body(images))


def steep(logits):
    """Return the same logits, with an infinite slope."""
    return logits.detach() + (logits - logits.detach()).sqrt()


@every_follower
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: {"images": x * 255}, ValueError, "divide by 255"),
        (lambda x, y: {"images": x - 0.5}, ValueError, "Classifier"),
        (lambda x, y: {"images": x * torch.nan}, ValueError, "NaN"),
        (lambda x, y: {"images": (x * 255).byte()}, TypeError, "float"),
        (lambda x, y: {"images": x.numpy()}, TypeError, "torch.as_tensor"),
        (lambda x, y: {"labels": y[:-1]}, ValueError, r"\(12,\), received \(11,\)"),
        (lambda x, y: {"labels": y + 4}, ValueError, "0 to 3"),
        (lambda x, y: {"labels": y.float()}, TypeError, "int64"),
        (lambda x, y: {"ball": 8 / 255}, TypeError, r"Ball\(.*received 0\.03"),
        (lambda x, y: {"model": lambda images: images}, TypeError, "Module, received function"),
        (lambda x, y: {"model": Outputs(lambda z: {"logits": z})}, TypeError, "Classifier"),
        (lambda x, y: {"model": Outputs(lambda z: (z, z))}, TypeError, "Classifier"),
        (lambda x, y: {"model": Outputs(lambda z: z[:, 0])}, ValueError, "two outputs"),
        (lambda x, y: {"model": Outputs(lambda z: z[:-1])}, ValueError, r"\(12, k\)"),
        (lambda x, y: {"model": Outputs(steep)}, ValueError, "gradient"),
        (lambda x, y: {"model": Outputs(torch.detach)}, ValueError, "no_grad"),
        (lambda x, y: {"loss": nn.CrossEntropyLoss()}, ValueError, "do not average"),
        (lambda x, y: {"loss": margin}, ValueError, "margin_loss"),
    ],
)
def test_unusable_arguments_are_refused_with_a_remedy(attack, change, error, message):
    model, images, labels = network()
    if attack is ATTACKS["square"] and message in ("gradient", "no_grad"):
        return  # it asks for no gradient
    if message in ("do not average", "margin_loss") and not takes(attack, "loss"):
        return  # its losses are its own
    arguments = {"model": model, "images": images, "labels": labels, "ball": BALLS["linf"]}
    with pytest.raises(error, match=message):
        attack(**{**arguments, **change(images, labels)})


class Around(nn.Module):
    """A network with something done to its input, or to its output."""

    def __init__(self, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.body, self.before, self.after = network(torch.float32)[0], before, after
        self.register_buffer("seen", torch.zeros(()))
        self.eval()

    def forward(self, images):
        return self.after(self.body(self.before(images)))


def survivors(model, attack, ball, images, labels):
    return model(attack(model, images, labels, ball)).argmax(dim=1) == labels


@every_attack
@every_ball
def test_a_model_may_write_into_its_input(attack, ball):
    _, images, labels = network(torch.float32)
    kept = images.clone(), labels.clone()
    copying, writing = Around(lambda x: x * 2 - 0.5), Around(lambda x: x.mul_(2).sub_(0.5))
    expected = attack(copying, images, labels, ball)
    torch.testing.assert_close(attack(writing, images, labels, ball), expected)
    assert all(map(torch.equal, (images, labels), kept))


@every_attack
@every_ball
def test_neither_a_clamp_in_front_nor_an_offset_changes_what_stands(attack, ball):
    _, images, labels = network(torch.float32)
    images = torch.where(images < 0.4, 0.0, torch.where(images > 0.8, 1.0, images))
    plain = Around()
    labels = plain(images).argmax(dim=1)
    expected = survivors(plain, attack, ball, images, labels)
    for model in (
        Around(lambda x: x.clamp(0, 1)),
        Around(
            lambda x: ((x - 0.485) / 0.229).clamp(-0.485 / 0.229, 0.515 / 0.229) * 0.229 + 0.485
        ),
        Around(after=lambda z: z + 20),
        Around(after=lambda z: z - 20),
    ):
        assert torch.equal(survivors(model, attack, ball, images, labels), expected)


@every_attack
def test_pixels_outside_a_mask_stay_as_they_are(attack):
    model, images, labels = network()
    generator = torch.Generator().manual_seed(0)
    for norm, epsilon in (("linf", 0.1), ("l2", 0.5), ("l1", 1.5)):
        for rows in (1, 12):
            mask = torch.rand(rows, 1, 3, 3, generator=generator) < 0.6
            ball, frozen = Ball(norm, epsilon, mask=mask), ~mask.expand_as(images)
            images_adv = attack(model, images, labels, ball)
            assert torch.equal(images_adv[frozen], images[frozen])
            assert ball.admits(images, images_adv).all()
            assert not torch.equal(images_adv, images)


@every_follower
def test_examples_that_cannot_be_judged_are_named_alike(attack):
    _, images, labels = network(torch.float32)
    bad = Around(lambda x: torch.where(torch.arange(len(x)).view(-1, 1, 1, 1) == 3, torch.nan, x))
    with pytest.raises(BadExampleError, match="1 of 12 examples"):
        attack(bad, images, labels, BALLS["linf"])


@every_follower
@every_ball
def test_an_impossible_class_is_no_rival(attack, ball):
    _, images, labels = network(torch.float32)
    fills = {}
    for fill in (-torch.inf, -1e9):
        model = Around(after=lambda z, fill=fill: z.index_fill(1, torch.tensor([3]), fill))
        labels = model(images).argmax(dim=1)
        fills[fill] = survivors(model, attack, ball, images, labels)
    assert (fills[-torch.inf] == fills[-1e9]).float().mean() >= 11 / 12


@pytest.mark.parametrize("loss", [margin_loss, dlr])
def test_a_label_as_impossible_as_others_is_no_bad_example(loss):
    _, images, labels = network(torch.float32)

    def two_best(logits, fill):
        second = logits.topk(2, dim=1).values[:, 1:]
        return torch.where(logits >= second, logits, fill)

    labels[:4] = Around()(images[:4]).argmin(dim=1)
    attack = partial(pgd, steps=5, loss=loss)
    infinite, finite = (
        survivors(Around(after=partial(two_best, fill=fill)), attack, BALLS["linf"], images, labels)
        for fill in (-torch.inf, -1e9)
    )
    assert not infinite[:4].any()
    assert torch.equal(infinite, finite)


def test_no_gap_between_impossible_classes_is_nan():
    logits = torch.tensor([[-torch.inf, -torch.inf, 1.0]])
    gaps = [
        rival_gap(logits, torch.tensor([y]), torch.tensor([t])).item() for y, t in ((0, 1), (0, 2))
    ]
    assert gaps[0] == -torch.inf
    assert gaps[1] > 1e30


@every_follower
def test_whatever_the_model_does_is_undone(attack):
    _, images, labels = network(torch.float32)

    def restless(x):
        model.seen += 1
        model.body.train()
        model.body.eval()
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
        return x

    model = Around(restless)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    attack(model, images, labels, BALLS["linf"])
    assert model.seen == 0
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


@pytest.mark.parametrize("name", ["pgd", "multi-targeted, nearest", "autoattack"])
def test_compiled_models_are_attacked_as_they_are(name):
    model, images, labels = network(torch.float32)
    compiled = torch.compile(model, backend="aot_eager")
    expected = survivors(model, ATTACKS[name], BALLS["linf"], images, labels)
    assert torch.equal(survivors(compiled, ATTACKS[name], BALLS["linf"], images, labels), expected)


@pytest.mark.parametrize("name", [n for n, e in REGISTRY.items() if e.kind != "universal"])
def test_indices_are_checked_and_a_callback_is_taken_by_all(name):
    attack, (model, images, labels) = REGISTRY[name].function, network()
    assert {"seed", "indices", "callback"} <= settings(attack).keys()
    given = [Ball("linf", 0.1)] if takes(attack, "ball") else []
    for wrong in ("abc", range(5), [0.5] * 12):
        with pytest.raises(ValueError, match="indices: expected 12 whole numbers"):
            attack(model, images, labels, *given, indices=wrong)


@pytest.mark.parametrize("attack", [fgsm, partial(multi_targeted, steps=4, targets=2)])
def test_a_callback_sees_whole_batches_and_changes_nothing(attack):
    model, images, labels = network()
    steps = []

    def spoil(step, images_adv, losses):
        assert images_adv.shape == images.shape
        assert losses.shape == labels.shape
        steps.append(step)
        images_adv.zero_()

    watched = attack(model, images, labels, BALLS["linf"], callback=spoil)
    assert torch.equal(watched, attack(model, images, labels, BALLS["linf"]))
    assert steps[:2] == [0, 1]
