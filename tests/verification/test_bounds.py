"""Bounds against closed forms, enumeration, and those of another library."""

import warnings

import numpy as np
import pytest
import torch
from enumeration import least_value
from scipy.optimize import linprog
from torch import nn

from within_epsilon.data.files import cache_folder
from within_epsilon.models import Classifier, mlp
from within_epsilon.region import SLACK
from within_epsilon.threat import Ball
from within_epsilon.verification import Box, crown, ibp, rivals
from within_epsilon.verification.domain import domain_of
from within_epsilon.verification.network import read_network
from within_epsilon.verification.rounding import Arithmetic, gamma
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.values import Interval

EPSILONS = ("0.01", "0.03", "0.1")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_linear_classifier_has_its_closed_form(norm):
    torch.manual_seed(0)
    model = mlp(6, 4).double()
    images = torch.full((5, 1, 2, 3), 0.5, dtype=torch.float64) + 0.1 * torch.rand(5, 1, 2, 3)
    labels = torch.tensor([0, 1, 2, 3, 0])
    lower = crown(model, images, labels, Ball(norm, 0.2), arithmetic="real").lower
    gaps = model[1].weight[labels].unsqueeze(1) - model[1].weight[rivals(labels, 4)]
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    logits = model(images)
    clean = logits.gather(1, labels[:, None]) - logits.gather(1, rivals(labels, 4))
    closed = clean - 0.2 * torch.linalg.vector_norm(gaps, dual, dim=2)
    torch.testing.assert_close(lower, closed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_least_value_over_ball_and_pixel_range_is_attained(norm, masked):
    torch.manual_seed(1)
    images = torch.rand(4, 1, 2, 3, dtype=torch.float64).round(decimals=1)
    mask = (torch.rand(4, 1, 2, 3) < 0.7) if masked else None
    ball = Ball(norm, 0.6, mask)
    rows = torch.randn(4, 2, 1, 2, 3, dtype=torch.float64)
    found = domain_of(images, ball, exactly=True).least(rows)
    for n in range(4):
        x = images[n].flatten().numpy()
        free = np.ones(6) if mask is None else mask[n].flatten().numpy() * 1.0
        for s in range(2):
            a = rows[n, s].flatten().numpy()
            # x' = x + up - down, with both parts at least 0.
            up, down = np.minimum(1 - x, 0.6) * free, np.minimum(x, 0.6) * free
            limits = [(0, end) for end in np.concatenate([up, down])]
            length = {"A_ub": np.ones((1, 12)), "b_ub": [0.6]} if norm == "l1" else {}
            least = linprog(np.concatenate([a, -a]), bounds=limits, **length).fun + a @ x
            assert found[n, s].item() == pytest.approx(least, abs=1e-12)
            assert found[n, s].item() <= least + 1e-15


def test_enumeration_of_activation_patterns_agrees():
    tightest = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = mlp(3, 4, 3, 2).double()
        images = torch.rand(1, 1, 1, 3, dtype=torch.float64)
        for epsilon in (0.01, 0.2, 0.5):
            ball, label = Ball("linf", epsilon), torch.tensor([0])
            domain = domain_of(images, ball, exactly=True)
            exact = least_value(model, domain.lower, domain.upper, np.array([1.0, -1.0]))
            chain = [
                bound(model, images, label, ball, arithmetic="real", **how).lower.item()
                for bound, how in ((ibp, {}), (crown, {}), (crown, {"steps": 40}))
            ]
            assert chain[0] <= chain[1] <= chain[2] + 1e-12
            assert chain[2] <= exact + 1e-12
            tightest.append(exact - chain[2])
    # Where no ReLU is in doubt the bound is exact, and it is never far off here.
    assert min(tightest) < 1e-12
    assert max(tightest) < 0.2


def test_a_box_is_what_it_says_and_pixels_are_not_asked_for():
    model = mlp(2, 3, 2).double()
    box = Box(torch.tensor([[-3.0, 5.0]]).double(), torch.tensor([[-2.0, 9.0]]).double())
    both = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    lower = crown(model, box, both).lower[0]
    points = box.lower + torch.rand(2000, 2) * (box.upper - box.lower)
    gap = model(points)[:, 0] - model(points)[:, 1]
    assert lower[0] <= gap.min()
    assert -lower[1] >= gap.max()
    found = ibp(model, box, None)
    assert (found.lower <= model(points)).all()
    assert (model(points) <= found.upper).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(torch.ones(1, 2), torch.zeros(1, 2)), "none above the upper"),
        (lambda: Box(torch.zeros(2), torch.ones(2)), "unsqueeze"),
        (lambda: Box(torch.zeros(1, 2), torch.ones(1, 3)), "shape"),
        (lambda: Box(torch.zeros(1, 2), torch.full((1, 2), torch.inf)), "infinity"),
        (lambda: crown(mlp(2, 2), torch.full((1, 2), 2.0), None, Ball("linf", 0.1)), "pixels"),
        (lambda: crown(mlp(2, 2), torch.rand(1, 2), torch.tensor([2]), Ball("l2", 1)), "classes"),
        (lambda: crown(mlp(2, 2), torch.rand(1, 2), torch.rand(3, 3), Ball("l2", 1)), "coeffic"),
        (lambda: crown(mlp(2, 2), torch.rand(1, 3), None, Ball("l2", 1)), "takes inputs"),
        (lambda: ibp(mlp(2, 2), torch.rand(1, 2), None, Ball("l2", 1), arithmetic="exact"), "None"),
    ],
)
def test_what_is_no_question_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_box_and_a_ball_are_one_too_many_and_none_is_too_few():
    box = Box(torch.zeros(1, 2), torch.ones(1, 2))
    with pytest.raises(TypeError, match="beside a Box"):
        crown(mlp(2, 2), box, None, Ball("l2", 1))
    with pytest.raises(TypeError, match="ball"):
        crown(mlp(2, 2), torch.rand(1, 2), None)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "1 .Conv2d. with padding_mode"),
        (nn.Conv2d(1, 1, 2, padding="same"), "even kernel"),
        (nn.MaxPool2d(2, dilation=2, padding=1), "a dilation and windows beyond the edge"),
        (nn.MaxPool2d(2, return_indices=True), "return_indices=True"),
        (nn.AvgPool2d(2, padding=1), "AvgPool2d. with padding=1"),
        (nn.LeakyReLU(-0.1), "negative_slope=-0.1"),
        (nn.LeakyReLU(1.5), "negative_slope=1.5"),
        (nn.Linear(5, 2), "inputs of shape"),
        (nn.ReLU(), "logits of shape"),
    ],
)
def test_what_no_rule_covers_is_refused_by_name(layer, what):
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=what):
            read_network(model.eval(), (1, 5, 5))
    with pytest.raises(TypeError, match="Sigmoid at 1"):
        read_network(nn.Sequential(nn.Flatten(), nn.Sigmoid()), (1, 5, 5))


