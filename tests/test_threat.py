"""The ball: against NumPy's norms, brute force and hostile perturbations."""

import doctest
import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from within_epsilon import geometry, threat
from within_epsilon.region import Region
from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball

NORMS = ("linf", "l2", "l1")
ORDERS = {"linf": np.inf, "l1": 1}
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# The contract: how far beyond epsilon the norm, measured in float64, may lie, in any dtype.
SLACK = 2**-20

norms = st.sampled_from(NORMS)
radii = st.floats(1e-3, 1.0)
vectors = arrays(np.float64, st.tuples(st.just(3), st.integers(1, 12)), elements=st.floats(-3, 3))


def norm(delta: torch.Tensor, which: str) -> np.ndarray:
    rows = delta.double().flatten(1).numpy()
    if which == "l2":
        return np.array([math.hypot(*row) for row in rows])  # whose squares do not underflow
    return np.linalg.norm(rows, ord=ORDERS[which], axis=1)


@settings(deadline=None)
@given(norms, radii, vectors)
def test_projection_is_inside_idempotent_and_keeps_the_inside(which, epsilon, delta):
    delta, ball = torch.from_numpy(delta), Ball(which, epsilon)
    projected = ball.project(delta)
    assert (norm(projected, which) <= epsilon * (1 + 1e-12)).all()
    assert ball.contains(projected).all()
    torch.testing.assert_close(ball.project(projected), projected, rtol=1e-12, atol=1e-14)
    inside = torch.from_numpy(norm(delta, which) <= epsilon * (1 - 1e-12))
    assert torch.equal(projected[inside], delta[inside])


@settings(deadline=None)
@given(norms, radii, vectors, st.integers(0, 2**32 - 1))
def test_no_feasible_point_is_nearer_than_the_projection(which, epsilon, delta, seed):
    delta, ball = torch.from_numpy(delta), Ball(which, epsilon)
    projected = ball.project(delta)
    # <delta - p, q - p> <= 0 for all q in the ball says that p is nearest, and each
    # ball is the hull of points on its boundary, its corners among them.
    rivals = ball.random(delta, example_generators(range(3), seed), boundary=True)
    corners = epsilon * ball.steepest(delta - projected)
    for rival in (rivals, corners):
        angle = ((delta - projected) * (rival - projected)).sum(dim=1)
        assert (angle <= 1e-9).all()


@pytest.mark.parametrize("which", NORMS)
def test_projection_in_the_plane_agrees_with_brute_force(which):
    epsilon, angles = 0.7, torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
    circle = torch.stack((angles.cos(), angles.sin()), dim=1)
    boundary = epsilon * circle / torch.from_numpy(norm(circle, which)).unsqueeze(1)
    points = 2 * torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = points[torch.from_numpy(norm(points, which) > epsilon)]
    nearest = boundary[torch.cdist(points, boundary).argmin(dim=1)]
    torch.testing.assert_close(Ball(which, epsilon).project(points), nearest, rtol=0, atol=3e-4)


@given(
    norms,
    st.sampled_from(DTYPES),
    st.one_of(radii, st.sampled_from((0.0, 1e-7, 1e-30))),
    arrays(
        np.float64,
        (4, 7),
        elements=st.one_of(st.floats(0, 1), st.sampled_from((0, 1, 0.5, 1e-40, 1 - 2**-24))),
    ),
    arrays(
        np.float64,
        (4, 7),
        elements=st.one_of(
            st.floats(-1, 1),
            st.floats(-1e4, 1e4),
            st.sampled_from((0.0, -0.0, 1e-310, -1e-45, 3e38, -3e38, 1e300)),
        ),
    ),
)
@settings(max_examples=400, deadline=None)
def test_perturbed_images_keep_the_contract(which, dtype, epsilon, images, delta):
    images = torch.from_numpy(images).to(dtype)
    delta = torch.from_numpy(delta).clamp(*(torch.finfo(dtype).min, torch.finfo(dtype).max))
    delta, ball = delta.to(dtype), Ball(which, epsilon)
    before = images.clone(), delta.clone()
    images_adv = ball.perturb(images, delta)
    assert images_adv.dtype == dtype
    assert ((images_adv >= 0) & (images_adv <= 1)).all()
    change = images_adv.double() - images.double()
    assert (norm(change, which) <= epsilon * (1 + SLACK)).all()
    assert ball.admits(images, images_adv).all()
    assert ball.contains(change).all()
    assert ball.contains(ball.project(delta)).all()
    assert all(map(torch.equal, (images, delta), before)), "the arguments were written to"


