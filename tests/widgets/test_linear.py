"""The linear explorer: the exact worst case, the same in Python and in the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from within_epsilon.threat import Ball
from within_epsilon.widgets import LinearExplorer
from within_epsilon.widgets.linear import worst_case

NORMS = ("linf", "l2", "l1")


def explorer(**options: Any) -> LinearExplorer:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([1, -1] * 8)
    noise = torch.randn(16, 2, generator=generator)
    inputs = labels.unsqueeze(1) * torch.tensor([0.5, 0.2]) + noise * torch.tensor([0.3, 0.1])
    return LinearExplorer(inputs, labels, **options)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("weight", [(0.3, -1.2), (0.0, 0.7), (-0.5, -0.5)])
def test_nothing_in_the_ball_is_worse(norm: Any, weight: tuple[float, float]) -> None:
    ball = Ball(norm, 0.3)
    x, y, w = np.array([[0.4, 0.1], [-0.2, 0.6]]), np.array([1, -1]), np.array(weight)
    case = worst_case(x, y, w, ball)
    assert ball.contains(torch.from_numpy(case.deltas)).all()
    np.testing.assert_allclose(y * ((x + case.deltas) @ w), case.worst, atol=1e-12)
    turn = np.linspace(0, 2 * np.pi, 3601)
    rim = torch.from_numpy(np.stack([np.cos(turn), np.sin(turn)], axis=1))
    rim = 0.3 * rim / Ball(norm, 1.0).length(rim).unsqueeze(1)
    everywhere = y * ((x[None] + rim.numpy()[:, None]) @ w)
    np.testing.assert_allclose(everywhere.min(axis=0), case.worst, atol=1e-6)
    assert (everywhere.min(axis=0) >= case.worst - 1e-12).all()


@pytest.mark.parametrize(
    ("inputs", "labels", "options", "message"),
    [
        (torch.zeros(4, 3), torch.ones(4), {}, r"\(N, 2\)"),
        (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), {}, r"2 \* labels - 1"),
        (torch.zeros(4, 2), torch.ones(4), {"point": 4}, "4 points and 4"),
        (torch.full((4, 2), torch.nan), torch.ones(4), {}, "finite"),
    ],
)
def test_refuses(inputs: Any, labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearExplorer(inputs, labels, **options)


def shown(page: Any) -> tuple[list[float], list[int]]:
    """Return the table's margin, price and worst margin, and the verdict's two counts."""
    cells = page.locator("tbody td").all_inner_texts()
    said = page.locator(".verdict").inner_text()
    counts = re.search(r"Wrong: (\d+) of 16; at worst, .*: (\d+) of 16", said)
    assert counts, said
    return [float(cell.replace("−", "-")) for cell in cells], [int(n) for n in counts.groups()]


@pytest.mark.browser
@pytest.mark.parametrize("norm", NORMS)
def test_page_computes_what_python_does(open_widget: Callable[..., Any], norm: Any) -> None:
    widget = explorer(norm=norm, epsilon=0.3, angle=-25, point=3)
    page = open_widget(widget)
    page.get_by_role("slider", name="Direction").press("ArrowRight")
    page.get_by_role("slider", name="Radius").press("ArrowLeft")
    page.get_by_role("radio", name="2", exact=True).check()
    page.get_by_role("button", name="Next point").click()
    for key in ("angle", "epsilon", "length", "point"):
        setattr(widget, key, page.evaluate(f"model.get('{key}')"))
    assert (widget.angle, widget.epsilon, widget.length, widget.point) == (-20, 0.28, 2, 4)
    case, (numbers, counts) = widget.worst_case(), shown(page)
    expected = [case.margins[4], -case.price, case.worst[4]]
    np.testing.assert_allclose(numbers, expected, atol=0.00051)
    assert counts == [(case.margins <= 0).sum(), (case.worst <= 0).sum()]
    assert page.locator(".stands").count() == (case.worst > 0).sum()
    assert page.locator(".linear .wrong").count() == counts[0]
    # The push ends where Python says, measured from its own beginning in the drawing's unit.
    drawn = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", page.locator(".push").get_attribute("d"))
    (x0, y0), (x1, y1) = np.array(drawn, dtype=float)
    unit = float(page.locator("clipPath rect").get_attribute("height")) / (2 * widget.reach)
    np.testing.assert_allclose([(x1 - x0) / unit, (y0 - y1) / unit], case.deltas[4], atol=0.005)


@pytest.mark.browser
def test_length_of_w_decides_nothing(open_page: Callable[..., Any]) -> None:
    page = open_page(explorer(epsilon=0.3))
    (margin, *_), counts = shown(page)
    page.get_by_role("radio", name="0.5").check()
    (half, *_), same = shown(page)
    assert half == pytest.approx(margin / 2, abs=0.006)
    assert same == counts


@pytest.mark.browser
def test_pointer_turns_w(open_widget: Callable[..., Any]) -> None:
    page = open_widget(explorer(angle=45))
    box = page.locator(".linear").bounding_box()
    rect = page.locator("clipPath rect")
    x, y, width, height = (
        float(rect.get_attribute(name)) for name in ("x", "y", "width", "height")
    )
    middle = (box["x"] + x + width / 2, box["y"] + y + height / 2)
    page.mouse.move(middle[0] + 60, middle[1])
    page.mouse.down()
    assert page.evaluate("model.get('angle')") == 0
    page.mouse.move(middle[0], middle[1] - 80)
    page.mouse.up()
    assert page.evaluate("model.get('angle')") == 90
    page.mouse.move(middle[0] + 60, middle[1] + 60)
    assert page.evaluate("model.get('angle')") == 90
    grip = page.locator(".grip").bounding_box()
    assert grip["width"] >= 44


@pytest.mark.browser
def test_a_finger_turns_w_and_does_not_scroll(open_page: Callable[..., Any]) -> None:
    page = open_page(explorer(angle=70), width=320, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollHeight > innerHeight")
    box = page.locator(".grip").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    scrolled = page.evaluate("scrollY")
    touch("touchStart", (x, y))
    for step in range(1, 9):
        touch("touchMove", (x + 10 * step, y + 10 * step))
        page.wait_for_timeout(30)
    touch("touchEnd")
    assert page.locator(".main .readout").inner_text() in ("−5°", "0°", "5°", "−10°", "−15°")
    assert page.evaluate("scrollY") == scrolled
