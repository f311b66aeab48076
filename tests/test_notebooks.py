"""Every committed notebook is what a fresh run leaves, and keeps the book's conventions."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name) and path.name > "01"]
HIDDEN = {"remove-cell", "hide-cell", "remove-input", "hide-input"}


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _cells(path: Path, kind: str):
    return [cell for cell in _read(path)["cells"] if cell["cell_type"] == kind]


def _source(cell) -> str:
    return "".join(cell["source"])


def _tags(cell) -> set[str]:
    return set(cell["metadata"].get("tags", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_ran_top_to_bottom_without_a_complaint(path):
    notebook = _read(path)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(_source(cell).strip() for cell in cells), "an empty code cell"
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "not run in order in a fresh kernel"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info", "within_epsilon"}
    for cell in cells:
        for output in cell["outputs"]:
            assert output["output_type"] != "error", _source(cell)
            assert output.get("name") != "stderr", output.get("text")
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


def _old_spellings(cell) -> list[str]:
    """Return outputs that write the norm with a plain l, in words or in an explorer's data."""
    said = json.dumps(cell.get("outputs", []), ensure_ascii=False)
    # Data within HTML is escaped once more than the notebook around it.
    return re.findall(r".{0,40}l(?:∞|\\+u221e).{0,40}", said, re.IGNORECASE)


