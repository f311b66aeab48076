"""The built book as a reader meets it: in a browser, with every other site out of reach."""

from __future__ import annotations

import gzip
import io
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from visits import HTML, PAGES, SIZES, Visit

pytestmark = pytest.mark.browser

# Of the engine's modules, those that a lab has before it is touched.
EARLY = ("/calls.js", "/ball.js")
# Faults of the theme's own markup, on every page of every book built with it.
OURS = ["within-epsilon-explorer", ".cell_output", ".admonition", "table", ".lead-line"]


# All canvases and all visible text of an explorer, through its shadow roots.
LOOK = """
element => {
  const pixels = [], words = [];
  const walk = node => {
    for (const child of node.querySelectorAll('*')) {
      if (child.tagName === 'CANVAS') pixels.push(child.toDataURL());
      if (child.shadowRoot) {
        walk(child.shadowRoot);
        for (const part of child.shadowRoot.children) {
          if (part.tagName !== 'STYLE') words.push(part.innerText ?? '');
        }
      }
    }
  };
  walk(element);
  return [pixels, words.join(' ')];
}
"""


def _settled(page, explorer):
    """Return what an explorer shows once it has stood still for half a second."""
    before = None
    for _ in range(40):
        page.wait_for_timeout(500)
        now = explorer.evaluate(LOOK)
        if now == before:
            return now
        before = now
    raise AssertionError("the explorer does not come to rest")


def _wake_explorers(page):
    """Open what is folded, scroll every explorer into view and wait until it has mounted."""
    page.evaluate("document.querySelector('.reading button')?.click()")
    for element in page.query_selector_all("within-epsilon-explorer"):
        element.scroll_into_view_if_needed()
        page.wait_for_function(
            "element => [...element.querySelectorAll('*')].some(child => child.shadowRoot)",
            arg=element,
        )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_by_itself(chromium, book, name, size, theme):
    with Visit(chromium, book, size=size, theme=theme) as visit:
        page = visit.open(name)
        _wake_explorers(page)
        assert page.get_attribute("html", "data-theme") == theme
        assert visit.outside == []
        assert visit.complaints == []
        # Icons come from a style sheet; the theme's second copy is 1.5 MB of script.
        assert page.locator("script[src*=fontawesome], script[src*=thebe]").count() == 0
        # Formulas are set, none is left as source.
        formulas = page.locator(".bd-article .math")
        assert page.locator(".bd-article mjx-container").count() >= formulas.count()
        assert page.locator("mjx-merror").count() == 0
        # A phone scrolls up and down only.
        overflow = page.evaluate(
            "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0
        for image in page.query_selector_all(".bd-article img:visible"):
            assert image.evaluate("image => image.naturalWidth") > 0
            assert len(image.get_attribute("alt") or "") > 20
            # Nothing filters a picture; a chart takes the dark page's colours (test_looks.py).
            chart = theme == "dark" and image.evaluate("image => image.matches('.tag_chart *')")
            assert chart != (image.evaluate("image => getComputedStyle(image).filter") == "none")
        include = [[part] for part in OURS if page.locator(part).count()]
        found = Axe().run(page, context={"include": include}) if include else None
        assert found is None or found.violations_count == 0, found.generate_report()


# What is wider than its place: cut off, a table, or scrolling without a sign or without keys.
TOO_WIDE = """
() => [...document.querySelectorAll('.bd-article *')].flatMap(element => {
  const { display, overflowX, backgroundAttachment } = getComputedStyle(element);
  const quiet = element.matches('span.math, thead') || element.closest('mjx-container > *');
  if (quiet || display === 'inline' || overflowX === 'visible') return [];
  if (!element.clientWidth || element.scrollWidth <= element.clientWidth + 1) return [];
  const fault = overflowX === 'hidden' ? 'cut off'
    : element.querySelector('table') ? 'a table that scrolls'
    : !backgroundAttachment.includes('local') ? 'scrolls without a sign'
    : element.tabIndex < 0 ? 'out of reach of the keyboard' : '';
  return fault ? [`${fault}: ${element.textContent.trim().slice(0, 80)}`] : [];
})
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_what_is_wider_than_the_page_shows_that_it_scrolls(chromium, book, name, size):
    with Visit(chromium, book, size=size) as visit:
        page = visit.open(name)
        _wake_explorers(page)
        assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_shadow_lies_where_code_goes_on_and_lifts_at_its_end(chromium, book, theme):
    with Visit(chromium, book, size="phone", theme=theme) as visit:
        listing = visit.open("chapters/index.html").locator(".bd-article pre").first
        listing.evaluate(
            "listing => { listing.style.whiteSpace = 'pre'; }"
        )  # as in a printed table

        def shaded() -> tuple[bool, bool]:
            """Say whether the edges, left and right, differ from the middle above the text."""
            picture = Image.open(io.BytesIO(listing.screenshot())).convert("L")
            left, middle, right = (
                picture.getpixel((x, 6)) for x in (3, picture.width // 2, picture.width - 4)
            )
            return abs(left - middle) > 20, abs(right - middle) > 20

        def settles(expected: tuple[bool, bool]) -> bool:
            """Wait for what is drawn: above the listing a page may still be moving."""
            for _ in range(50):
                if shaded() == expected:
                    return True
                listing.page.wait_for_timeout(100)
            return False

        assert settles((False, True))
        listing.evaluate("listing => listing.scrollLeft = 50")
        assert settles((True, True))
        listing.evaluate("listing => listing.scrollLeft = listing.scrollWidth")
        assert settles((True, False))


@pytest.mark.parametrize("name", PAGES)
def test_formulas_write_epsilon_as_the_text_does(chromium, book, name):
    with Visit(chromium, book) as visit:
        page = visit.open(name)
        source = (HTML / name).read_text(encoding="utf-8").count(r"\epsilon")
        assert page.locator("mjx-c.mjx-c1D700").count() >= source  # ε
        assert page.locator("mjx-c.mjx-c1D716").count() == 0  # ϵ
        assert "ϵ" not in page.locator(".bd-article").inner_text()


# Formulas after which a line ends before the full stop, the comma or the bracket.
LEFT_ALONE = """
() => [...document.querySelectorAll('.bd-article span.math')].flatMap(formula => {
  const next = formula.nextSibling;
  if (next?.nodeType !== 3 || !/^[)\\]”’.,;:!?]/.test(next.data)) return [];
  const range = document.createRange();
  range.setStart(next, 0);
  range.setEnd(next, 1);
  const alone = range.getBoundingClientRect().left < formula.getBoundingClientRect().left;
  return alone ? [formula.parentElement.closest('p, li, td, dd').textContent.slice(0, 80)] : [];
})
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_no_line_begins_with_the_full_stop_after_a_formula(chromium, book, name, size):
    with Visit(chromium, book, size=size) as visit:
        assert visit.open(name).evaluate(LEFT_ALONE) == []


