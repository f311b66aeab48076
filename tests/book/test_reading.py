"""A page that waits for its reader: predictions, quiz, exercises, progress, and the ways around."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from visits import PAGES, Visit

pytestmark = pytest.mark.browser

CHAPTER = "chapters/01_fool_a_network.html"
CHAPTERS = [page for page in PAGES if re.search(r"/\d\d_", page)]
NOTES = "JSON.parse(localStorage.getItem('within-epsilon') ?? '{}')"


@pytest.fixture
def visit(chromium, book):
    with Visit(chromium, book) as visit:
        yield visit


def test_a_choice_unfolds_its_answer_and_says_why_it_was_tempting(visit):
    page = visit.open(CHAPTER)
    box, answer = page.locator(".predict").first, page.locator(".answer").first
    assert not answer.is_visible()
    way = box.get_by_text("The text goes on once you have answered, or")
    assert way.is_visible()
    assert "answered, or just show me" in box.inner_text()
    box.get_by_role("button", name="about 4/255").press("Enter")
    assert answer.is_visible()
    said = "You said “about 4/255”. The answer is “less than 1/255”."
    assert box.get_by_role("status").inner_text() == said
    assert answer.locator(".said").inner_text() == said
    assert answer.locator("li.yours").inner_text().startswith("about 4/255")
    assert page.evaluate("document.activeElement.textContent") == "Guess again"
    assert not way.is_visible()
    page.keyboard.press("Enter")
    assert not answer.is_visible()
    assert way.is_visible()
    box.get_by_role("button", name="less than 1/255").click()
    assert "So it is" in box.get_by_role("status").inner_text()
    assert answer.locator("li.yours").count() == 0
    page.get_by_role("button", name="Guess again").first.click()
    box.get_by_role("button", name="just show me").click()
    assert answer.is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Guess"
    assert visit.complaints == []


def test_a_number_by_keyboard_or_slider_is_compared_and_kept(visit):
    page = visit.open(CHAPTER)
    box = page.locator(".predict", has_text="coin toss")
    field, slider = box.get_by_role("spinbutton"), box.get_by_role("slider")
    field.press("Enter")  # nothing said yet
    assert box.get_by_role("status").inner_text() == ""
    slider.press("End")
    assert field.input_value() == "20"
    field.fill("7")
    assert slider.input_value() == "7"
    field.press("Enter")
    said = "You said 7 of 20 tries: too high. It is 0."
    assert box.get_by_role("status").inner_text() == said
    page.reload()
    assert box.get_by_role("status").inner_text() == said
    assert page.locator(".answer", has_text=said).is_visible()
    box.get_by_role("button", name="Guess again").click()
    field.fill("1")
    field.press("Enter")
    assert "1 of 20 tries: close" in box.get_by_role("status").inner_text()


def test_a_quiz_asks_before_it_answers(visit):
    page = visit.open(CHAPTER)
    form = page.locator(".question").first
    reasons = form.locator(".reasons")
    assert not reasons.is_visible()
    form.get_by_role("button", name="Check").click()  # nothing chosen: the browser asks
    assert not reasons.is_visible()
    radios = form.get_by_role("radio")
    radios.first.check()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert form.get_by_role("status").inner_text() == "Right."
    assert reasons.is_visible()
    form.get_by_role("button", name="Ask me again").click()
    radios.first.check()
    form.get_by_role("button", name="Check").click()
    assert "right answer is marked" in form.get_by_role("status").inner_text()
    assert form.locator(".wrong, .right").count() == 2


def test_progress_stands_on_the_page_and_the_index_until_it_is_forgotten(visit):
    page = visit.open(CHAPTER)
    page.locator(".predict").first.get_by_role("button").first.click()
    page.locator(".exercise").first.get_by_role("checkbox").check()
    line = page.locator(".reading")
    assert "1 of 3 predictions" in line.inner_text()
    assert "1 of 6 exercises" in line.inner_text()
    total = page.locator(".predict, .question, .exercise").count()
    index = visit.open("chapters/index.html")
    marks = index.locator(".progress-mark")
    assert [mark.strip() for mark in marks.all_inner_texts()] == [f"2 of {total} done"]
    index.get_by_role("button", name="Forget all my answers").click()
    assert marks.count() == 0
    assert index.evaluate(NOTES) == {}
    page = visit.open(CHAPTER)
    assert not page.locator(".answer").first.is_visible()
    assert not page.locator(".exercise").first.get_by_role("checkbox").is_checked()
    page.get_by_role("button", name="Open everything").click()
    assert page.locator(".folded[hidden], .reasons[hidden]").count() == 0
    assert "0 of 3 predictions" in line.inner_text()  # looking is no answer
    page.get_by_role("button", name="Forget my answers on this page").click()
    assert page.locator(".folded[hidden]").count() == 3


@pytest.mark.parametrize("name", CHAPTERS)
def test_what_follows_a_prediction_waits_up_to_the_next_heading_or_prediction(visit, name):
    page = visit.open(name)
    assert page.locator(".folded").count() == page.locator(".admonition.predict").count()
    leaks = "section:not(:has(> h1)) > .folded + :not(section, .predict)"
    assert page.locator(leaks).all_inner_texts() == []
    assert page.locator("section section .folded").first.is_hidden()
    assert page.get_by_text("After this chapter you can").is_visible()


def test_an_answer_may_begin_its_sentence_with_the_choice(visit):
    page = visit.open("chapters/00_tensors_and_gradients.html")
    box, answer = page.locator(".predict").first, page.locator(".answer").first
    assert answer.locator("strong").first.text_content()[0].isupper()
    right = "each image’s number is subtracted from a column"
    box.get_by_role("button", name=right).click()
    assert box.get_by_role("status").inner_text() == f"You said “{right}”. So it is."
    box.get_by_role("button", name="Guess again").click()
    box.get_by_role("button", name="an error").click()
    assert f"The answer is “{right}”." in box.get_by_role("status").inner_text()
    assert answer.locator("li.yours").count() == 1


def test_links_and_searches_open_what_hides_their_target(visit):
    page = visit.open(CHAPTER)
    inside = page.locator(".folded [id]").first.get_attribute("id")
    page.evaluate("id => { location.hash = id }", inside)
    page.locator(f"[id='{inside}']").wait_for()
    page.evaluate("localStorage.removeItem('within-epsilon')")
    visit.open(f"{CHAPTER}?highlight=hamster").locator(".highlighted").first.wait_for(
        state="attached"
    )
    assert page.locator(".folded:not([hidden])").count() == 0  # it stands elsewhere, too
    visit.open(f"{CHAPTER}?highlight=cardigan")
    page.locator(".folded:not([hidden]) .highlighted").first.wait_for()


@pytest.mark.parametrize("spoiled", ["null", "7", '{"01_fool_a_network": 3}', "{", '"text"'])
def test_notes_that_are_none_do_no_harm(visit, spoiled):
    visit.context.add_init_script(f"localStorage.setItem('within-epsilon', {spoiled!r})")
    page = visit.open(CHAPTER)
    page.locator(".predict").first.get_by_role("button").first.click()
    assert page.locator(".answer").first.is_visible()
    assert visit.complaints == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_without_javascript_and_on_paper_everything_is_open(chromium, book, name):
    with Visit(chromium, book, java_script_enabled=False) as visit:
        visit.page.goto(f"{book}/{name}")
        for part in visit.page.locator(".predict, .answer, .predict ~ .cell").all():
            assert part.is_visible()
        assert visit.page.locator(".folded, .question").count() == 0
        assert visit.page.get_by_text("The text goes on").count() == 0
    with Visit(chromium, book) as visit:
        page = visit.open(name)
        page.wait_for_load_state("networkidle")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.get_by_text("The text goes on").locator("visible=true").count() == 0
        shut = page.evaluate(
            """async () => {
              // What the style says of content-visibility, a browser does with the next picture.
              for (let k = 0; k < 2; k += 1) await new Promise(requestAnimationFrame);
              return [...document.querySelectorAll('.answer, .reasons, .folded .cell, details > *')]
                .filter(node => !node.closest('within-epsilon-explorer')) // its still picture
                .filter(node => !node.checkVisibility({ contentVisibilityAuto: true }))
                .map(node => node.outerHTML.slice(0, 200));
            }"""
        )
        assert shut == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_markup_of_a_chapter_says_what_it_must(chromium, book, name):
    """Right and tempting choices are choices, numbers lie in their range, one item is right."""
    with Visit(chromium, book, java_script_enabled=False) as visit:
        visit.page.goto(f"{book}/{name}")
        faults = visit.page.evaluate(MARKUP)
        assert faults == []


# Runs on the page as it was built. Boxes without an answer are not converted yet.
MARKUP = r"""
() => {
  const words = (node) => node.textContent.replace(/\s+/g, " ").trim();
  const bold = (node) => node.querySelector(":scope > strong, :scope > p > strong");
  const capital = (text) => text && text[0].toUpperCase() + text.slice(1);
  const faults = [];
  const boxes = [...document.querySelectorAll(".predict")];
  for (const answer of document.querySelectorAll(".admonition.answer")) {
    let box = answer.previousElementSibling;
    while (box && !box.matches(".predict, .answer, section")) box = box.previousElementSibling;
    if (!box?.matches(".predict")) faults.push(`an answer to no prediction: ${words(answer)}`);
    else boxes[boxes.indexOf(box)] = [box, answer];
  }
  for (const pair of boxes.filter(Array.isArray)) {
    const [box, answer] = pair;
    const choices = [...box.querySelectorAll("li")].map(words).map(capital);
    const tempting = [...answer.querySelectorAll("li")].map(bold).filter(Boolean).map(words);
    const right = bold(answer) && words(bold(answer));
    const range = [...box.querySelectorAll("code")].map(words)
      .map((code) => /^([-−]?[\d.]+) … ([-−]?[\d.]+)/.exec(code)).find(Boolean);
    const number = (text) => Number(text.replace("−", "-").replaceAll(",", ""));
    if (range) {
      const truth = number(/^[-−]?[\d,]*\.?\d+/.exec(right)?.[0] ?? "none");
      if (!(number(range[1]) <= truth && truth <= number(range[2]))) {
        faults.push(`not in the range: ${right}`);
      }
      faults.push(...tempting.filter((item) => !["too low", "too high"].includes(item)));
    } else {
      const wrong = choices.filter((choice) => choice !== capital(right));
      if (!wrong.length || wrong.length === choices.length) faults.push(`no choice is: ${right}`);
      faults.push(...tempting.filter((item) => !wrong.includes(capital(item))));
    }
  }
  for (const quiz of document.querySelectorAll("details.quiz")) {
    const items = [...quiz.querySelector("ul, ol")?.children ?? []];
    const right = items.filter((item) => bold(item) && words(bold(item)) === words(item));
    if (items.length < 2 || right.length !== 1) faults.push(`which is right? ${words(quiz)}`);
  }
  return faults;
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_what_was_answered_can_be_read_by_all(chromium, book, size, theme):
    with Visit(chromium, book, size=size, theme=theme) as visit:
        page = visit.open(CHAPTER)
        page.locator(".predict").first.get_by_role("button").first.click()
        form = page.locator(".question").first
        form.get_by_role("radio").first.check()
        form.get_by_role("button", name="Check").click()
        parts = [[".predict"], [".answer"], [".question"], [".exercise"], [".reading"]]
        found = Axe().run(page, context={"include": parts})
        assert found.violations_count == 0, found.generate_report()
        targets = page.locator(":is(.predict, .question, .reading) button:visible, .tick")
        for target in targets.all():
            assert target.bounding_box()["height"] >= 44


SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.mark.parametrize("size", SCREENS)
@pytest.mark.parametrize("name", [*CHAPTERS, "chapters/index.html"])
def test_the_first_screen_has_something_to_see(chromium, book, name, size):
    """A picture, or an explorer with its first pictures and its largest control."""
    width, height = SCREENS[size]
    viewport = {"width": width, "height": height}
    with Visit(chromium, book, viewport=viewport, is_mobile=size == "phone") as visit:
        page = visit.open(name)
        page.wait_for_timeout(1000)
        ends = page.evaluate(
            """() => {
              const first = document.querySelector(
                ".bd-article :is(within-epsilon-explorer, .cell_output img)");
              if (first?.matches("img")) return [first.getBoundingClientRect().bottom];
              const roots = [...first?.querySelectorAll("*") ?? []].map(node => node.shadowRoot);
              const root = roots.find(Boolean);
              const parts = [...root?.querySelectorAll("canvas, svg, .main input, .go") ?? []]
                .filter(node => node.checkVisibility());
              const at = (list, which) => list.filter(node => node.matches(which)).slice(0, 1);
              const go = at(parts, ".go"); // where something is begun, and not dragged
              return [...at(parts, "canvas, svg"), ...(go.length ? go : at(parts, ".main input"))]
                .map(node => node.getBoundingClientRect().bottom);
            }"""
        )
        assert ends, "nothing to see"
        assert max(ends) <= height, ends
        assert re.match(r"\d+ \w", page.locator(".bd-article h1").inner_text()) or "index" in name


def test_folds_say_what_they_hold(chromium, book):
    for name in PAGES:
        with Visit(chromium, book, java_script_enabled=False) as visit:
            visit.page.goto(f"{book}/{name}")
            titles = visit.page.locator("details.hide > summary").all_inner_texts()
            assert not [title for title in titles if "cell" in title.lower()]
            assert visit.page.locator("details.hide > summary[aria-label]").count() == 0
