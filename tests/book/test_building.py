"""What the build adds to pages: names of folds, descriptions, and what is missing."""

from __future__ import annotations

import importlib
import json
import re
import sys
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = 'The weights of squeezenet1_0 were "not" there.'
PAGE = """<html><head><title>T</title></head><body>
<p class="lead-line">25 minutes.</p>
<p>This is <em>Chelsea</em>, a "cat".</p>
<div class="cell"><details class="admonition hide above-input">
<summary aria-label="Toggle hidden content">
<p class="collapsed admonition-title">{shown}</p>
<p class="expanded admonition-title">Hide it</p>
</summary></details></div>
<script type="application/json">{{"networks":[{{"name":"n","shipped":"squeezenet1_0"}}]}}</script>
</body></html>"""


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Return a function that runs a page through the end of the build."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    for name in ("book", "engine", "listings", "preloads", "words"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    book = importlib.import_module("book")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    path = tmp_path / "_build" / "html" / "page.html"
    path.parent.mkdir(parents=True)

    def run(html, missing, times=1):
        path.write_text(html, encoding="utf-8")
        for _ in range(times):
            book.finish(missing)
        return path.read_text(encoding="utf-8")

    return run


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("Show code cell content", "Solution"),
        ("Show code cell source", "Code of this figure"),
        ("The same with ResNet-50", "The same with ResNet-50"),
    ],
)
def test_a_fold_is_called_by_what_it_holds(finished, shown, name):
    html = finished(PAGE.format(shown=shown), {})
    assert f'<summary><p class="admonition-title">{name}</p></summary>' in html


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ("<table></table>", "table"),
        ("<img> <table></table>", "figure"),
        ("<within-epsilon-explorer><table></table>", "figure"),
        ('</div><div class="cell docutils"><table></table>', "figure"),
    ],
)
def test_the_fold_above_a_table_says_so(finished, output, name):
    page = PAGE.format(shown="Show code cell source").replace("</body>", output)
    assert f'"admonition-title">Code of this {name}</p>' in finished(page, {}, times=2)


def test_a_page_is_described_by_its_first_words_once(finished):
    html = finished(PAGE.format(shown=""), {}, times=2)
    assert re.findall(r'<meta name="description" content="([^"]*)">', html) == [
        "This is Chelsea, a &quot;cat&quot;."
    ]


START = '<div class="highlight"><pre><span></span>'
LISTED = f"""{START}<span class="k">def</span><span class="w"> </span><span class="n">f</span>():
    <span class="k">return</span> model<span class="o">.</span>forward(x&lt;1).argmax(dim=1)
</pre></div>"""


def test_a_long_line_says_how_far_it_hangs_and_stays_as_it_was(finished):
    def text(html):
        return re.sub(r"<[^>]*>", "", html)

    html = finished(LISTED, {}, times=2)
    assert text(html) == text(LISTED)
    assert re.findall(r'<span class="hang" style="--in:(\d+)ch">', html) == ["6"]
    assert '<span class="k">def</span> f():' in html
    assert html.count('class="hang"') == 1, "the first line fits on any phone"
    assert '</span> model<wbr><span class="o">.</span>forward(<wbr>x&lt;1)' in html
    assert finished("<p><pre>" + "x" * 40 + "</pre></p>", {}).count("hang") == 0


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("within-epsilon evaluate --batch-size 25 more", ["within-epsilon", "--batch-size", " 25"]),
        (
            'f(x[:, None], <span class="o">-</span><span class="mi">1</span>, minuend - other)',
            ["-1"],
        ),
        ('g(another_name, <span class="o">-</span><span class="n">torch</span>.infinite)', ["-t"]),
    ],
)
def test_a_hyphen_stays_with_what_it_belongs_to(finished, line, whole):
    html = finished(f"{START}{line}</pre></div>", {})
    tied = re.findall(r'<span class="tied">((?:<span[^>]*>[^<]*</span>|[^<])*)</span>', html)
    assert [re.sub(r"<[^>]*>", "", found) for found in tied] == whole


@pytest.mark.parametrize(
    ("line", "tied"),
    [
        ('run --epsilon <span class="m">0</span>.05 --out published', [" 0.05", " published"]),
        ("run --weights a_rather_long_file_name.safetensors now and then", []),
        ('srun torchrun --id "$SLURM_JOB_ID_IT_IS" <span class="se">\\</span>', [" \\"]),
        ('<span class="s2">"srun torchrun with several words" \\</span>', [" \\"]),
        ('pip install "within_epsilon[notebooks] @ git+https://a.b/c"', [" @"]),
        (
            'times = passes(own), <span class="sa">f</span><span class="s2">&quot;</span>'
            '<span class="si">{</span>ratio<span class="si">}</span><span class="s2">&quot;</span>',
            ['f"{'],
        ),
    ],
)
def test_what_would_stand_alone_on_a_row_stays_with_what_it_belongs_to(finished, line, tied):
    html = finished(f"{START}{line}</pre></div>", {}, times=2)
    found = re.findall(r'<span class="tied">((?:<span[^>]*>[^<]*</span>|[^<])*)</span>', html)
    words = [unescape(re.sub(r"<[^>]*>", "", piece)) for piece in found]
    assert [word for word in words if not word.startswith("--")] == tied
    assert html.count("<span") == html.count("</span>")


