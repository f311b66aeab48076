"""Faults of layout that once stood on a page, each as a rule for all pages."""

from __future__ import annotations

import pytest
from visits import PAGES, SIZES, Visit

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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_heading_takes_the_lines_of_its_words(chromium, book, name, size):
    with Visit(chromium, book, size=size) as visit:
        assert visit.open(name).evaluate(TALL) == []
