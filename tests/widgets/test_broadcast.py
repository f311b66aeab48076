"""The broadcast explorer says what torch does with each pair of shapes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
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
