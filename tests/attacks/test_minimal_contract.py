"""What every minimal-norm attack promises, whatever its norm and method."""

import inspect
import itertools
import math
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from within_epsilon.attacks import (
    REGISTRY,
    carlini_wagner,
    ddn,
    deepfool,
    fab,
    fmn,
    hop_skip_jump,
    sigma_zero,
)

NORMS = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}
# Name: attack, its norm, whether it takes targets, whether it asks for gradients, and by how
# much its distances may exceed the least possible on linear models.
FIRST = {"initial_constant": 0.1}
ATTACKS = {
    "fmn, linf": (partial(fmn, norm="linf", steps=60), "linf", True, True, 0.01),
    "fmn, l2": (partial(fmn, norm="l2", steps=60), "l2", True, True, 0.01),
    "fmn, l1": (partial(fmn, norm="l1", steps=100), "l1", True, True, 0.01),
    "deepfool, linf": (partial(deepfool, norm="linf"), "linf", True, True, 0.01),
    "deepfool, l2": (deepfool, "l2", True, True, 0.01),
    "fab, linf": (partial(fab, norm="linf", steps=20), "linf", True, True, 0.01),
    "fab, l2": (partial(fab, norm="l2", steps=20, nearest=True), "l2", True, True, 0.01),
    "fab, l1": (partial(fab, norm="l1", steps=20, restarts=2), "l1", True, True, 0.01),
    "ddn": (partial(ddn, steps=60, epsilon=0.5), "l2", True, True, None),
    "sigma_zero": (partial(sigma_zero, steps=150), "l0", True, True, None),
    "carlini_wagner": (
        partial(carlini_wagner, steps=40, step_size=0.05, binary_search_steps=5, **FIRST),
        *("l2", True, True, 0.01),
    ),
    "hop_skip_jump": (partial(hop_skip_jump, steps=6, samples=40), "l2", False, False, None),
}
RANDOM = ("hop_skip_jump",)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

every_attack = pytest.mark.parametrize("name", ATTACKS)
every_targeted = pytest.mark.parametrize("name", [n for n, a in ATTACKS.items() if a[2]])
every_follower = pytest.mark.parametrize("name", [n for n, a in ATTACKS.items() if a[3]])


def network(dtype=torch.float64):
    """Return a network of normalisation, smooth units and 4 classes, and its 10 examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(18, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 4)
        )
        nn.init.normal_(model[1].weight)
        images = torch.rand(10, 2, 3, 3, dtype=torch.float64)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = 0, 1  # at the edges of the range too
    model = model.to(torch.float64).eval()
    labels = model(images).argmax(dim=1)
    return model.to(dtype), images.to(dtype), labels


def linear(classes, generator):
    """Return a linear classifier of 18 pixels, and images far from the edges of the range."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, classes)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
        images = 0.4 + 0.2 * torch.rand(8, 2, 3, 3, dtype=torch.float64, generator=generator)
        model[1].bias -= model(images).mean(dim=0)  # all classes occur, at small margins
        labels = model(images).argmax(dim=1)
    return model, images, labels


@every_attack
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_found_fools_the_model_at_the_distance_given(name, dtype):
    attack, norm, *_ = ATTACKS[name]
    model, images, labels = network(dtype)
    labels[:2] = (labels[:2] + 1) % 4  # misclassified as they are
    before = images.clone()
    images_adv, distances = attack(model, images.requires_grad_(), labels)
    assert torch.equal(images, before)
    images = images.detach()
    assert images_adv.dtype == dtype
    assert images_adv.device == images.device == distances.device
    assert images_adv.shape == images.shape
    assert distances.shape == (10,)
    assert not images_adv.requires_grad
    assert not distances.requires_grad
    assert ((images_adv >= 0) & (images_adv <= 1)).all()
    assert distances.isfinite().all()
    assert (model(images_adv).argmax(dim=1) != labels).all()
    change = (images_adv.double() - images.double()).flatten(1)
    lengths = torch.linalg.vector_norm(change, NORMS[norm], dim=1)
    torch.testing.assert_close(distances.double(), lengths, rtol=1e-6, atol=0)
    assert (distances[:2] == 0).all()
    assert (distances[2:] > 0).all()


