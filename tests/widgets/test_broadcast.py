"""The broadcast explorer says what torch does with each pair of shapes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch
import traitlets

from within_epsilon.widgets import BroadcastExplorer
from within_epsilon.widgets.broadcast import SHAPES, subtracted

SMALLER = {
    "(N,)": lambda n, k: torch.arange(n),
    "(N, 1)": lambda n, k: torch.arange(n)[:, None],
    "(k,)": lambda n, k: torch.arange(k),
}


@pytest.mark.parametrize("other", SHAPES)
def test_entries_meet_as_torch_has_them(other: str) -> None:
    for n, k in product(range(2, 6), repeat=2):
        try:
            expected = (SMALLER[other](n, k) + torch.zeros(n, k, dtype=torch.int64)).tolist()
        except RuntimeError:
            expected = None
        assert subtracted(n, k, other) == expected


def test_refuses_what_it_cannot_show() -> None:
    for change in ({"images": 1}, {"classes": 6}, {"other": "(1, N)"}):
        with pytest.raises(traitlets.TraitError):
            BroadcastExplorer(**change)


@pytest.mark.browser
@pytest.mark.parametrize("other", SHAPES)
def test_the_page_shows_the_same_entries(open_page: Callable[..., Any], other: str) -> None:
    for n, k in [(4, 3), (3, 3), (2, 5)]:
        page = open_page(BroadcastExplorer(n, k, other))
        shown = page.locator(".plot .entry").all_text_contents()
        entries = subtracted(n, k, other)
        flat = [text.split("[")[1][:-1] for text in shown if text.startswith("−")]
        assert flat == [str(i) for row in entries or [] for i in row]
        said = page.locator(".verdict").inner_text()
        mark = "error" if entries is None else "wrong" if other == "(N,)" else "as meant"
        assert said.startswith(mark)
        assert shown.count("?") == (n * k if entries is None else 0)


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 600, 1280])
def test_heads_do_not_run_together(open_page: Callable[..., Any], width: int) -> None:
    page = open_page(BroadcastExplorer(2, 5, "(k,)"), width=width)
    words = page.locator(".plot text").all_text_contents()
    heads = [word for word in words if not word.startswith(("b", "−", "image"))]
    tight = ["class", *"01234"]
    assert heads == (tight if width < 500 else [f"class {i}" for i in range(5)])
    boxes = [page.locator(".plot text").nth(i).bounding_box() for i in range(len(heads))]
    for left, right in pairwise(boxes):
        assert left["x"] + left["width"] + 4 <= right["x"]
