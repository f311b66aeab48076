"""A bare page for one or more explorers, with every outside address cut off."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from within_epsilon.widgets.base import FRONTEND, Explorer

SITE = "https://explorers.test/"  # https, so that the browser lets pages hash
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
SHELL = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Explorers</title>
<link rel="icon" href="data:,">{head}</head>
<body style="margin:0"><main><h1>Explorers</h1>{body}</main></body></html>"""

# A widget's model as a kernel's front end has it, with a log of what was sent.
WIDGET = """
async ({ state, bundle }) => {
  const listeners = new Map();
  globalThis.sent = [];
  globalThis.model = {
    get: (key) => state[key],
    set(key, value) {
      if (state[key] === value) return;
      state[key] = value;
      for (const listener of listeners.get(`change:${key}`) ?? []) listener();
    },
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
    off: (event, listener) => listeners.set(event,
      (listeners.get(event) ?? []).filter((other) => other !== listener)),
    save_changes() { sent.push({ ...state }); },
  };
  const url = URL.createObjectURL(new Blob([bundle], { type: "text/javascript" }));
  const widget = await import(url);
  globalThis.close = await widget.default.render({ model, el: document.querySelector("#cell") });
}
"""


def faults(page: Any) -> list[str]:
    """Return what axe finds wrong with a page."""
    found = Axe().run(page).response["violations"]
    return [f"{fault['id']}: {node['html']}" for fault in found for node in fault["nodes"]]


class Problems(list[str]):
    """Console errors, exceptions and requests for outside addresses: there should be none."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the engine as the book has it."""
    folder = tmp_path_factory.mktemp("site")
    place = Path(__file__).parents[2] / ".ci" / "engine.py"
    spec = importlib.util.spec_from_file_location("place_engine", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.place(folder / "engine")
    return folder


@pytest.fixture
def open_page(chromium: Any, site: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page with the given explorers or HTML.

    `break_` may answer a request itself, given its path: with a status, with other bytes, or with
    a function of the route. `script` runs before the page's own. `expected` is a pattern for
    complaints that the test provokes.
    """
    contexts = []
    problems = Problems()

    def answer(route: Any) -> None:
        address = route.request.url
        path = address.removeprefix(SITE).split("?")[0]
        broken = break_page(path)
        file = (site if path.startswith("engine/") else FRONTEND) / path
        if not address.startswith(SITE):
            problems.append(f"asked for {address}")
            route.abort()
        elif callable(broken):
            broken(route)
        elif isinstance(broken, int):
            route.fulfill(status=broken)
        elif file.is_file():
            body = file.read_bytes() if broken is None else broken
            route.fulfill(body=body, content_type=TYPES.get(file.suffix, "text/plain"))
        else:
            route.fulfill(body=page_html, content_type="text/html")

    page_html = ""
    break_page: Callable[[str], Any] = lambda path: None  # noqa: E731
    fine = ""

    def complain(text: str) -> None:
        if not (fine and re.search(fine, text)):
            problems.append(text)

    def open_(
        *explorers: Explorer,
        theme: str = "light",
        width: int = 1280,
        head: str = "",
        break_: Callable[[str], Any] = lambda path: None,
        script: str = "",
        expected: str = "",
        **options: Any,
    ) -> Any:
        nonlocal page_html, break_page, fine
        break_page, fine = break_, expected
        body = "".join(explorer.to_html() for explorer in explorers) or '<div id="cell"></div>'
        entry = f'<script type="module" src="{SITE}entry.js"></script>' if explorers else ""
        page_html = SHELL.format(theme=theme, head=head + entry, body=body)
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.on("console", lambda m: complain(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        context.route(lambda url: not url.startswith(("data:", "blob:")), answer)
        page.goto(SITE)
        if options.get("java_script_enabled", True):
            for i in range(len(explorers)):
                element = page.locator("within-epsilon-explorer").nth(i)
                element.scroll_into_view_if_needed()
                element.locator(".card").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def assert_sound() -> Callable[..., None]:
    """Return a function that holds a page to what all explorers promise."""

    def check(page: Any, width: int) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("within-epsilon-explorer img:visible").count() == 0
        assert faults(page) == []
        for control in page.locator("input:not([type=radio]), button, .option").all():
            if control.is_visible():
                assert control.bounding_box()["height"] >= 44

    return check


@pytest.fixture
def open_widget(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that shows an explorer as a notebook with a kernel does."""

    def open_(explorer: Explorer, **options: Any) -> Any:
        page = open_page(**options)
        # Through JSON and back, as a comm message goes.
        state = json.loads(json.dumps(explorer.page_state()))
        page.evaluate(WIDGET, {"state": state, "bundle": explorer._esm})
        return page

    return open_