@every_attack
def test_where_nothing_is_found_the_image_comes_back_at_infinity(name):
    attack = ATTACKS[name][0]
    _, images, _ = network()
    constant = nn.Sequential(nn.Flatten(), nn.Linear(18, 4)).double().eval()
    with torch.no_grad():
        constant[1].weight.zero_()
        constant[1].bias.copy_(torch.tensor([0.0, 3.0, 1.0, 0.0]))
    labels = torch.ones(10).long()
    labels[4] = 2
    images_adv, distances = attack(constant, images, labels)
    assert torch.equal(images_adv, images)
    assert distances.tolist() == [math.inf] * 4 + [0] + [math.inf] * 5


def least_distances(model, images, labels, norm):
    """Return the exact distances to the nearest other class of a linear model."""
    weights, logits = model[1].weight.detach(), model(images).detach()
    gaps = logits.gather(1, labels[:, None]) - logits
    slopes = torch.linalg.vector_norm(weights[labels][:, None] - weights, DUAL[norm], dim=2)
    return (gaps / slopes).nan_to_num(nan=math.inf).amin(dim=1)


@pytest.mark.parametrize("name", [n for n in ATTACKS if n.startswith(("fmn", "deepfool", "fab"))])
@pytest.mark.parametrize("classes", [2, 5])
def test_on_a_linear_model_the_distance_is_the_least_possible(name, classes):
    attack, norm, *_, slack = ATTACKS[name]
    for seed in range(3):
        model, images, labels = linear(classes, torch.Generator().manual_seed(seed))
        least = least_distances(model, images, labels, norm)
        # l1 moves a single pixel: only where it has the room is the formula the truth.
        inside = least < 0.4 if norm == "l1" else least < torch.inf
        assert inside.sum() > 4
        _, distances = attack(model, images, labels)
        assert (distances[inside] >= least[inside] * (1 - 1e-9)).all()
        assert (distances[inside] <= least[inside] * (1 + slack)).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_carlini_wagner_finds_the_least_distance_over_all_targets(classes):
    # Untargeted it heads for the likeliest class, which need not be the nearest.
    model, images, labels = linear(classes, torch.Generator().manual_seed(0))
    images, labels = images[:4], labels[:4]
    distances = []
    for target in range(classes):
        targets = torch.full_like(labels, target)
        options = {"steps": 100, "step_size": 0.01, "binary_search_steps": 8, **FIRST}
        found = carlini_wagner(model, images, targets, targeted=True, **options).distances
        distances.append(torch.where(labels == target, torch.inf, found))
    least = least_distances(model, images, labels, "l2")
    torch.testing.assert_close(torch.stack(distances).amin(dim=0), least, rtol=0.01, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_decisions_alone_lead_to_the_least_distance_between_two_classes(seed):
    model, images, labels = linear(2, torch.Generator().manual_seed(seed))
    distances = hop_skip_jump(model, images, labels, steps=15).distances
    least = least_distances(model, images, labels, "l2")
    assert (distances >= least * (1 - 1e-9)).all()
    assert (distances <= 1.01 * least).all()


@every_attack
def test_neither_batching_nor_order_matters(name):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    options = {"indices": torch.arange(100, 110)} if name in RANDOM else {}
    whole = attack(model, images, labels, **options)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    parts = []
    for part in order.split([1, 3, 6]):
        if name in RANDOM:
            options = {"indices": 100 + part}
        parts.append(attack(model, images[part], labels[part], **options))
    for field in range(2):
        joined = torch.cat([part[field] for part in parts])
        torch.testing.assert_close(joined, whole[field][order], rtol=0, atol=1e-8)


@every_attack
def test_the_seed_decides_and_the_global_generator_is_left_alone(name):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    state = torch.random.get_rng_state()
    first, again = (attack(model, images, labels) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.images_adv, again.images_adv)
    if name in RANDOM:
        other = attack(model, images, labels, seed=1)
        elsewhere = attack(model, images, labels, indices=range(5, 15))
        assert not torch.equal(first.images_adv, other.images_adv)
        assert not torch.equal(first.images_adv, elsewhere.images_adv)


@every_targeted
def test_targets_are_reached(name):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    targets = (labels + 1) % 4
    targets[0] = labels[0]
    images_adv, distances = attack(model, images, targets, targeted=True)
    found = distances.isfinite()
    assert found.sum() >= 8
    assert (model(images_adv).argmax(dim=1) == targets)[found].all()
    assert torch.equal(images_adv[~found], images[~found])
    assert distances[0] == 0
    nearest = attack(model, images, labels).distances
    # That any class will do is never harder; a count may be found one too high.
    slack = 1 if ATTACKS[name][1] == "l0" else 0
    assert (distances[1:] + slack > nearest[1:] * 0.95).all()


def test_carlini_wagner_goes_no_further_than_the_margin_asked_for_takes():
    model, images, labels = linear(2, torch.Generator().manual_seed(0))
    options = {"steps": 100, "step_size": 0.01, "binary_search_steps": 8, **FIRST}
    distances = carlini_wagner(model, images, labels, confidence=0.2, **options).distances
    slope = (model[1].weight[0] - model[1].weight[1]).norm().detach()
    least = least_distances(model, images, labels, "l2") + 0.2 / slope
    torch.testing.assert_close(distances, least, rtol=0.01, atol=0)


def test_decisions_lead_from_given_starts_to_the_target():
    model, images, labels = linear(5, torch.Generator().manual_seed(0))
    # Each example has its own start, of its own target; the first one's is of no use.
    order = torch.arange(7, -1, -1)
    starts, targets = images[order], labels[order]
    targets[0] = next(k for k in range(5) if k not in (labels[0], targets[0]))
    settings = {"steps": 6, "samples": 40, "starts": starts, "targeted": True}
    images_adv, distances = hop_skip_jump(model, images, targets, **settings)
    done, far = labels == targets, (starts - images).flatten(1).norm(dim=1)
    assert distances[0] == torch.inf
    assert torch.equal(images_adv[0], images[0])
    assert (distances[done] == 0).all()
    assert (model(images_adv).argmax(dim=1) == targets)[1:].all()
    assert (~done).sum() >= 5
    assert (distances[1:] <= 0.9 * far[1:]).all()
    # Untargeted, they begin there too: a start that fools nobody leaves the image as it was.
    useless = hop_skip_jump(model, images, labels, steps=2, samples=10, starts=images.clone())
    assert useless.distances.isinf().all()
    assert torch.equal(useless.images_adv, images)


@pytest.mark.parametrize("targeted", [False, True])
def test_carlini_wagner_fools_by_the_margin_asked_for(targeted):
    model, images, labels = network()
    labels = (labels + 1) % 4 if targeted else labels
    attack, *_ = ATTACKS["carlini_wagner"]
    found = {k: attack(model, images, labels, targeted=targeted, confidence=k) for k in (0.0, 0.5)}
    near, far = found[0.0].distances, found[0.5].distances
    both = near.isfinite() & far.isfinite()
    assert both.sum() >= 8
    assert (far[both] > near[both]).all()
    logits = model(found[0.5].images_adv).detach()
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), -math.inf).amax(dim=1)
    gaps = (own - others if targeted else others - own)[both]
    assert (gaps >= 0.5).all()
    assert gaps.median() < 0.75