# Every citation: where it leads, and its words, "Carlini and Wagner [2017b]" or the like.
CITED = """
() => [...document.querySelectorAll('.bd-article a[href*="bibliography.html#"]')].map(link => {
  const range = document.createRange();
  range.setStartBefore(link.closest('.bibtex-citation'));
  range.setEndAfter(link);
  return [link.hash.slice(1), range.toString()];
})
"""
AUTHOR_YEAR = re.compile(r"([\w’'-]+)(?: et al\.| and [\w’' -]+)?,? \[?(\d{4}[a-z]?)$")


def test_a_citation_leads_to_its_authors_and_year_and_to_no_other_label(chromium, book):
    with Visit(chromium, book) as visit:
        works: dict[tuple[str, ...], str] = {}
        for name in PAGES:
            for target, said in visit.open(name).evaluate(CITED):
                words = AUTHOR_YEAR.search(said)
                assert words, said[-80:]
                assert works.setdefault(words.groups(), target) == target, f"two are {words[0]}"
        assert len(set(works.values())) > 40
        page = visit.open("chapters/bibliography.html")
        for (author, year), target in works.items():
            listed = page.locator(f"[id='{target}']").inner_text()
            assert author in listed
            assert re.search(rf"\b{year}\. (arXiv|doi|URL):", listed), listed
            assert "[" not in listed
            assert page.locator(f"[id='{target}'] a[href^='https://']").count() == 1


