"""The ball explorer: nearest points and best steps, in Python and in the page."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from within_epsilon.threat import Ball
from within_epsilon.widgets import BallExplorer
from within_epsilon.widgets.balls import IMAGES, NORMS, allowed, climb

POINTS = [(-0.5, 0.4), (0.1, -0.15), (0.6, 0.6), (-0.3, 0.0), (0.0, 0.0), (-0.12, -0.6)]


def rows(page: Any) -> list[list[str]]:
    """Return the table's cells, linf first."""
    texts = [row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()]
    return [[text.replace("−", "-") for text in row] for row in texts]


def place(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", text)]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("norm", NORMS)
def test_no_allowed_point_of_a_fine_grid_is_nearer(
    norm: str, image: str, point: tuple[float, float]
) -> None:
    epsilon, pixels = 0.3, np.array(IMAGES[image])
    axis = np.linspace(-0.3, 0.3, 601)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    inside = Ball(norm, epsilon).contains(torch.from_numpy(grid)).numpy()
    inside &= ((pixels + grid >= 0) & (pixels + grid <= 1)).all(axis=1)
    best = np.linalg.norm(grid[inside] - point, axis=1).min()
    way = allowed(norm, epsilon, IMAGES[image], point)
    assert math.dist(way.nearest, point) == pytest.approx(best, abs=1e-3)
    nearest = torch.tensor([way.nearest], dtype=torch.float64)
    assert Ball(norm, epsilon).contains(nearest, atol=1e-9)
    assert math.dist(way.clipped, point) >= math.dist(way.nearest, point) - 1e-9
    # Without the pixels' ends in the way, all three are one.
    if image == "grey":
        assert math.dist(way.projected, way.clipped) < 1e-9
        assert math.dist(way.projected, way.nearest) < 1e-6


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_clipping_the_projection_is_not_always_nearest(norm: str) -> None:
    way = allowed(norm, 0.3, IMAGES["dark"], (-0.5, 0.4))
    assert math.dist(way.clipped, (-0.5, 0.4)) > math.dist(way.nearest, (-0.5, 0.4)) + 0.02


def test_climb_reaches_the_dual_norm() -> None:
    for norm in NORMS:
        step, dual = climb(norm, 0.3, (0.5, -0.2))
        assert 0.5 * step[0] - 0.2 * step[1] == pytest.approx(0.3 * dual)
        assert Ball(norm, 0.3).contains(torch.tensor([step]), atol=1e-6)


def test_refuses_what_it_cannot_show() -> None:
    for change in ({"norm": "l3"}, {"view": "up"}, {"point": (0.1,)}, {"point": (0, 2)}):
        with pytest.raises(traitlets.TraitError):
            BallExplorer(**change)


@pytest.mark.browser
@pytest.mark.parametrize("image", IMAGES)
def test_page_projects_as_the_library_does(open_widget: Callable[..., Any], image: str) -> None:
    widget = BallExplorer(image=image)
    page = open_widget(widget)
    for point in POINTS:
        page.evaluate("point => model.set('point', point)", list(point))
        for norm, (length, nearest, away) in zip(NORMS, rows(page), strict=True):
            way = allowed(norm, 0.3, IMAGES[image], point)
            size = float(Ball(norm, 1).length(torch.tensor([point])))
            assert float(length) == pytest.approx(size, abs=0.0051)
            assert place(nearest) == pytest.approx(way.nearest, abs=0.0051)
            assert float(away) == pytest.approx(math.dist(way.nearest, point), abs=0.0051)
            page.get_by_role("radio", name={"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}[norm]).check()
            widget.norm, widget.point = norm, list(point)
            assert widget.verdict() in page.locator(".verdict").inner_text()


@pytest.mark.browser
def test_page_climbs_as_the_library_does(open_widget: Callable[..., Any]) -> None:
    widget = BallExplorer("l1", "climb")
    page = open_widget(widget)
    for point in POINTS:
        page.evaluate("point => model.set('point', point)", list(point))
        widget.point = list(point)
        assert widget.verdict() in page.locator(".verdict").inner_text()
        for norm, (step, dual, rise) in zip(NORMS, rows(page), strict=True):
            best, expected = climb(norm, 0.3, point)
            assert place(step) == pytest.approx(best, abs=0.0051)
            assert float(dual) == pytest.approx(expected, abs=0.0051)
            assert float(rise) == pytest.approx(0.3 * expected, abs=0.0051)


@pytest.mark.browser
def test_dragging_and_sliders_move_the_same_point(open_widget: Callable[..., Any]) -> None:
    page = open_widget(BallExplorer())
    box = page.locator(".balls svg").bounding_box()
    x, y = (box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.move(x - 30, y)
    page.mouse.down()
    page.mouse.move(x, y)
    page.mouse.up()
    assert page.evaluate("model.get('point')") == pytest.approx([0.3, 0.3], abs=0.011)
    first = page.get_by_role("slider", name="first pixel").and_(page.locator(":visible"))
    first.press("Home")
    assert page.evaluate("model.get('point')")[0] == -0.6
    assert first.get_attribute("aria-valuetext") == "−0.60"
    assert "0.30)" in page.locator(".verdict").inner_text()