@settings(deadline=None)
@given(
    st.sampled_from(("linf", "l1")),
    st.one_of(radii, st.just(0.0)),
    arrays(np.float64, (3, 6), elements=st.one_of(st.floats(0, 1), st.sampled_from((0, 1)))),
    arrays(np.float64, (3, 6), elements=st.floats(-3, 3)),
    st.integers(0, 2**32 - 1),
)
def test_no_point_of_ball_and_range_is_nearer_than_nearest(which, epsilon, images, delta, seed):
    images, delta = torch.from_numpy(images), torch.from_numpy(delta)
    region = Ball(which, epsilon).within(images)
    nearest = region.nearest(images + delta)
    assert region.admits(nearest).all()
    torch.testing.assert_close(region.nearest(nearest), nearest, rtol=0, atol=1e-12)
    # The region is convex: <x - p, q - p> <= 0 for all q in it says that p is nearest.
    beyond = images + delta - nearest
    draws = example_generators(range(3), seed)
    for rival in (
        images,
        region.clip(images + delta),
        region.clip(images + Ball(which, epsilon).random(images, draws, boundary=True)),
        region.clip(nearest + epsilon * Ball(which, 1).steepest(beyond)),
    ):
        assert ((beyond * (rival - nearest)).sum(dim=1) <= 1e-9).all()


def test_nearest_is_asked_only_where_it_is_known():
    with pytest.raises(ValueError, match="use clip"):
        Ball("l2", 0.1).within(torch.zeros(1, 2)).nearest(torch.zeros(1, 2))


@pytest.mark.parametrize("which", ["l2", "l1"])
def test_rounding_of_a_whole_photo_stays_within_the_ball(which):
    # Every coordinate is 0.6 of a pixel's last place, and would be rounded up to a whole one.
    images = 0.5 + 0.4 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    delta = torch.full_like(images, 0.6 * 2**-24)
    epsilon = float(norm(delta, which)[0])
    naive, exact = images + delta, Ball(which, epsilon).perturb(images, delta)
    assert (norm(naive.double() - images.double(), which) > 1.6 * epsilon).all()
    assert (norm(exact.double() - images.double(), which) <= epsilon * (1 + 1e-6)).all()


@pytest.mark.parametrize("which", NORMS)
def test_perturb_moves_as_far_as_it_may(which):
    images = torch.full((2, 1, 4, 4), 0.5)
    delta = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    images_adv = Ball(which, 0.1).perturb(images, delta)
    np.testing.assert_allclose(norm(images_adv - images, which), 0.1, rtol=1e-5)


def test_admits_sees_what_leaves_the_ball_or_the_range():
    images = torch.tensor([[0.5, 0.5]] * 4)
    images_adv = torch.tensor([[0.6, 0.4], [0.6001, 0.4], [0.5, 0.5], [0.5, 1.01]])
    assert Ball("linf", 0.1).admits(images, images_adv).tolist() == [True, False, True, False]
    assert Ball("l2", 0.14143).admits(images, images_adv).tolist() == [True, False, True, False]
    assert Ball("l1", 0.2).admits(images, images_adv, 1e-6).tolist() == [True, False, True, False]


@settings(deadline=None)
@given(norms, arrays(np.float64, (5, 9), elements=st.floats(-1e3, 1e3, allow_subnormal=False)))
def test_steepest_reaches_the_dual_norm(which, gradient):
    gradient = torch.from_numpy(gradient)
    gradient[0] = 0
    step = Ball(which, 1).steepest(gradient)
    dual = {"linf": "l1", "l2": "l2", "l1": "linf"}[which]
    np.testing.assert_allclose((gradient * step).sum(dim=1), norm(gradient, dual), rtol=1e-9)
    assert (norm(step, which) <= 1 + 1e-12).all()
    assert torch.equal(step[0], torch.zeros(9, dtype=torch.float64))