@pytest.mark.parametrize("name", [page for page in PAGES if re.search(r"/(0[1-9]|1\d)_", page)])
def test_without_javascript_every_explorer_leaves_a_described_picture(chromium, book, name):
    with Visit(chromium, book, java_script_enabled=False) as visit:
        page = visit.page
        page.goto(f"{book}/{name}")
        explorers = page.locator("within-epsilon-explorer")
        assert explorers.count() >= 1, "each chapter has an interactive"
        for index in range(explorers.count()):
            stills = explorers.nth(index).locator("img, table")
            assert stills.count() >= 1
            for still in stills.all():
                assert still.is_visible()
                assert len(still.get_attribute("alt") or still.inner_text()) > 15


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [page for page in PAGES if "/01_" in page or "/06_" in page])
def test_epsilon_slider_moves_picture_bars_and_verdict(chromium, book, name, size):
    with Visit(chromium, book, size=size) as visit:
        page = visit.open(name)
        _wake_explorers(page)
        explorer = page.locator("within-epsilon-explorer").first
        slider = explorer.locator("[role=slider], input[type=range]").first
        slider.focus()
        page.keyboard.press("Home")
        clean = _settled(page, explorer)
        for _ in range(3):
            page.keyboard.press("PageUp")
        changed = _settled(page, explorer)
        assert changed[0] != clean[0], "the pictures did not move"
        assert changed[1] != clean[1], "verdict and bars did not move"
        page.keyboard.press("Home")
        assert _settled(page, explorer) == clean, "what goes up must come down"
        assert visit.complaints == []


@pytest.mark.parametrize("name", PAGES)
def test_our_code_on_a_page_is_light_before_a_touch(chromium, book, name):
    """At most 42 KB, gzipped, and nothing of the engine or its weights."""
    with Visit(chromium, book) as visit:
        loaded: set[str] = set()
        visit.page.on("response", lambda response: loaded.add(response.url.split("?")[0]))
        page = visit.open(name)
        _wake_explorers(page)
        page.wait_for_load_state("networkidle")
        ours = [url for url in loaded if "/explorers/" in url or url.endswith("book.css")]
        assert len(ours) >= 2
        assert not [url for url in ours if "/engine/" in url and not url.endswith(EARLY)]
        files = [HTML / url.removeprefix(f"{book}/") for url in ours]
        sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in files}
        assert sum(sizes.values()) <= 42_000, sizes


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("PGD", "Fool a network"),
        ("fast gradient sign method", "Fool a network"),
        ("softmax", "Logits and softmax"),
        ("threat model", "Threat models"),
    ],
)
def test_search_finds_the_chapter_first_and_quotes_no_source(chromium, book, query, first):
    with Visit(chromium, book) as visit:
        page = visit.open(f"search.html?q={query.replace(' ', '+')}")
        page.locator("#search-results li p").first.wait_for()
        assert first in page.locator("#search-results li > a").first.inner_text()
        for excerpt in page.locator("#search-results li p").all_inner_texts():
            assert not re.search(r"\\\(|\\[a-z]+\{|\.pdf", excerpt), excerpt
        field = page.locator(".bd-article-container form.bd-search").first
        icon, words = field.locator(".fa-magnifying-glass"), field.locator("input")
        inset = words.evaluate("input => parseFloat(getComputedStyle(input).paddingLeft)")
        box = icon.bounding_box()
        assert box["x"] + box["width"] <= words.bounding_box()["x"] + inset
        assert visit.outside == []


@pytest.mark.parametrize(
    "name", [page for page in PAGES if page.endswith("x.html") or re.search(r"/\d\d_", page)]
)
def test_a_chapters_head_says_what_it_is_about(chromium, book, name):
    with Visit(chromium, book, java_script_enabled=False) as visit:
        visit.page.goto(f"{book}/{name}")
        about = visit.page.locator("meta[name=description]")
        assert len(about.get_attribute("content")) > 40


def test_the_root_leads_to_the_opening_page(chromium, book):
    with Visit(chromium, book) as visit:
        page = visit.open("index.html")
        page.wait_for_url("**/chapters/index.html")
        page.get_by_role("link", name="Start with chapter 1").click()
        page.wait_for_url("**/01_fool_a_network.html")
