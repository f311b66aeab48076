"""Node for the engine, and a bare site that has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import node_engine
import pytest

SITE = "https://engine.test/"  # https, so that the browser lets pages hash
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}


@pytest.fixture(scope="session")
def node() -> None:
    """Skip without Node; fail where it has to be there."""
    if node_engine.missing():
        leave = pytest.fail if os.environ.get("CI") else pytest.skip
        leave(f"skipped, because {node_engine.missing()}")


@pytest.fixture
def open_page(chromium: Any, site: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that opens an empty page of that site.

    `break_` may answer a request itself, given its path: with a status, or with other bytes.
    """
    contexts = []

    def open_(
        break_: Callable[[str], int | bytes | None] = lambda path: None,
        origin: str = SITE,
        script: str = "",
    ) -> Any:
        def answer(route: Any) -> None:
            path = route.request.url.removeprefix(origin)
            broken = break_(path)
            file = site / path
            if isinstance(broken, int):
                route.fulfill(status=broken)
            elif not path:
                route.fulfill(body="<!doctype html><title>Engine</title>", content_type="text/html")
            elif not file.is_file():
                route.fulfill(status=404)
            else:
                body = file.read_bytes() if broken is None else broken
                route.fulfill(body=body, content_type=TYPES.get(file.suffix, "text/plain"))

        context = chromium.new_context()
        contexts.append(context)
        context.route("**/*", answer)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.goto(origin)
        return page

    yield open_
    for context in contexts:
        context.close()
