"""Code on a page: how it breaks on a phone, and that what is copied is what was written."""

from __future__ import annotations

import json
import re

import pytest
from visits import PAGES, ROOT, Visit

pytestmark = pytest.mark.browser

CHAPTERS = [page for page in PAGES if re.search(r"/\d\d_", page)]
# Lines of which a later row begins no further right than the line's own first letter.
FALLEN = """
() => [...document.querySelectorAll('.bd-article .cell_input pre')].flatMap(pre => {
  const places = [];  // of each character: its node, and where in it
  const texts = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    for (let at = 0; at < texts.currentNode.length; at++) places.push([texts.currentNode, at]);
  }
  let start = 0;
  return pre.textContent.split('\\n').filter(line => {
    const begin = start + line.search(/\\S/), end = start + line.trimEnd().length;
    start += line.length + 1;
    if (!line.trim()) return false;
    const range = document.createRange();
    range.setStart(...places[begin]);
    range.setEnd(places[end - 1][0], places[end - 1][1] + 1);
    const [first, ...rest] = range.getClientRects();
    return rest.some(box => box.top > first.bottom - 2 && box.left < first.left + 6);
  });
})
"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_code_on_a_phone_breaks_its_lines(chromium, book, name):
    with Visit(chromium, book, size="phone") as visit:
        page = visit.open(name)
        wide = page.evaluate(
            """() => [...document.querySelectorAll('.bd-article .cell_input pre')]
              .filter(pre => pre.scrollWidth > pre.clientWidth + 1).map(pre => pre.textContent)"""
        )
        assert wide == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_is_broken_off_a_line_stands_right_of_where_the_line_began(chromium, book, name):
    with Visit(chromium, book, size="phone") as visit:
        page = visit.open_with_all_shown(name)
        assert page.locator(".bd-article .hang").count() > 20
        assert page.evaluate(FALLEN) == []


def test_what_is_copied_is_what_was_written(chromium, book):
    name = "chapters/06_adversarial_examples.html"
    notebook = json.loads((ROOT / name.replace(".html", ".ipynb")).read_text(encoding="utf-8"))
    written = ["".join(cell["source"]) for cell in notebook["cells"] if cell["source"]]
    with Visit(chromium, book, size="phone") as visit:
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = visit.open(name)
        page.evaluate("document.querySelector('.reading button').click()")
        listings = page.locator(".bd-article .cell_input:visible")
        assert listings.count() > 5
        for listing in listings.all():
            source = listing.locator("pre").text_content().removesuffix("\n")
            assert source in written
            listing.scroll_into_view_if_needed()
            listing.locator("button.copybtn").click(force=True)  # it shows under a mouse only
            assert page.evaluate("navigator.clipboard.readText()") == source
            page.evaluate("navigator.clipboard.writeText('')")
            listing.locator("pre").evaluate("pre => getSelection().selectAllChildren(pre)")
            page.keyboard.press("Control+c")
            copied = page.evaluate("navigator.clipboard.readText()")
            assert copied.removesuffix("\n") == source
