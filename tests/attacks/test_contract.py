"""What every attack promises, whatever its norm and method."""

import inspect
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon import attacks
from within_epsilon.attacks import (
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
from within_epsilon.losses import cross_entropy, margin, margin_loss
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
SLACK = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}

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
@pytest.mark.parametrize("dtype", SLACK, ids=str)
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
    if ball.norm == "linf":
        assert (images_adv >= (images - ball.epsilon).clamp(min=0)).all()
        assert (images_adv <= (images + ball.epsilon).clamp(max=1)).all()
    else:
        change = (images_adv.double() - images.double()).flatten(1)
        length = change.norm(dim=1, p={"l2": 2, "l1": 1}[ball.norm])
        assert (length <= ball.epsilon * (1 + SLACK[images.dtype])).all()


def test_every_public_attack_is_under_a_contract():
    public = {name for name in attacks.__all__ if "labels" in arguments_of(name)}
    here = {getattr(attack, "func", attack).__name__ for attack in ATTACKS.values()}
    others = {"adversarial_patch", "boundary", "carlini_wagner", "deepfool", "fmn"}
    others |= {"input_gradient", "universal_perturbation"}  # no images come out of these
    assert public == here | others
    assert not here & others


def arguments_of(name):
    value = getattr(attacks, name)
    return inspect.signature(value).parameters if inspect.isfunction(value) else {}


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
@pytest.mark.parametrize("dtype", SLACK, ids=str)
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
    model.train(training)
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
        (lambda x, y: {"model": Outputs(lambda z: z[:-1])}, ValueError, r"\(12, K\)"),
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
