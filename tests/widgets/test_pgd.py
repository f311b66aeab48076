"""The PGD explorer: the browser walks the path that the library's attack takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from within_epsilon.attacks import input_gradient, pgd
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball
from within_epsilon.widgets import PGDExplorer
from within_epsilon.widgets.plane import Plane, spanning

BALL = Ball("linf", 0.1)
MODEL = digits_classifier()
SEVEN, LABEL = digits().test[213:214]


def two_ends() -> tuple[Tensor, Tensor]:
    first = pgd(MODEL, SEVEN, LABEL, BALL, steps=30, random_start=False)
    return first, pgd(MODEL, SEVEN, LABEL, BALL, steps=30, seed=2, indices=[213])


def explorer(**options: Any) -> PGDExplorer:
    return PGDExplorer(MODEL, SEVEN, LABEL, BALL, *two_ends(), **options)


def shown_path(page: Any, widget: PGDExplorer) -> np.ndarray:
    """Return the drawn path in changes of pixels, from its place on the screen."""
    drawn = page.locator(".ball .path").get_attribute("d")
    pixels = np.array(re.findall(r"[ML]([-\d.]+) ([-\d.]+)", drawn), dtype=float)
    border = page.locator(".ball .border").get_attribute("d")
    left, top, right, bottom = map(float, re.findall(r"[\d.]+", border)[:4])
    middle = np.array([left + right, top + bottom]) / 2
    return (pixels - middle) * widget.epsilon / np.array([right - left, top - bottom]) * 2


def test_plane_holds_the_image_and_both_signs() -> None:
    first, second = two_ends()
    across, up = spanning(first - SEVEN, second - SEVEN)
    assert not (across * up).any()
    for corner, end in ((across + up, first), (across - up, second)):
        moved = (end - SEVEN) != 0
        assert torch.equal(corner[moved], (end - SEVEN).sign()[moved])
    plane = Plane(MODEL, SEVEN, across, up)
    points = torch.tensor([[0.5, 0.5], [0.6, 0.4]])
    wanted = torch.cat([SEVEN, (SEVEN + 0.1 * (across - up)).clamp(0, 1)])
    torch.testing.assert_close(plane(points), MODEL(wanted))


def test_recorded_signs_are_autograds() -> None:
    widget = explorer()
    plane = Plane(MODEL, SEVEN, *spanning(*(end - SEVEN for end in two_ends())))
    n = widget.size
    for row, column in ((3, 5), (20, 16), (32, 31), (16, 16)):
        at = torch.tensor([[column, row]]) / (n - 1) * 0.2 - 0.1 + 0.5
        for name, loss in (("cross-entropy", cross_entropy), ("margin loss", margin_loss)):
            value, gradient = input_gradient(plane, at, LABEL, loss)
            code = int(widget.surfaces[name]["signs"][row * n + column])
            assert [code % 3 - 1, code // 3 - 1] == gradient.sign()[0].tolist()
            recorded = widget.surfaces[name]["values"][row * n + column]
            assert recorded == pytest.approx(value.item(), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("loss", ["cross-entropy", "margin loss"])
def test_path_is_the_librarys(loss: str) -> None:
    widget = explorer(loss=loss)
    plane = Plane(MODEL, SEVEN, *spanning(*(end - SEVEN for end in two_ends())))
    middle = torch.full((1, 2), 0.5)
    points: list[Tensor] = []
    pgd(
        plane,
        middle,
        LABEL,
        BALL,
        steps=10,
        random_start=False,
        loss=cross_entropy if loss == "cross-entropy" else margin_loss,
        callback=lambda _, images_adv, __: points.append(images_adv[0] - 0.5),
    )
    # A grid's point is at most half its spacing away, which may delay a turn by one step.
    assert np.abs(widget.path() - torch.stack(points).numpy()).max() <= 0.05 + 1e-6
    np.testing.assert_allclose(widget.path()[-1], points[-1], atol=1e-6)


def test_pictures_are_the_planes_images() -> None:
    widget = explorer(loss="margin loss", start="random", seed=3)
    clean, moved = widget.pictures()
    torch.testing.assert_close(clean, SEVEN, rtol=1e-3, atol=0)
    across, up = spanning(*(end - SEVEN for end in two_ends()))
    at = widget.path()[-1]
    wanted = (SEVEN + float(at[0]) * across + float(at[1]) * up).clamp(0, 1)
    torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-3)
    assert MODEL(moved).argmax().item() == widget.answer(at)


def test_a_scaled_cross_entropy_stands_still() -> None:
    widget = explorer()
    ends = {}
    for loss in ("cross-entropy", "margin loss", "cross-entropy × 1000"):
        widget.loss = loss
        ends[loss] = widget.answer(widget.path()[-1])
        if "1000" in loss:
            assert not widget.path().any()
    assert ends == {"cross-entropy": 7, "margin loss": 8, "cross-entropy × 1000": 7}


@pytest.mark.parametrize(
    ("ball", "second", "message"),
    [
        (Ball("l2", 0.1), None, "linf"),
        (Ball("linf", 0.6), None, "0.5"),
        (BALL, "first", "span a plane"),
    ],
)
def test_refuses(ball: Ball, second: str | None, message: str) -> None:
    one, two = two_ends()
    with pytest.raises(ValueError, match=message):
        PGDExplorer(MODEL, SEVEN, LABEL, ball, one, one if second else two)


@pytest.mark.browser
def test_page_walks_pythons_path(open_widget: Callable[..., Any]) -> None:
    widget = explorer(seed=3)
    page = open_widget(widget)
    np.testing.assert_allclose(shown_path(page, widget), widget.path(), atol=1e-3)
    page.get_by_role("radio", name="a random point").check()
    page.get_by_role("button", name="Another start").click()
    page.get_by_role("slider", name="Step size").press("ArrowLeft")
    page.get_by_role("slider", name="Steps").press("ArrowRight")
    page.get_by_role("radio", name="margin loss").check()
    for key in ("start", "seed", "step_size", "steps", "loss"):
        setattr(widget, key, page.evaluate(f"model.get('{key}')"))
    assert (widget.start, widget.seed, widget.step_size) == ("random", 4, 0.015)
    assert (widget.steps, widget.loss) == (11, "margin loss")
    np.testing.assert_allclose(shown_path(page, widget), widget.path(), atol=1e-3)
    said = page.locator(".verdict").inner_text()
    assert f"7 → {widget.answer(widget.path()[-1])}, ℓ∞ ε = 0.1, PGD, 11 steps of 0.015" in said
    page.evaluate("model.set('steps', 3)")
    assert "3 steps" in page.locator(".verdict").inner_text()


@pytest.mark.browser
def test_page_shows_the_digit_that_python_computes(open_widget: Callable[..., Any]) -> None:
    widget = explorer(loss="margin loss")
    page = open_widget(widget)
    drawn = page.get_by_role("img", name="adversarial image").evaluate(
        "(node) => [...node.getContext('2d').getImageData(0, 0, 8, 8).data]"
    )
    shown = np.array(drawn).reshape(8, 8, 4)[..., 0] / 255
    np.testing.assert_allclose(shown, widget.pictures()[1][0, 0], atol=0.6 / 255)
    assert page.locator("figcaption").all_inner_texts()[2] == "after PGD: 8"


@pytest.mark.browser
def test_verdict_tells_runs_apart(open_page: Callable[..., Any]) -> None:
    page = open_page(explorer())
    verdict = page.locator(".verdict")
    assert verdict.inner_text().startswith("stuck")
    page.get_by_role("radio", name="margin loss").check()
    assert verdict.inner_text().startswith("fooled")
    page.get_by_role("radio", name="logits × 1000").check()
    assert verdict.inner_text().startswith("gradient 0")
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("slider", name="Step size").press("Home")
    assert verdict.inner_text().startswith("not fooled")


@pytest.mark.browser
def test_play_moves_unless_motion_is_unwelcome(open_page: Callable[..., Any]) -> None:
    page = open_page(explorer())
    verdict = page.locator(".verdict")
    page.get_by_role("button", name="Play").click()
    assert "0 steps" in verdict.inner_text()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Step", exact=True).click()
    assert "1 step of" in verdict.inner_text()
    still = open_page(explorer(), reduced_motion="reduce")
    still.get_by_role("button", name="Play").click()
    assert "10 steps" in still.locator(".verdict").inner_text()