@every_attack
def test_the_layout_in_memory_does_not_matter(name):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    expected = attack(model, images, labels)
    turned = images.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    for laid_out in (images.contiguous(memory_format=torch.channels_last), turned):
        for ours, theirs in zip(attack(model, laid_out, labels), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


@every_attack
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_mode_and_parameters_are_left_as_found(name, training):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    model.append(nn.Dropout(0.1)).train(training)
    model[2].eval()  # a mixture of modes has to survive too
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model[4].weight.grad = torch.full_like(model[4].weight, 7)
    modes = [module.training for module in model.modules()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attack(model, images, labels)
    assert [str(w.message)[:26] for w in caught] == ["the model is in train mode"] * training
    assert caught == [] or caught[0].filename == __file__
    assert [module.training for module in model.modules()] == modes
    assert (model[4].weight.grad == 7).all()
    assert model[4].bias.grad is None
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@every_attack
def test_the_callback_sees_the_distances_shrink_and_changes_nothing(name):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    labels[0] = (labels[0] + 1) % 4
    visits = []

    def spoil(step, images_adv, distances):
        assert images_adv.shape == images.shape
        visits.append((step, distances.clone()))
        images_adv.zero_()
        distances.zero_()

    watched = attack(model, images, labels, callback=spoil)
    quiet = attack(model, images, labels)
    assert torch.equal(watched.images_adv, quiet.images_adv)
    assert torch.equal(watched.distances, quiet.distances)
    steps = [step for step, _ in visits]
    assert steps == list(range(steps[0], steps[0] + len(steps)))
    for (_, before), (_, after) in itertools.pairwise(visits):
        assert (after <= before).all()
    assert (visits[-1][1] >= quiet.distances).all()


@every_attack
def test_no_example_to_fool_is_no_trouble(name):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    images_adv, distances = attack(model, images, (labels + 1) % 4)
    assert torch.equal(images_adv, images)
    assert (distances == 0).all()


class Outputs(nn.Module):
    """Returns what the function makes of the logits."""

    def __init__(self, function):
        super().__init__()
        self.body, self.function = network()[0], function
        self.eval()

    def forward(self, images):
        return self.function(self.body(images))


COMMON = [
    (lambda x, y: {"images": x * 255}, ValueError, "divide by 255"),
    (lambda x, y: {"images": (x * 255).byte()}, TypeError, "float"),
    (lambda x, y: {"labels": y[:-1]}, ValueError, r"\(10,\), received \(9,\)"),
    (lambda x, y: {"labels": y + 4}, ValueError, "0 to 3"),
    (lambda x, y: {"model": Outputs(lambda z: (z, z))}, TypeError, "Classifier"),
    (lambda x, y: {"model": Outputs(lambda z: z[:, 0])}, ValueError, "two outputs"),
    (lambda x, y: {"model": Outputs(lambda z: z * torch.nan)}, ValueError, "NaN"),
]


@every_attack
@pytest.mark.parametrize(("change", "error", "message"), COMMON)
def test_unusable_arguments_are_refused_with_a_remedy(name, change, error, message):
    model, images, labels = network()
    arguments = {"model": model, "images": images, "labels": labels}
    with pytest.raises(error, match=message):
        ATTACKS[name][0](**{**arguments, **change(images, labels)})


@every_follower
def test_a_model_without_gradient_is_refused(name):
    _, images, labels = network()
    with pytest.raises(ValueError, match="no_grad"):
        ATTACKS[name][0](Outputs(torch.detach), images, labels)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (fmn, {"norm": "l3"}, "norm: expected linf or l2 or l1, received 'l3'"),
        (fmn, {"norm": "l2", "steps": 0}, "steps: expected at least 1"),
        (fmn, {"norm": "l2", "step_size": 0}, "step_size"),
        (fmn, {"norm": "l2", "gamma": 1.0}, "gamma"),
        (deepfool, {"norm": "l1"}, "norm: expected l2 or linf, received 'l1'"),
        (deepfool, {"overshoot": -0.1}, "overshoot"),
        (deepfool, {"rivals": 0}, "rivals: expected at least 1"),
        (carlini_wagner, {"binary_search_steps": 0}, "binary_search_steps"),
        (carlini_wagner, {"step_size": 0}, "step_size"),
        (carlini_wagner, {"confidence": -1.0}, "confidence"),
        (hop_skip_jump, {"samples": 0}, "samples: expected at least 1"),
        (hop_skip_jump, {"targeted": True}, "starts"),
        (hop_skip_jump, {"starts": torch.zeros(3, 2, 3, 3)}, "starts: expected"),
        (hop_skip_jump, {"indices": [1]}, "indices: expected 10"),
    ],
)
def test_impossible_settings_are_refused(attack, options, message):
    with pytest.raises(ValueError, match=message):
        attack(*network(), **options)


