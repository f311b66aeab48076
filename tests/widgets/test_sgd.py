"""The SGD explorer: the browser walks the path that Python computes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from within_epsilon.widgets import SGDExplorer
from within_epsilon.widgets.sgd import _minibatches


def data(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 2, generator=generator)
    noise = torch.randn(n, generator=generator)
    return inputs, torch.where(inputs[:, 0] - 2 * inputs[:, 1] + noise > 0, 1, -1)


def explorer(**options: Any) -> SGDExplorer:
    return SGDExplorer(*data(), **{"batch_size": 8, **options})


def shown_path(page: Any, widget: SGDExplorer) -> np.ndarray:
    """Return the drawn path in weights, from its pixels."""
    drawn = page.locator(".plane .path").get_attribute("d")
    pixels = np.array(re.findall(r"[ML]([-\d.]+) ([-\d.]+)", drawn), dtype=float)
    left, top, right, bottom = page.locator("clipPath rect").evaluate(
        "r => [+r.getAttribute('x'), +r.getAttribute('y'), +r.getAttribute('x')"
        " + +r.getAttribute('width'), +r.getAttribute('y') + +r.getAttribute('height')]"
    )
    (x0, x1), (y0, y1) = widget.frame["x"], widget.frame["y"]
    return np.stack(
        [
            x0 + (pixels[:, 0] - left) / (right - left) * (x1 - x0),
            y0 + (bottom - pixels[:, 1]) / (bottom - top) * (y1 - y0),
        ],
        axis=1,
    )


def test_minimum_has_no_gradient() -> None:
    widget = explorer(weight_decay=0.01)
    weights = torch.tensor(widget.minimum, dtype=torch.float64, requires_grad=True)
    inputs = torch.tensor(widget.inputs, dtype=torch.float64)
    labels = torch.tensor(widget.labels)
    loss = torch.nn.functional.softplus(-labels * (inputs @ weights)).mean()
    loss = loss + 0.005 * weights.square().sum()
    loss.backward()
    assert widget.loss(widget.minimum) == pytest.approx(loss.item())
    assert weights.grad is not None
    assert weights.grad.abs().max() < 1e-8


def test_full_batches_are_gradient_descent() -> None:
    widget = explorer(batch_size=60, steps=20, step_size=0.5)
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=0.5)
    inputs = torch.tensor(widget.inputs, dtype=torch.float64)
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.softplus(
            -torch.tensor(widget.labels) * (inputs @ weights)
        ).mean().backward()
        optimiser.step()
    np.testing.assert_allclose(widget.path()[-1], weights.detach().numpy(), atol=1e-12)


def test_minibatches_cover_the_data_every_epoch() -> None:
    batches = list(itertools.islice(_minibatches(10, 4, seed=1), 6))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    first, second = ([*a, *b, *c] for a, b, c in (batches[:3], batches[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (torch.zeros(4, 3), torch.ones(4), r"\(N, 2\)"),
        (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), r"2 \* labels - 1"),
        (torch.tensor([[1.0, 0], [-1, 0]]), torch.tensor([1, -1]), "weight_decay"),
    ],
)
def test_refuses(inputs: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGDExplorer(inputs, labels)


@pytest.mark.browser
def test_page_walks_pythons_path(open_widget: Callable[..., Any]) -> None:
    widget = explorer(weight_decay=0.01, seed=3)
    page = open_widget(widget)
    np.testing.assert_allclose(shown_path(page, widget), widget.path(), atol=0.02)
    page.get_by_role("button", name="Reshuffle").click()
    page.get_by_role("slider", name="Step size").press("ArrowLeft")
    page.get_by_role("slider", name="minibatch").press("Home")
    for key in ("seed", "step_size", "batch_size"):
        setattr(widget, key, page.evaluate(f"model.get('{key}')"))
    assert (widget.seed, widget.step_size, widget.batch_size) == (4, 0.79, 1)
    np.testing.assert_allclose(shown_path(page, widget), widget.path(), atol=0.02)
    assert f"loss {widget.loss(widget.path()[-1]):.3g}" in page.locator(".verdict").inner_text()


@pytest.mark.browser
def test_verdict_tells_runs_apart(open_page: Callable[..., Any]) -> None:
    page = open_page(explorer(batch_size=60, steps=100, step_size=3.2))
    verdict, step_size = page.locator(".verdict"), page.get_by_role("slider", name="Step size")
    assert "arrived" in verdict.inner_text()
    step_size.press("Home")
    assert "on its way" in verdict.inner_text()
    step_size.press("End")
    assert "out of the frame" in verdict.inner_text()


@pytest.mark.browser
def test_a_run_that_still_falls_is_on_its_way(open_page: Callable[..., Any]) -> None:
    """Noise hides the direction of single steps, not the loss of twenty."""
    widget = explorer(weight_decay=0.01, batch_size=4, step_size=0.5)
    losses = np.array([widget.loss(w) for w in widget.path()]) - widget.loss(widget.minimum)
    assert losses[-20:].mean() < 0.6 * losses[-40:-20].mean()
    page = open_page(widget)
    assert "on its way" in page.locator(".verdict").inner_text()
    page = open_page(explorer(weight_decay=0.01, batch_size=4, step_size=4.0, steps=200))
    assert "wanders" in page.locator(".verdict").inner_text()


@pytest.mark.browser
def test_play_moves_unless_motion_is_unwelcome(open_page: Callable[..., Any]) -> None:
    page = open_page(explorer())
    verdict, play = page.locator(".verdict"), page.get_by_role("button", name="Play")
    play.click()
    assert "60 steps" not in verdict.inner_text()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Reset").click()
    assert "60 steps" in verdict.inner_text()
    page.get_by_role("button", name="Step", exact=True).click()
    assert "1 step on" in verdict.inner_text()
    still = open_page(explorer(), reduced_motion="reduce")
    still.get_by_role("button", name="Play").click()
    assert "60 steps" in still.locator(".verdict").inner_text()
