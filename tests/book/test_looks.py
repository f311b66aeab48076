"""Faults of layout that once stood on a page, each as a rule for all pages."""

from __future__ import annotations

import pytest
from visits import PAGES, Visit

pytestmark = pytest.mark.browser

# Headings that are higher than their words: the link behind them has taken a line of its own.
TALL = """
() => [...document.querySelectorAll('.bd-article :is(h1, h2, h3)')].filter(heading => {
  const words = document.createRange();
  words.selectNodeContents(heading);
  const link = heading.querySelector('.headerlink');
  if (link) words.setEndBefore(link);
  return heading.getBoundingClientRect().bottom > words.getBoundingClientRect().bottom + 12;
}).map(heading => heading.textContent)
"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_heading_takes_the_lines_of_its_words(chromium, book, name, width):
    with Visit(chromium, book, viewport={"width": width, "height": 844}) as visit:
        assert visit.open(name).evaluate(TALL) == []


# On a phone an indented word that is too long leaves its blanks behind, on a row of their own.
BLANK_ROWS = """
() => [...document.querySelectorAll('.bd-article .hang')].filter(line => {
  const row = parseFloat(getComputedStyle(line).lineHeight);
  const texts = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const at = texts.currentNode.data.search(/\\S/);
    if (at < 0) continue;
    range.setStart(texts.currentNode, at);
    range.setEnd(texts.currentNode, at + 1);
    return range.getBoundingClientRect().top > line.getBoundingClientRect().top + row / 2;
  }
}).map(line => line.textContent)
"""


@pytest.mark.parametrize("name", PAGES)
def test_no_line_of_code_begins_with_an_empty_row(chromium, book, name):
    with Visit(chromium, book, size="phone") as visit:
        page = visit.open_with_all_shown(name)
        assert page.evaluate(BLANK_ROWS) == []


def test_commands_can_be_read_to_their_ends_on_a_desktop(chromium, book):
    with Visit(chromium, book) as visit:
        for name in ("chapters/command_line.html", "chapters/lecturers.html"):
            listings = visit.open(name).locator(".bd-article pre")
            assert listings.count() > 3
            for listing in listings.all():
                assert listing.evaluate("listing => listing.scrollWidth <= listing.clientWidth + 1")


def test_a_pitfall_names_only_what_it_says(chromium, book):
    with Visit(chromium, book, size="phone") as visit:
        cells = visit.open("chapters/pitfalls.html").locator(".pitfalls td:visible")
        assert cells.count() > 50
        assert all(text.strip() for text in cells.all_inner_texts())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_way_back_to_the_top_can_be_read(chromium, book, theme):
    with Visit(chromium, book, theme=theme) as visit:
        button = visit.open("chapters/errata.html").locator("#pst-back-to-top")
        button.evaluate("button => { button.style.display = 'block'; }")
        luminances = button.evaluate(
            """button => ['color', 'backgroundColor'].map(name => {
              const parts = getComputedStyle(button)[name].match(/[\\d.]+/g).slice(0, 3);
              const [r, g, b] = parts.map(part => part / 255)
                .map(part => (part > 0.04045 ? ((part + 0.055) / 1.055) ** 2.4 : part / 12.92));
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            })"""
        )
        darker, lighter = sorted(luminances)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_sign_in_a_title_of_two_lines_marks_the_first(chromium, book):
    with Visit(chromium, book, size="phone") as visit:
        titles = (
            visit.open("chapters/11_honest_evaluation.html")
            .locator(".exercise > p:first-child")
            .all()
        )
        heights = {title.bounding_box()["height"] for title in titles}
        tops = {
            title.evaluate("title => getComputedStyle(title, '::after').top") for title in titles
        }
        assert len(heights) > 1
        assert len(tops) == 1