def test_an_old_spelling_is_seen():
    old = "FGSM, l" + "∞ ε = 0.1"  # in two parts, since no file may have it in one
    for said in (old, json.dumps(old), json.dumps(json.dumps(old))):
        assert _old_spellings({"outputs": [{"data": {"text/html": said}}]})
    for said in ("ℓ∞ ε = 0.1", json.dumps("ℓ∞ ε = 0.1"), json.dumps("label ∞")):
        assert not _old_spellings({"outputs": [{"data": {"text/html": said}}]})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_has_the_norm_s_old_spelling(path):
    """The book writes ℓ∞; comparing outputs afresh leaves out what explorers say."""
    assert [old for cell in _cells(path, "code") for old in _old_spellings(cell)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_pictures_are_described(path):
    run = 0
    for cell in _read(path)["cells"]:
        if cell["cell_type"] != "code":
            run = 0
            continue
        source = _source(cell)
        assert max(map(len, source.splitlines())) <= 75, f"clipped on the page:\n{source}"
        folded = bool(_tags(cell) & HIDDEN)  # what draws a figure may be longer than what teaches
        lines = [line for line in source.splitlines() if line.strip()]
        whole = re.search(r"^(def |class |exercises\.check)", source, re.MULTILINE)
        most = 60 if folded else 35 if whole else 12  # an algorithm or an exercise in one piece
        assert len(lines) <= most, f"too long to take in:\n{source}"
        run += not folded
        assert run <= 4, f"too many code cells in a row, up to:\n{source}"
        draws = any("image/png" in output.get("data", {}) for output in cell["outputs"])
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        assert not draws or len(alt) > 40, f"a picture without alternative text:\n{source}"


# What sets pixels on a figure; whatever calls one of these does so too.
PIXELS = {"imshow", "matshow", "figimage", "pcolor", "pcolormesh", "BboxImage", "OffsetImage"}


def _tree(source: str) -> ast.Module:
    """Parse Python, and IPython's lines as if they did nothing."""
    return ast.parse(re.sub(r"^(\s*)[%!]\w.*", r"\1pass", source, flags=re.MULTILINE))


def _calls(tree: ast.AST) -> set[str]:
    """Return the last names of all that is called: imshow of axes.imshow(…)."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {getattr(each, "attr", getattr(each, "id", "")) for each in called}


def _pixel_setters(trees: list[ast.Module]) -> set[str]:
    """Return PIXELS and the names of functions that call them, at any depth."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    calls = {node.name: _calls(node) for node in nodes if isinstance(node, ast.FunctionDef)}
    found = set(PIXELS)
    while more := {name for name, called in calls.items() if called & found} - found:
        found |= more
    return found


def _mistagged(cells) -> list[str]:
    """Return what is wrong with the tag "chart" of code cells, which the dark page recolours."""
    plots = (ROOT / "lib" / "within_epsilon" / "plots").glob("*.py")
    library = [ast.parse(path.read_text(encoding="utf-8")) for path in plots]
    trees = [_tree(_source(cell)) for cell in cells]
    setters = _pixel_setters([*library, *trees])
    faults = []
    for cell, tree in zip(cells, trees, strict=True):
        shown = {kind for output in cell["outputs"] for kind in output.get("data", {})}
        chart, pixels = "chart" in _tags(cell), bool(_calls(tree) & setters)
        if chart and (pixels or "image/png" not in shown or "text/html" in shown):
            faults.append(f"tagged as a chart, but more or other than that:\n{_source(cell)}")
        if "image/png" in shown and not chart and not pixels:
            faults.append(f"a figure without pictures wants the tag chart:\n{_source(cell)}")
    return faults


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_charts_and_no_pictures_are_tagged_for_the_dark(path):
    assert _mistagged(_cells(path, "code")) == []


def test_a_wrong_or_forgotten_tag_of_a_chart_is_seen():
    def seen(source, *tags, kind="image/png", before=""):
        outputs = [{"data": {kind: ""}}]
        first = {"source": before, "metadata": {}, "outputs": []}
        last = {"source": source, "metadata": {"tags": list(tags)}, "outputs": outputs}
        return len(_mistagged([first, last]))

    own = "%matplotlib inline\ndef show(x):\n    axes.imshow(x)\ndef both(x):\n    show(x)"
    for draws in ("plots.pictures(x, y)", "plots.triptych(x, y)", "plots.matrix(x)", "a.imshow(x)"):
        assert (seen(draws), seen(draws, "chart")) == (0, 1)
    assert (seen("both(x)", before=own), seen("both(x)", "chart", before=own)) == (0, 1)
    for chart in ("plots.lines(x, y)", "plots.marks(x)", "plots.surfaces(x)", "figure"):
        assert (seen(chart), seen(chart, "chart")) == (1, 0)
    assert seen("explore()", "chart", kind="text/html") == 1


def _prose(text: str):
    """Yield paragraphs of running text: no display formulas, code, tables or options."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "", text, flags=re.DOTALL)
    yield from (part.splitlines() for part in re.split(r"\n\s*\n", text))


def _accidents(text: str):
    """Yield lines that Markdown takes for an item of a list, or a formula that it tears apart."""
    for lines in _prose(text):
        for before, line in itertools.pairwise(lines):
            inside = not re.match(r"\s*([-*+]|\d+\.) |\s*[:|#]|\(.*\)=$", before)
            items = [each for each in lines if re.match(r"\s*([-*+]|\d+\.) ", each)]
            if inside and re.match(r"([-*+]|1\.) ", line) and len(items) == 1:
                yield f"a list by accident: {before!r}, {line!r}"
        formulas = re.sub(r"`[^`]*`|\\\$", "", "\n".join(lines))
        if formulas.count("$") % 2:
            yield f"a formula without an end: {lines}"


def test_an_accident_of_markdown_is_seen():
    assert list(_accidents("numbers, each between 0 and\n1. Whoever fools the network"))
    assert list(_accidents("the formula $\\bigl(s\n+ \\frac{1}{2}\\bigr)$ here"))
    assert list(_accidents("costs $5 here"))
    assert not list(_accidents("you can\n\n1. say\n2. compute $x$"))
    assert not list(_accidents("they are\n- one\n- two"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_line_of_prose_is_a_list_by_accident(path):
    texts = [_source(cell) for cell in _cells(path, "markdown")]
    assert [accident for text in texts for accident in _accidents(text)] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_all_its_parts(path):
    text = "\n".join(_source(cell) for cell in _cells(path, "markdown"))
    order = [r"^# ", r"\{\.lead-line\}", "you can\n", ":class: predict", "^## What goes wrong"]
    order += ["^## Exercises", "^## Quiz", "^## Summary", "^## Read next"]
    for part in order:
        assert re.search(part, text, re.MULTILINE), f"no {part!r}"
    quiz = text.split("## Quiz")[1].split("## Summary")[0]
    assert quiz.count("{dropdown}") >= 3
    assert "{cite:t}" in text.split("## Read next")[1]
    solved = [cell for cell in _cells(path, "code") if _source(cell).startswith("# Solution")]
    assert len(solved) >= 2
    assert all("hide-cell" in _tags(cell) for cell in solved)


def test_every_chapter_fetches_the_library_in_the_same_words():
    opening = ROOT / "chapters" / "index.ipynb"
    first = {_source(_cells(path, "code")[0]) for path in [opening, *CHAPTERS]}
    assert len(first) == 1
    assert "find_spec" in first.pop()


def test_a_chapter_that_uses_the_photo_network_says_so():
    for path in NOTEBOOKS:
        code = "\n".join(_source(cell) for cell in _cells(path, "code"))
        needs = _read(path)["metadata"]["within_epsilon"].get("needs", [])
        assert ("compressed_SqueezeNet.net" in needs) == ("photo_classifier(" in code), path.name
        assert ("pig.jpg" in needs) == ('photo("pig")' in code), path.name


def test_notebooks_are_written_in_one_form_and_left_alone_without_their_data(tmp_path, monkeypatch):
    """`make notebooks` leaves a chapter byte for byte as it was when its data is out of reach."""
    monkeypatch.setenv("WITHIN_EPSILON_DATA", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    chapter = CHAPTERS[0]
    before = chapter.read_bytes()
    script = ROOT / ".ci" / "notebooks.py"
    done = subprocess.run(
        [sys.executable, str(script), str(chapter)], capture_output=True, text=True, check=True
    )
    assert "left alone, cannot get" in done.stdout
    assert chapter.read_bytes() == before
