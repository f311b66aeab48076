"""The symbol explorer: every symbol, its code and its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from within_epsilon.widgets import Symbol, SymbolExplorer
from within_epsilon.widgets.symbols import CODE, PARTS, SYMBOLS


def test_the_notes_symbols_are_there_and_stand_in_the_code() -> None:
    assert {"x", "X", "δ", "Δ", "ε", "h_θ", "θ", "z", "k", "σ", "y", "ℓ"} <= {
        row.symbol for row in SYMBOLS
    }
    assert {row.part for row in SYMBOLS} == set(PARTS)
    for row in SYMBOLS:
        name = re.match(r"\w+", row.code)
        assert name
        assert re.search(rf"\b{name[0]}\b", "\n".join(CODE)), row


def test_refuses_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expected one of image"):
        Symbol("q", "", "", "", "", "", "nowhere")
    with pytest.raises(ValueError, match="different symbols"):
        SymbolExplorer([SYMBOLS[0], SYMBOLS[0]])
    with pytest.raises(ValueError, match="different symbols"):
        SymbolExplorer(symbol="ζ")


@pytest.mark.browser
def test_each_symbol_shows_its_row(open_widget: Callable[..., Any]) -> None:
    page = open_widget(SymbolExplorer(symbol="x"))
    current = page.locator("input[type=radio]").first
    current.focus()
    for row in SYMBOLS:
        assert page.evaluate("model.get('symbol')") == row.symbol
        assert row.meaning in page.locator(".verdict").inner_text()
        facts = page.locator("dl dd").all_inner_texts()
        assert facts == [row.name, row.code, "Show its shape", row.values]
        assert page.locator(".here").count() == 1
        assert PARTS[row.part][1] in page.locator(".here").inner_text()
        assert page.locator("mark").first.inner_text() in row.code
        page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('symbol')") == SYMBOLS[0].symbol
    page.get_by_role("button", name="loss").click()
    assert page.get_by_role("radio", name=re.compile("^ℓ")).is_checked()


@pytest.mark.browser
def test_the_way_from_image_to_loss_stands_on_paper_too(open_widget: Callable[..., Any]) -> None:
    page = open_widget(SymbolExplorer(symbol="x"))
    page.emulate_media(media="print")
    for button in page.locator(".pipeline button").all():
        assert button.is_visible()
    assert not page.get_by_role("button", name="Reset").is_visible()
    shape = page.locator("dl dd").nth(2)
    assert shape.inner_text() == "(C, H, W)", "paper has no button that would show it"
    page.emulate_media(media="screen")
    assert shape.inner_text() == "Show its shape"


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 500, 640])
def test_no_symbol_stands_on_a_row_of_its_own(open_widget: Callable[..., Any], width: int) -> None:
    page = open_widget(SymbolExplorer(symbol="x"), width=width)
    rows = [round(tile.bounding_box()["y"]) for tile in page.locator(".tiles label").all()]
    assert all(rows.count(row) > 1 for row in rows)


@pytest.mark.browser
def test_a_shape_waits_until_it_is_asked_for(open_widget: Callable[..., Any]) -> None:
    page = open_widget(SymbolExplorer(symbol="x"))
    shape, ask = page.locator("dl dd").nth(2), page.get_by_role("button", name="Show its shape")
    tiles = page.get_by_role("radio")
    ask.press("Enter")
    assert shape.inner_text() == "(C, H, W)"
    focused = "document.querySelector('#cell > div').shadowRoot.activeElement.textContent"
    assert page.evaluate(focused) == "(C, H, W)"  # read out, and the next Tab goes on from here
    tiles.nth(1).check()
    assert ask.is_visible()
    tiles.first.check()
    assert not ask.is_visible()
    page.get_by_role("button", name="Reset").click()
    assert ask.is_visible()


def test_the_still_table_has_all_shapes() -> None:
    still = SymbolExplorer().still()
    assert all(f"<td>{row.shape}</td>" in still for row in SYMBOLS)
