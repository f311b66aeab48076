"""The margin explorer: three formulas in float32, and the walls that they meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from within_epsilon.losses import cross_entropy
from within_epsilon.widgets import MarginExplorer
from within_epsilon.widgets.margin import losses_at


def numbers(page: Any) -> list[list[float]]:
    """Return the label's weight, a rival's and the loss: [-log softmax, PyTorch, library]."""
    texts = [row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()]
    clean = {"∞": "inf"}
    return [
        [float(clean.get(t, t).replace("−", "-")) for t in (x.removesuffix(", wrong") for x in row)]
        for row in texts
    ]


def in_float32(margin: float, classes: int) -> list[list[float]]:
    """Compute the same table with torch."""
    label = torch.zeros(1, dtype=torch.int64)
    ways = {
        "softmax": lambda z: -z.softmax(-1)[:, 0].log(),
        "torch": lambda z: torch.nn.functional.cross_entropy(z, label, reduction="none"),
        "library": lambda z: cross_entropy(z, label),
    }
    columns = []
    for way in ways.values():
        logits = torch.zeros(1, classes)
        logits[0, 0] = margin
        logits.requires_grad_()
        loss = way(logits)
        (weights,) = torch.autograd.grad(loss.sum(), logits)
        columns.append([-weights[0, 0].item(), weights[0, 1].item(), loss.item()])
    return [list(row) for row in zip(*columns, strict=True)]


def test_losses_are_torchs() -> None:
    margins = np.array([-50.0, 0.0, 12.5, 50.0])
    logits = torch.zeros(4, 10, dtype=torch.float64)
    logits[:, 0] = torch.from_numpy(margins)
    labels = torch.zeros(4, dtype=torch.int64)
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(losses_at(margins, 10), expected, rtol=1e-6, atol=1e-15)


def test_refuses_what_it_cannot_show() -> None:
    for change in ({"margin": 121}, {"classes": 3}, {"view": "sideways"}):
        with pytest.raises(traitlets.TraitError):
            MarginExplorer(**change)


@pytest.mark.browser
@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize("margin", [-115, -60, -5, 0, 3, 12, 18, 60, 100, 115])
def test_numbers_are_those_of_torch(
    open_page: Callable[..., Any], margin: float, classes: int
) -> None:
    page = open_page(MarginExplorer(margin, classes, "far"))
    expected = in_float32(margin, classes)
    for shown, column in zip(numbers(page), expected, strict=True):
        assert shown == pytest.approx(column, rel=0.02, abs=1.2e-6, nan_ok=True)
        # What is 0 is 0: that is the point.
        assert [x == 0 for x in shown] == [x == 0 for x in column]
    wrong = [["wrong" in cell for cell in row.locator("td").all_inner_texts()]
             for row in page.locator("tbody tr").all()]  # fmt: skip
    own, rival, loss = wrong
    if margin == 60:  # half of PyTorch's gradient is gone, and nothing of the library's
        assert (own, rival, loss) == ([True, True, False], [False] * 3, [True, True, False])


@pytest.mark.browser
@pytest.mark.parametrize(
    ("margin", "words"),
    [
        (12, "In float32: the same"),
        (18, "half of PyTorch's gradient"),
        (103, "half of PyTorch's gradient"),
        (106, "nothing is left to climb"),
        (-95, "becomes nan"),
        (-115, "−log softmax is infinite"),
    ],
)
def test_the_verdict_names_the_wall(open_page: Callable[..., Any], margin: int, words: str) -> None:
    page = open_page(MarginExplorer(margin, 2, "far"))
    assert words in page.locator(".verdict").inner_text()


@pytest.mark.browser
def test_chart_and_slider_move_together(open_page: Callable[..., Any]) -> None:
    page = open_page(MarginExplorer())
    box = page.locator(".plot").bounding_box()
    page.mouse.click(box["x"] + 14, box["y"] + 60)
    slider = page.locator("input[type=range]:visible")
    assert slider.get_attribute("aria-valuetext") == "−10.0"
    page.get_by_role("radio", name="1000").check()
    assert "1000 classes: loss 16.91" in page.locator(".verdict").inner_text()
    slider.press("End")
    page.get_by_role("radio", name="as far as float32 goes").check()
    assert page.locator("input[type=range]:visible").get_attribute("aria-valuetext") == "20"


@pytest.mark.browser
def test_the_loss_alone_unfolds_into_gradient_and_float32(open_page: Callable[..., Any]) -> None:
    page = open_page(MarginExplorer(18.0, 2, detail=False))
    verdict, table = page.locator(".verdict"), page.locator("table")
    assert "float32" not in verdict.inner_text()
    assert not table.is_visible()
    assert page.locator(".line").count() == 1
    page.get_by_role("button", name="Gradient and float32").click()
    assert "half of PyTorch's gradient" in verdict.inner_text()
    assert table.is_visible()
    assert page.locator(".line").count() == 2
    page.get_by_role("button", name="Reset").click()
    assert not table.is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("view", ["near", "far"])
def test_no_curve_runs_through_a_tick_of_its_axis(
    open_page: Callable[..., Any], view: str, width: int
) -> None:
    page = open_page(MarginExplorer(3.0, 10, view), width=width)
    for classes in ("2", "10", "1000"):
        page.get_by_role("radio", name=classes, exact=True).check()
        assert page.locator(".plot").evaluate(CROSSINGS) == []


# The labels of the axes that a curve's points lie in.
CROSSINGS = """
(plot) => [...plot.querySelectorAll("text:not(.named)")].filter((text) => {
  const box = text.getBBox();
  return [...plot.querySelectorAll(".line")].some((line) => {
    const length = line.getTotalLength();
    for (let s = 0; s <= length; s += 1) {
      const { x, y } = line.getPointAtLength(s);
      const [right, down] = [x - box.x, y - box.y];
      if (right > -1 && right < box.width + 1 && down > 0 && down < box.height) return true;
    }
    return false;
  });
}).map((text) => text.textContent)
"""
