"""Faults of layout that once stood on a page, each as a rule for all pages."""

from __future__ import annotations

import base64
import colorsys
import io

import pytest
from matplotlib import rc_params_from_file
from matplotlib.colors import to_rgb
from PIL import Image
from visits import PAGES, Visit

from within_epsilon.plots.style import PALETTE, STYLE, ink

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


# How much lighter or darker an element's text is than what is behind it.
CONTRAST = """
element => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  let behind = element;
  while (parts(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const ground = getComputedStyle(behind).backgroundColor;
  const [darker, lighter] = [getComputedStyle(element).color, ground]
    .map(colour => {
      const [r, g, b] = parts(colour).slice(0, 3).map(part => part / 255)
        .map(part => (part > 0.04045 ? ((part + 0.055) / 1.055) ** 2.4 : part / 12.92));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }).sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_way_back_to_the_top_can_be_read(chromium, book, theme):
    with Visit(chromium, book, theme=theme) as visit:
        button = visit.open("chapters/errata.html").locator("#pst-back-to-top")
        button.evaluate("button => { button.style.display = 'block'; }")
        assert button.evaluate(CONTRAST) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_keys_that_open_a_search_can_be_read(chromium, book, theme):
    with Visit(chromium, book, theme=theme) as visit:
        keys = visit.open("search.html").locator(".search-button__kbd-shortcut:visible").first
        assert keys.evaluate(CONTRAST) >= 4.5


@pytest.mark.parametrize("name", ["genindex.html", "chapters/backpropagation.html"])
def test_the_narrowest_phone_shows_lists_and_ways_on_whole(chromium, book, name):
    with Visit(chromium, book, viewport={"width": 320, "height": 700}) as visit:
        page = visit.open(name)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
        for way in page.locator(".prev-next-area a").all():
            assert way.evaluate("way => way.scrollWidth <= way.clientWidth")


def test_paper_is_white_shows_choices_and_catches_nothing_half_faded_in(chromium, book):
    with Visit(chromium, book, theme="dark") as visit:
        page = visit.open("chapters/01_fool_a_network.html")
        page.wait_for_load_state("networkidle")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.get_attribute("html", "data-theme") == "light"
        assert page.locator(".predict .choices button:visible").count() >= 3
        assert page.locator(".predict button.quiet:visible").count() == 0
        moving = "({ effect }) => effect.target.closest('.bd-article')"
        assert page.evaluate(f"document.getAnimations().filter({moving}).length") == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.get_attribute("html", "data-theme") == "dark"


# Whether the element that has the focus shows it, once what moves has come to rest.
FOCUS = """
async () => {
  const element = document.activeElement;
  await Promise.all(element.getAnimations().map(({ finished }) => finished));
  const { outlineStyle, boxShadow } = getComputedStyle(element);
  return [element.outerHTML.slice(0, 100), outlineStyle !== 'none' || boxShadow !== 'none'];
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_keyboard_s_place_is_seen_above_the_page(chromium, book, theme):
    with Visit(chromium, book, theme=theme) as visit:
        page = visit.open("chapters/04_cross_entropy.html")
        buttons = page.locator(".bd-header-article .btn:visible")
        assert buttons.count() >= 4
        page.keyboard.press("Tab")  # from here on the focus is the keyboard's
        for button in buttons.all():
            button.focus()
            element, shown = page.evaluate(FOCUS)
            assert shown, element


def test_folds_of_a_page_have_names_of_their_own(chromium, book):
    with Visit(chromium, book) as visit:
        names = visit.open("chapters/performance.html").locator("details > summary")
        of_page = [name for name in names.all_inner_texts() if name.startswith("Code of this page")]
        assert len(set(of_page)) == len(of_page) > 2


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


WORDS = ("text.color", "axes.labelcolor", "xtick.color")  # in the figures' style file
CHART = ".tag_chart .cell_output img"
PICTURE = ".cell:not(.tag_chart) .cell_output img:not(within-epsilon-explorer img)"


def _shot(element) -> Image.Image:
    """Return what is seen of an element, without the round corners of a card."""
    element.evaluate("async image => { image.loading = 'eager'; await image.decode(); }")
    shot = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return shot.crop((6, 6, shot.width - 6, shot.height - 6))


def _as_seen(image, colours) -> list[tuple[float, ...]]:
    """Show squares of these colours in an image's place; return what is seen of each, in [0, 1]."""
    squares, file = Image.new("RGB", (40 * len(colours), 40)), io.BytesIO()
    for place, colour in enumerate(colours):
        squares.paste(colour, (40 * place, 0, 40 * place + 40, 40))
    squares.save(file, "PNG")
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    image.evaluate("(image, source) => { image.src = source; }", source)
    shot = _shot(image)
    width = (shot.width + 12) / len(colours)
    seen = [
        shot.getpixel((round(width * (k + 0.5)) - 6, shot.height // 2)) for k in range(len(colours))
    ]
    return [tuple(part / 255 for part in pixel) for pixel in seen]


def _contrast(one, other) -> float:
    """Return two colours' contrast, from 1 to 21."""
    lights = [
        sum(
            weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), colour, strict=True)
        )
        for colour in (one, other)
    ]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def _hue(colour) -> float:
    return 360 * colorsys.rgb_to_hsv(*colour)[0]


def test_in_the_dark_a_chart_can_be_read_and_its_colours_keep_their_meaning(chromium, book):
    style = rc_params_from_file(STYLE, use_default_template=False)
    words = [f"#{style[name]}".replace("##", "#") for name in WORDS]
    words += [ink(colour) for colour in PALETTE]
    with Visit(chromium, book, theme="dark") as visit:
        page = visit.open_with_all_shown("chapters/12_verification.html")
        image = page.locator(CHART).first
        ground, *seen = _as_seen(image, ["#ffffff", *PALETTE, *words])
        behind = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert f"rgb{tuple(round(255 * part) for part in ground)}" == behind
        marks, texts = seen[: len(PALETTE)], seen[len(PALETTE) :]
        assert min(_contrast(mark, ground) for mark in marks) >= 3
        assert min(_contrast(text, ground) for text in texts) >= 4.5
        for colour, mark in zip(PALETTE[:-1], marks, strict=False):  # the last is a grey
            apart = (_hue(mark) - _hue(to_rgb(colour)) + 180) % 360 - 180
            assert abs(apart) <= 10, colour


# What an element does to the colours it is drawn in, and to those behind it.
COLOURING = """
image => [getComputedStyle(image).filter, getComputedStyle(image).mixBlendMode].join()
"""


def test_only_charts_and_only_on_a_dark_screen_change_their_colours(chromium, book):
    pictures, corners = {}, {}
    for theme in ("light", "dark"):
        with Visit(chromium, book, theme=theme) as visit:
            page = visit.open_with_all_shown("chapters/03_softmax.html")
            pictures[theme] = [_shot(each).tobytes() for each in page.locator(PICTURE).all()]
            chart = page.locator(CHART).first
            corners[theme] = _shot(chart).getpixel((0, 0))
            assert (chart.evaluate(COLOURING) == "none,normal") == (theme == "light")
            page.emulate_media(media="print")
            assert chart.evaluate(COLOURING) == "none,normal"
    assert len(pictures["dark"]) >= 3
    assert pictures["dark"] == pictures["light"]
    assert corners["light"] == (255, 255, 255)
    assert max(corners["dark"]) < 40