def test_every_minimal_norm_attack_of_the_registry_is_under_a_contract():
    here = {getattr(attack, "func", attack).__name__ for attack, *_ in ATTACKS.values()}
    known = {
        name: set(inspect.signature(entry.function).parameters)
        for name, entry in REGISTRY.items()
        if "norm" in inspect.signature(entry.function).parameters
    }
    assert set(known) == here
    for parameters in known.values():  # all are called alike
        assert parameters >= {"targeted", "mask", "seed", "indices", "callback"}


@every_attack
@pytest.mark.parametrize("each", [False, True], ids=["one mask", "a mask each"])
def test_pixels_outside_a_mask_stay_as_they_are(name, each):
    attack = ATTACKS[name][0]
    model, images, labels = network()
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(10 if each else 1, 2, 3, 3, generator=generator) < 0.6
    images_adv, distances = attack(model, images, labels, mask=mask)
    found = distances.isfinite()
    assert found.sum() >= 7
    assert torch.equal(images_adv[~mask.expand_as(images)], images[~mask.expand_as(images)])
    assert (model(images_adv).argmax(dim=1) != labels)[found].all()
    if name in RANDOM:
        return  # what is found in a few steps depends on luck
    # A boundary found within the mask is never much nearer than that of all pixels.
    slack = 1 if ATTACKS[name][1] == "l0" else 0
    assert (distances + slack >= 0.9 * attack(model, images, labels).distances).all()
