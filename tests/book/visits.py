"""Opening the built book's pages, with every other site out of reach."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PAGES = sorted(
    f"chapters/{path.stem}.html"
    for path in (ROOT / "chapters").iterdir()
    if path.suffix in {".md", ".rst", ".ipynb"}
)
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}


class Visit:
    """A page opened under given conditions, and what it tried meanwhile."""

    def __init__(self, chromium, address: str, *, size="desktop", theme="light", **options):
        width, height = SIZES[size]
        options = {"viewport": {"width": width, "height": height}, "color_scheme": theme} | options
        self.context = chromium.new_context(**options)
        self.context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        self.outside: list[str] = []
        self.complaints: list[str] = []
        self.address = address
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", self._response)

    def _route(self, route):
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def _console(self, message):
        if message.type == "error":
            self.complaints.append(message.text)

    def _response(self, response):
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def open(self, name: str):
        self.page.goto(f"{self.address}/{name}", wait_until="load")
        self.page.wait_for_function(
            "!window.MathJax?.startup?.promise || window.MathJax.startup.promise.then(() => true)"
        )
        self.page.wait_for_function(
            "!document.querySelector('.predict, .quiz, .exercise, table.chapters')"
            " || 'reading' in document.documentElement.dataset"
        )
        return self.page

    def open_with_all_shown(self, name: str):
        """Open a page without predictions to answer first, its folds open."""
        page = self.open(name)
        page.evaluate(
            """() => {
              document.querySelector('.reading button')?.click();
              document.querySelectorAll('details').forEach(fold => { fold.open = true; });
            }"""
        )
        return page

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()