@settings(deadline=None)
@given(
    arrays(np.float64, (4, 20), elements=st.floats(-1e3, 1e3, allow_subnormal=False)),
    arrays(np.float64, (4, 20), elements=st.sampled_from([0, 0.1, 0.5, 1]) | st.floats(0, 1)),
    st.floats(0, 25),
)
@example(-np.ones((4, 20)), np.full((4, 20), 0.1), 1e-7)
@example(np.tile(np.arange(20, 0, -1.0), (4, 1)), np.tile([1 - 1e-8] + [0.5] * 19, (4, 1)), 2e-8)
def test_no_l1_step_within_the_pixels_rises_further_than_the_regions(slopes, points, length):
    slopes, points = torch.from_numpy(slopes), torch.from_numpy(points)
    room = torch.where(slopes < 0, points, 1 - points)
    step = geometry.steepest_rows_l1(slopes, length, room)
    assert (norm(step, "l1") <= length * (1 + 1e-12)).all()
    assert (points + step).clamp(0, 1).sub(points + step).abs().max() < 1e-12
    assert not step[slopes == 0].any()
    # Linear programming's dual: every price t per unit of length bounds what can be reached,
    # length * t + sum room * max(|slope| - t, 0), and the lowest bound is attained.
    prices = torch.cat([slopes.abs(), torch.zeros(4, 1, dtype=torch.float64)], dim=1)
    spare = (slopes.abs().unsqueeze(1) - prices.unsqueeze(2)).clamp(min=0)
    bounds = length * prices + (room.unsqueeze(1) * spare).sum(dim=2)
    reached = (slopes * step).sum(dim=1)
    np.testing.assert_allclose(reached, bounds.amin(dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("which", NORMS)
def test_a_step_in_a_region_is_the_balls_where_pixels_have_room(which):
    points, slopes = torch.full((3, 1, 4, 4), 0.5), torch.randn(3, 1, 4, 4)
    step = Ball(which, 0.4).within(points).step(points, slopes, 0.3) - points
    torch.testing.assert_close(step, 0.3 * Ball(which, 0.4).steepest(slopes))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", NORMS)
def test_a_step_is_the_steepest_one_brought_back(which, dtype, memory):
    images, points = torch.rand(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    slopes = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
    slopes[0] = 0
    region = Ball(which, 0.4).within(images.contiguous(memory_format=memory))
    points = region.clip(points).contiguous(memory_format=memory)
    kept = points.clone()
    reached = region.step(points, slopes, 0.3)
    if which != "l1":  # whose steps are filled up, as tested above
        expected = region.clip(points + 0.3 * Ball(which, 0.4).steepest(slopes))
        places = 2 * torch.finfo(dtype).eps  # each way rounds once, towards the clean pixel
        torch.testing.assert_close(reached, expected, rtol=1e-5, atol=places)
    assert reached.dtype == dtype
    assert region.admits(reached).all()
    assert torch.equal(points, kept)
    # A direction remembered in float64 leaves the images what they are.
    assert region.step(points, slopes.double(), 0.3).dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", NORMS)
def test_steepest_does_not_depend_on_the_size_of_the_gradient(which, dtype):
    gradient = torch.tensor([[3.0, -4.0, 0.0]], dtype=dtype)
    # As small as floats go, where squares are long zero; the largest come first on ties.
    tiny = gradient.sign() * torch.finfo(dtype).smallest_normal
    step = Ball(which, 1).steepest(gradient)
    expected = {"linf": [1, -1, 0], "l2": [0.6, -0.8, 0], "l1": [0, -1, 0]}[which]
    torch.testing.assert_close(step, torch.tensor([expected], dtype=dtype))
    root = math.sqrt(0.5)
    expected = {"linf": [1, -1, 0], "l2": [root, -root, 0], "l1": [1, 0, 0]}[which]
    torch.testing.assert_close(Ball(which, 1).steepest(tiny), torch.tensor([expected], dtype=dtype))


@pytest.mark.parametrize("which", NORMS)
def test_random_points_are_uniform_in_the_ball(which):
    n, size, ball = 4000, 3, Ball(which, 0.5)
    like = torch.empty(n, size, dtype=torch.float64)
    points = ball.random(like, example_generators(range(n), seed=0))
    # In a uniform ball of three dimensions, the radius cubed is uniform on [0, 1].
    radii = np.sort((norm(points, which) / 0.5) ** size)
    deviation = np.abs(radii - np.linspace(0, 1, n)).max()
    assert deviation < 1.63 / math.sqrt(n), "Kolmogorov-Smirnov at 1%"
    # No side is preferred, and the spread along each axis is that of the ball.
    variance = {"linf": 1 / 3, "l2": 1 / 5, "l1": 1 / 10}[which] * 0.25
    np.testing.assert_allclose(points.mean(dim=0), 0, atol=4 * math.sqrt(variance / n))
    np.testing.assert_allclose(points.var(dim=0), variance, rtol=0.1)
    edge = ball.random(like, example_generators(range(n), seed=0), boundary=True)
    np.testing.assert_allclose(norm(edge, which), 0.5, rtol=1e-12)


def test_length_neither_overflows_nor_underflows():
    delta = torch.tensor([[3e200, 4e200], [3e-200, 4e-200], [0, 0]], dtype=torch.float64)
    np.testing.assert_allclose(Ball("l2", 1).length(delta), [5e200, 5e-200, 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("ball", "words"),
    [
        (Ball("linf", 2 / 255), "ℓ∞ ε = 2/255"),
        (Ball("linf", 0.25 / 255), "ℓ∞ ε = 0.25/255"),
        (Ball("linf", 0.1), "ℓ∞ ε = 0.1"),
        (Ball("l2", 0.5), "ℓ2 ε = 0.5"),
        (Ball("l2", 128 / 255), "ℓ2 ε = 128/255"),
        (Ball("l1", 12), "ℓ1 ε = 12"),
        (Ball("l2", math.pi), "ℓ2 ε = 3.14159"),
    ],
)
def test_a_ball_reads_as_it_is_written(ball, words):
    assert str(ball) == words


def test_the_docstrings_example_is_true():
    assert doctest.testmod(threat) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("linf", 8), ValueError, "8 / 255"),
        (("l3", 1), ValueError, "linf, l2, l1"),
        (("l2", -1), ValueError, ">= 0"),
        (("l2", float("nan")), ValueError, ">= 0"),
        (("l2", "large"), TypeError, "a number"),
    ],
)
def test_impossible_balls_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Ball(*arguments)


def test_images_of_another_shape_are_refused():
    images, ball = torch.rand(2, 1, 8, 8), Ball("linf", 0.1)
    with pytest.raises(ValueError, match=r"delta: .*\(2, 1, 8, 8\), received \(1, 8, 8\)"):
        ball.perturb(images, torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match=r"images_adv: .*\(2, 1, 8, 8\), received \(1, 1, 8, 8\)"):
        ball.admits(images, images[:1])


@pytest.mark.parametrize("ball", [Ball(which, 0.1) for which in NORMS], ids=str)
def test_a_batch_may_be_empty_but_not_missing(ball):
    def results(rows):
        draw = ball.random(rows, example_generators(range(len(rows)), seed=0))
        moved = ball.within(rows).step(rows, rows, 0.1)
        made = ball.project(rows), ball.steepest(rows), ball.perturb(rows, rows), draw, moved
        return made, (ball.length(rows), ball.contains(rows), ball.admits(rows, rows))

    rowwise, per_row = results(torch.empty(0, 1, 8, 8))
    assert {tuple(tensor.shape) for tensor in rowwise} == {(0, 1, 8, 8)}
    assert {tuple(tensor.shape) for tensor in per_row} == {(0,)}
    row = torch.zeros(8)
    for refuse in (ball.project, ball.steepest, ball.length, ball.contains, ball.within):
        with pytest.raises(ValueError, match=r"\(N, \.\.\.\), received \(8,\).*unsqueeze"):
            refuse(row)
    with pytest.raises(ValueError, match="unsqueeze"):
        ball.random(row, example_generators(range(8), seed=0))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_has_no_projection_leaves_the_others_theirs(bad):
    ball, rows = Ball("l1", 1), torch.tensor([[bad, 1, 1, 1], [3, 1, 1, 1]])
    # In a thread, so that a search without an end fails this test and stops no other.
    found = []
    thread = threading.Thread(target=lambda: found.append(ball.project(rows)), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert len(found) == 1
    assert torch.equal(found[0][1:], ball.project(rows[1:]))
    assert not found[0][0].isfinite().all()


@settings(deadline=None)
@given(
    norms,
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_a_mask_confines_every_way_of_perturbing(which, dtype, seed, each):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 2, 3, 3, generator=generator).to(dtype)
    delta = torch.randn(4, 2, 3, 3, generator=generator).to(dtype)
    mask = torch.rand(4 if each else 1, 1, 3, 3, generator=generator) < 0.5
    ball = Ball(which, 0.3, mask=mask)
    region = ball.within(images)
    start = region.perturb(ball.random(images, example_generators(range(4), seed)))
    results = [start, region.clip(images + delta), region.step(start, delta, 0.2)]
    results += [region.nearest(images + delta)] if which != "l2" else []
    allowed = mask.expand(4, 2, 3, 3)
    for images_adv in results:
        assert torch.equal(images_adv[~allowed], images[~allowed])
        assert ball.admits(images, images_adv).all()
        assert ball[1:3].admits(images[1:3], images_adv[1:3]).all()
    assert ball.contains(ball.project(delta)).all()
    assert not ball.admits(images, torch.where(allowed, images, 1 - images)).all() or allowed.all()
    assert Ball(which, 0.3).within(images, mask=mask).admits(start).all()


@pytest.mark.parametrize("which", NORMS)
def test_draws_within_a_mask_are_uniform_in_the_ball_of_its_pixels(which):
    mask = torch.tensor([[True, False, True, False, True]])
    like, draws = torch.empty(4000, 5, dtype=torch.float64), example_generators(range(4000), 0)
    points = Ball(which, 0.5, mask=mask).random(like, draws)[:, mask[0]]
    radii = np.sort((norm(points, which) / 0.5) ** 3)
    assert np.abs(radii - np.linspace(0, 1, 4000)).max() < 1.63 / math.sqrt(4000)


@pytest.mark.parametrize("which", NORMS)
def test_a_region_takes_a_radius_for_each_image(which):
    images = torch.full((3, 1, 4, 4), 0.5)
    delta = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    radii = torch.tensor([0.0, 0.1, 0.4])
    whole = Region(images, which, radii).perturb(delta)
    for row, radius in enumerate(radii.tolist()):
        part = Ball(which, radius).perturb(images[row : row + 1], delta[row : row + 1])
        torch.testing.assert_close(whole[row : row + 1], part, rtol=0, atol=1e-7)
    chosen = Region(images, which, radii)[torch.tensor([2, 1])]
    torch.testing.assert_close(chosen.perturb(delta[[2, 1]]), whole[[2, 1]])


def test_balls_are_equal_where_they_allow_the_same():
    mask = torch.tensor([[True, False]])
    assert Ball("l2", 1) == Ball("l2", 1.0) != Ball("l2", 1, mask=mask)
    assert Ball("l2", 1, mask=mask) == Ball("l2", 1, mask=mask.clone()) != Ball("l2", 1, mask=~mask)
    assert len({Ball("l2", 1, mask=mask), Ball("l2", 1, mask=mask.clone())}) == 1
    assert str(Ball("l2", 1, mask=mask)) == "ℓ2 ε = 1 on 50% of the pixels"
    with pytest.raises(TypeError, match="expected a bool tensor"):
        Ball("l2", 1, mask=mask.float())
    with pytest.raises(ValueError, match=r"mask: expected shape \(1, 3\) .* received \(1, 2\)"):
        Ball("l2", 1, mask=mask).within(torch.zeros(4, 3))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_ball_smaller_than_rounding_is_not_left_in_float64_either(norm):
    ball, generator = Ball(norm, 1e-12), torch.Generator().manual_seed(0)
    images = torch.rand(20, 1, 8, 8, generator=generator, dtype=torch.float64)
    delta = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    assert ball.admits(images, ball.perturb(images, delta)).all()
    assert ball.admits(images, ball.within(images).step(images, delta, 1e-12)).all()


def test_masks_of_too_few_images_and_radii_that_are_no_numbers_are_named():
    with pytest.raises(ValueError, match="mask: expected one for each image"):
        Ball("l2", 1, torch.ones(3, 1, 8, 8, dtype=torch.bool))[torch.tensor([3])]
    for epsilon in (torch.tensor([0.1, 0.2]), 10**400):
        with pytest.raises(TypeError, match="epsilon: expected a number"):
            Ball("l2", epsilon)
    with pytest.raises(ValueError, match="epsilon: expected a radius"):
        Ball("l2", 1e200)
