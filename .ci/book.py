"""Gather what the pages load beside their text, then build the book: warnings are errors."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import engine  # .ci/engine.py
import listings  # .ci/listings.py
import preloads  # .ci/preloads.py
import words  # .ci/words.py

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "_build" / "static"
FRONTEND = ROOT / "lib" / "within_epsilon" / "widgets" / "frontend"
# Of MathJax's 24 MB the pages use one combined component and its fonts.
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")
# What the theme puts on every page and no page uses: icons a second time, as 1.5 MB of script
# (its style sheet draws them already), and a client for live kernels on another site.
UNUSED = (
    r'<script src="[^"]*fontawesome/[^"]*/all\.min\.js[^"]*"></script>',
    r'<script[^>]*src="[^"]*sphinx-thebe\.js[^"]*"></script>',
    r'<link[^>]*href="[^"]*sphinx-thebe\.css[^"]*"[^>]*/>',
    r"<script>const THEBE_JS_URL[^<]*</script>",
)
# What the notebooks' tags call a fold, and what it holds.
FOLD = re.compile(
    r"""<summary aria-label="Toggle hidden content">
<p class="collapsed admonition-title">(.*)</p>
<p class="expanded admonition-title">(.*)</p>
</summary>"""
)
ASIDES = re.compile(rb"\s*/\*.*?\*/|^ +", re.DOTALL | re.MULTILINE)  # of a style sheet
# A page's title, and the first paragraph under its lead line.
LEAD = re.compile(
    r"</head>(?=.*?<p class=\"lead-line\">.*?</p>\s*<p>(?P<text>(?:(?!</p>|\\\().)*)</p>)",
    re.DOTALL,
)
MISSED = re.compile(r'"missing":"(?:[^"\\]|\\.)*",(?="shipped")')  # said by an earlier build
FOLDS = {"Show code cell content": "Solution", "Show code cell source": "Code of this figure"}
# A fold above a table, before which its cell shows no picture.
ABOVE_TABLE = re.compile(
    r"Code of this figure(?=</p></summary>(?:(?!<div class=\"cell |<img|<within-eps).)*?<table)",
    re.DOTALL,
)
# The title of a page, in Markdown or in a notebook's JSON.
SOURCES = (".ipynb", ".md")
TITLE = re.compile(r'^(?:\s*")?# ([^"\\\n]+)', re.MULTILINE)
# A browser may break a line on either side of a formula, even before a full stop.
PUNCTUATED = re.compile(
    r"""([(\[“‘]*)(<span class="math [^"]*">\\\([^<]*</span>)([)\]”’.,;:!?]+|-th)?"""
)


def gather() -> dict[str, str]:
    """Put MathJax, the explorers and their engine where the build copies static files from.

    Returns what is missing, by network.
    """
    shutil.rmtree(STATIC, ignore_errors=True)
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        sys.exit("sphinx-mathjax-offline is not installed: build with `make book`.")
    mathjax = Path(spec.origin).parent / "static" / "mathjax"
    for part in MATHJAX:
        source, target = mathjax / part, STATIC / "vendor" / "mathjax" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    licence = ROOT / "data" / "licences" / "Apache-2.0.txt"
    shutil.copyfile(licence, STATIC / "vendor" / "mathjax" / "LICENSE")
    return place_explorers(STATIC / "explorers")


def place_explorers(target: Path) -> dict[str, str]:
    """Put the explorers and their engine into a folder named by a hash of all that is in it.

    So no page runs a module of one version with one of another that a browser has kept.
    """
    folder = target / "new"
    folder.mkdir(parents=True)
    for module in FRONTEND.glob("*.js"):
        (folder / module.name).write_bytes(engine.slim(module))
    missing = engine.place(folder / "engine")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    name = digest.hexdigest()[:12]
    folder.rename(target / name)
    (target / "entry.js").write_text(f'import "./{name}/entry.js";\n', encoding="utf-8")
    return missing


def renew() -> None:
    """Put the static files in place: Sphinx copies them only in a build that writes a page."""
    target = ROOT / "_build" / "html" / "_static"
    shutil.rmtree(target / "explorers", ignore_errors=True)  # other builds' hashes
    for source in (ROOT / "chapters" / "_static", STATIC):
        shutil.copytree(source, target, dirs_exist_ok=True)
    style = target / "book.css"
    style.write_bytes(ASIDES.sub(b"", style.read_bytes()))


def finish(missing: dict[str, str]) -> None:
    """Drop from the built pages what none of them uses, and add what the notebooks cannot know.

    That is: what folds hold, what a page is about, formulas tied to their full stops, words that
    belong together, how far a listing's lines hang, the modules of the first explorer, and in each
    lab whose weights are missing, the sentence that says so.
    """
    unused = re.compile("|".join(UNUSED))
    for page in (ROOT / "_build" / "html").rglob("*.html"):
        built = page.read_text(encoding="utf-8")
        text = FOLD.sub(name_fold, unused.sub("", built))
        text = ABOVE_TABLE.sub("Code of this table", text)
        # A search shows what a page says without its tags: a term would run into its text.
        text = text.replace("</dt><dd>", "</dt>\n<dd>")
        text = listings.hang(MISSED.sub("", text))
        text = preloads.name(text, ROOT / "_build" / "html" / "_static" / "explorers")
        for network, sentence in missing.items():
            shipped = f'"shipped":"{network}"'
            text = text.replace(shipped, f'"missing":{json.dumps(sentence)},{shipped}')
        if '<meta name="description"' not in text:
            text = LEAD.sub(describe, text, count=1)
        if 'class="tied ' not in text:  # else an earlier build has left the page behind
            text = words.tie(PUNCTUATED.sub(keep_together, text))
        if text != built:
            page.write_text(text, encoding="utf-8")


def name_fold(found: re.Match[str]) -> str:
    """Call a fold by what it holds, open or not; a cell may have named it already."""
    name = FOLDS.get(found[1], found[1])
    return f'<summary><p class="admonition-title">{name}</p></summary>'


def describe(found: re.Match[str]) -> str:
    """Say in a page's head what its first paragraph says."""
    words = " ".join(re.sub(r"<[^>]*>", "", found["text"]).split())
    return f'<meta name="description" content="{words.replace(chr(34), "&quot;")}">{found[0]}'


def keep_together(found: re.Match[str]) -> str:
    """Tie a formula to the marks that touch it, if any do."""
    return f'<span class="tied formula">{found[0]}</span>' if found[1] or found[3] else found[0]


def forget_old_menus() -> None:
    """Have every page written anew if what stands in the menus or in citations has changed.

    A build renews only the pages whose source has changed, but each carries all titles, and says
    authors and years as the bibliography has them.
    """
    pages = sorted(path for path in (ROOT / "chapters").iterdir() if path.suffix in SOURCES)
    toc = (ROOT / "_toc.yml").read_text("utf-8")
    titles = [TITLE.search(path.read_text("utf-8")) for path in pages]
    works = (ROOT / "chapters" / "references.bib").read_text("utf-8")
    menu = "\n".join([*(title[1] if title else "" for title in titles), toc, works])
    known = ROOT / "_build" / "menu.txt"
    if not known.exists() or known.read_text("utf-8") != menu:
        for built in ("html", ".doctrees"):
            shutil.rmtree(ROOT / "_build" / built, ignore_errors=True)
    known.parent.mkdir(exist_ok=True)
    known.write_text(menu, "utf-8")


def main() -> None:
    """Build `_build/html` and say where it is."""
    forget_old_menus()
    missing = gather()
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [str(jupyter_book), "build", "-W", "-n", "--keep-going", "."]
    if subprocess.run([*command, *sys.argv[1:]], cwd=ROOT).returncode:
        sys.exit("The book did not build cleanly: see the warnings above.")
    renew()
    finish(missing)
    print(f"\nThe book: {ROOT / '_build' / 'html' / 'index.html'}")
    print("Interactives need a server (`make serve`), the text does not.")
    for sentence in missing.values():
        print(f"{sentence} Its pages replay what was recorded. See data/README.md.")


if __name__ == "__main__":
    main()