def test_a_networks_nodes_compute_what_it_does():
    body = nn.Sequential(
        *(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, stride=1)),
        *(nn.Flatten(), nn.Linear(8, 3)),
    )
    model = Classifier(body, 0.4, 0.2).double().eval()
    images = torch.rand(5, 1, 6, 6, dtype=torch.float64)
    network = read_network(model, (1, 6, 6))
    torch.testing.assert_close(network.forward(images)[-1], model(images))
    # The maximum of ReLUs is taken as the ReLU of maxima. Of 4 x 4 numbers in 2 channels, two
    # comparisons make 4 x 2, two more 2 x 2, each of which has one ReLU then.
    kinks = [network.nodes[i].shape.numel() for i in network.activations]
    assert kinks == [16, 16, 8, 8, 8]


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_relu_without_a_kink_is_its_own_line_to_the_bit(slope, dtype):
    """What is on either side of 0 loses nothing, and passes no gradient on to its ends."""
    tiny = torch.finfo(dtype).tiny
    some = [tiny, 3e-20, 0.1, 1 / 3, 0.7, 1.0, 3e20]
    lower = torch.tensor([*some, 0.0, 0.0, -tiny, -0.3], dtype=dtype, requires_grad=True)
    upper = torch.tensor([*some, 0.3, 0.0, tiny, 0.7], dtype=dtype, requires_grad=True)
    ends = Interval(lower.unsqueeze(0), upper.unsqueeze(0))
    steep, height = ReLURule(slope).chord(ends)
    assert (steep[0, : len(some) + 1] == 1).all()
    assert (height[0, : len(some) + 2] == 0).all()
    assert (height[0, len(some) + 2 :] > 0).all()
    below, none = ReLURule(slope).chord(Interval(-ends.upper, -ends.lower))
    assert (below[0, : len(some)] == slope).all()
    assert (none[0, : len(some) + 2] == 0).all()
    slopes = torch.autograd.grad(height[0, 2:7].sum(), [lower, upper])
    assert not any(one.any() for one in slopes)
    assert torch.autograd.grad(below.sum() + none.sum(), upper)[0].isfinite().all()