@pytest.mark.parametrize(
    ("text", "tied"),
    [
        ("PGD, ℓ∞ ε = 8/255, 40 steps", ["ℓ∞ ε = 8/255"]),
        ("sign(0) = 0. Then T = 10, p = −1.5%", [" = 0", " = 10", " = −1.5%"]),
        ("85.5 ± 1.0% and 13 : 67", ["85.5 ± 1.0%", "13 : 67"]),
        ("1800 / 1802 passes of 3 × 224 × 224 pixels", ["1800 /", "3 × 224 × 224"]),
        ("p times (1 − p), and (as said - before)", ["(1 − p)"]),
        ("<code>ε = 1</code><pre>ε = 1</pre><script>ε = 1</script><b title='ε = 1'></b>", []),
        (r'<span class="math">\(\log k = 2.30\)</span>, <div>\[x = 1\]</div>', []),
        ("as chapter 12 and chapters 1 to 3 say", ["chapter 12", "chapters 1"]),
        ("at 10:45, x == 3, a = b", []),
    ],
)
def test_words_that_belong_together_are_not_parted(finished, text, tied):
    html = finished(f"<p>{text}</p>", {}, times=2)
    assert re.findall(r'<span class="tied words">([^<]*)</span>', html) == tied
    assert re.sub(r'<span class="tied words">([^<]*)</span>', r"\1", html) == f"<p>{text}</p>"


def test_a_term_does_not_run_into_its_text_in_what_a_search_shows(finished):
    html = finished("<dl><dt>margin</dt><dd><p>The right</p></dd></dl>", {}, times=2)
    assert re.sub(r"<[^>]*>", "", html) == "margin\nThe right"


def test_a_formula_is_tied_to_its_comma_beside_a_listing_with_hyphens(finished):
    formula = r'<span class="math notranslate nohighlight">\(x &lt; 1\)</span>,'
    html = finished(f"{START}within-epsilon evaluate --batch-size 2</pre></div>{formula}", {}, 2)
    assert html.endswith(f'</div><span class="tied formula">{formula}</span>')


def test_an_option_in_the_text_stays_whole(finished):
    words = '<code><span class="pre">--epochs</span> <span class="pre">a-b</span></code>'
    html = finished(words, {}, times=2)
    assert html == words.replace('"pre">--', '"pre option">--')


@pytest.mark.parametrize("kind", ["logits", "photo_lab"])
def test_a_page_names_the_modules_of_its_first_explorer(finished, tmp_path, kind):
    book = importlib.import_module("book")
    explorers = tmp_path / "_build" / "html" / "_static" / "explorers"
    book.place_explorers(explorers)
    page = (
        '<head><script type="module" src="../_static/explorers/entry.js?v=1"></script></head>'
        f'<within-epsilon-explorer kind="{kind}"></within-epsilon-explorer>'
        '<within-epsilon-explorer kind="pgd"></within-epsilon-explorer>'
    )
    html = finished(page, {}, times=2)
    named = re.findall(r'<link rel="modulepreload" href="\.\./_static/explorers/([^"]*)">', html)
    assert len(named) == len(set(named)), "an earlier build's are replaced"
    for module in named:
        text = (explorers / module).read_text("utf-8")
        for imported in re.findall(
            r'^(?:import|export)[^;"]*"(\.{1,2}/[^"]*)"', text, re.MULTILINE
        ):
            other = (explorers / module).parent / imported
            assert other.resolve().relative_to(explorers.resolve()).as_posix() in named
    names = {Path(module).name for module in named}
    assert {"entry.js", "models.js", f"{kind}.js", "explorer.js"} <= names
    assert "pgd.js" not in names, "the others come when they are near the screen"


def test_a_page_without_explorers_names_no_modules(finished):
    html = '<head><script type="module" src="_static/explorers/entry.js"></script></head>'
    assert finished(html, {}) == html


def test_a_lab_is_told_which_weights_are_missing(finished):
    html = finished(PAGE.format(shown=""), {"squeezenet1_0": MISSING}, times=2)
    state = json.loads(re.search(r'json">(.*?)</script>', html)[1])
    assert state["networks"] == [{"name": "n", "shipped": "squeezenet1_0", "missing": MISSING}]
    assert html.count('"missing"') == 1
    assert "missing" not in finished(html, {}), "they were there in the next build"


def test_pages_are_written_anew_when_what_they_all_carry_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    book = importlib.import_module("book")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    chapter, page = tmp_path / "chapters" / "one.ipynb", tmp_path / "_build" / "html" / "one.html"
    chapter.parent.mkdir()
    (tmp_path / "_toc.yml").write_text("chapters:", "utf-8")
    works = chapter.parent / "references.bib"
    works.write_text("year = {2020}", "utf-8")

    def survives(title, text):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
        cell = {"cell_type": "markdown", "source": [f"# {title}\n", text]}
        chapter.write_text(json.dumps({"cells": [cell]}, indent=1), "utf-8")
        book.forget_old_menus()
        return page.exists()

    assert not survives("One", "a")
    assert survives("One", "b")
    assert not survives("1 One", "b")
    (tmp_path / "_toc.yml").write_text("parts:", "utf-8")
    assert not survives("1 One", "b")
    works.write_text("year = {2020a}", "utf-8")
    assert not survives("1 One", "b")
    assert survives("1 One", "b")