def test_nothing_is_added_where_nothing_adds():
    """No bias, no ReLU, no rounding: constants are 0, and the bound is the closed form's."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double().eval()
    images = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64)
    found = crown(model, images, None, Ball("linf", 0.1), arithmetic="real")
    weight = model[1].weight.detach()
    expected = 0.5 * weight.sum(dim=1) - 0.1 * weight.abs().sum(dim=1)
    torch.testing.assert_close(found.lower, expected.expand(2, 3), rtol=0, atol=1e-12)
    assert found.coefficients.shape == (2, 3, 1, 2, 2)
    # (Rounding of the bounds' own arithmetic is paid all the same.)
    assert -1e-12 < found.constants.min() <= found.constants.max() <= 0


def test_the_allowance_grows_with_the_sum_and_covers_each_dtype():
    assert gamma(10, 2.0**-24) == pytest.approx(10 * 2**-24, rel=1e-5)
    sizes = torch.ones(1, dtype=torch.float64)
    real, single, double = (
        Arithmetic(dtype).noise(sizes, 100, 100).item()
        for dtype in (None, torch.float32, torch.float64)
    )
    assert real < double < single
    assert single == pytest.approx(101 * 2**-24, rel=1e-3)
    assert Arithmetic(torch.float32).noise(sizes, 0, 100).item() == real
    with pytest.raises(ValueError, match="stay within float32"):
        Arithmetic(torch.float32).noise(1e38 * torch.full((1,), 3.0).double(), 1, 1)
    with pytest.raises(TypeError, match="float16"):
        Arithmetic(torch.float16)
    with pytest.raises(ValueError, match="fewer than"):
        gamma(10**6, 2.0**-24)


def test_the_float_ball_is_the_one_that_attacks_are_held_to():
    images = torch.tensor([[0.0, 0.5, 1.0]])
    wide = domain_of(images, Ball("linf", 0.25), exactly=False)
    assert wide.upper[0, 1] >= 0.5 + 0.25 * (1 + SLACK)
    exact = domain_of(images, Ball("linf", 0.25), exactly=True)
    assert exact.upper[0, 1].item() == pytest.approx(0.75, abs=1e-15)
    assert wide.lower[0].tolist()[0] == 0.0
    assert wide.upper[0].tolist()[2] == 1.0


def reference():
    path = cache_folder() / "bounds" / "reference_bounds.npz"
    if not path.exists():
        pytest.skip("skipped, because the reference bounds are not at hand")
    return np.load(path, allow_pickle=False)


def reference_network(found, name):
    state = {
        key.split("/")[2]: torch.from_numpy(found[key])
        for key in found.files
        if key.startswith(f"{name}/weights/")
    }
    layers = []
    if name.startswith("conv"):
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU()]
    layers += [nn.Flatten()]
    for weight in state.values():
        if weight.ndim == 2:
            layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).double()
    model.load_state_dict(state)
    return model.eval()


WAYS = {
    "CROWN": {},
    "CROWN_zero": {"lower_slope": "zero"},
    "CROWN_one": {"lower_slope": "one"},
    "CROWN_same": {"lower_slope": "same"},
    "CROWN_IBP": {"intermediate": "interval"},
}


@pytest.mark.parametrize(
    "name",
    [
        *("tiny_3_8_8_2", "deep_8_16_16_16_5", "he_64_20_10", "he_64_50_20_10", "conv_1x8x8"),
        *("ibp_trained_64_50_20_10", "pgd_trained_64_50_20_10"),
    ],
)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_bounds_agree_with_those_of_auto_lirpa(name, epsilon):
    found = reference()
    at = f"{name}/eps{epsilon}"
    model, labels = reference_network(found, name), torch.from_numpy(found[f"{name}/label"])
    box = Box(*(torch.from_numpy(found[f"{at}/{end}"]) for end in ("x_L", "x_U")))
    boxes = ibp(model, box, None, arithmetic="real")
    np.testing.assert_allclose(boxes.lower, found[f"{at}/IBP/lower"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(boxes.upper, found[f"{at}/IBP/upper"], rtol=0, atol=1e-9)
    merged = ibp(model, box, labels, arithmetic="real").lower
    np.testing.assert_allclose(merged, found[f"{at}/IBP/margin_lower"], rtol=0, atol=1e-9)
    eye = torch.eye(boxes.lower.shape[1])
    for way, settings in WAYS.items():
        both = crown(
            model, box, torch.cat([eye, -eye]), meet=False, arithmetic="real", **settings
        ).lower.chunk(2, dim=1)
        own = crown(model, box, labels, meet=False, arithmetic="real", **settings).lower
        for ours, end in ((both[0], "lower"), (-both[1], "upper"), (own, "margin_lower")):
            agree = (abs(ours.numpy() - found[f"{at}/{way}/{end}"]) <= 1e-9).all(axis=1)
            # Theirs depends on the batch: what intervals settle for one image and not for
            # another is bounded by this slope for both, and not always as well.
            assert agree.all() or (way == "CROWN_one" and agree.sum() >= 2)
    met = crown(model, box, labels, arithmetic="real").lower
    assert (met >= torch.from_numpy(found[f"{at}/CROWN/margin_lower"]) - 1e-9).all()
    assert (met >= merged).all()
    optimised = crown(model, box, labels, steps=20, arithmetic="real").lower
    assert (optimised >= met - 1e-9).all()
    if epsilon == "0.1":
        assert (optimised > met + 1e-6).any()
