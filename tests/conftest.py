"""What the tests need from outside: Chromium, the built book, the photo network's weights.

Where one cannot be had its tests are skipped and say why. Under continuous integration
(`CI` set) all of them are within reach, so that a skip would hide a failure: there it fails.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "_build" / "html"
STRICT = bool(os.environ.get("CI"))
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

os.environ["TQDM_DISABLE"] = "1"
# Tests run side by side; threads of several torches on the same cores would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def out_of_reach(reason: str) -> None:
    """Skip, because something cannot be had here; fail where it has to be had."""
    if STRICT:
        pytest.fail(f"CI must not skip this: {reason}")
    pytest.skip(f"skipped, because {reason}")


@functools.cache
def photo_weights_missing() -> str:
    """Return why the photo network's files cannot be had, or an empty string."""
    from within_epsilon.data import available

    names = ("compressed_SqueezeNet.net", "pig.jpg")
    missing = [name for name in names if not available(name)]
    return f"{' and '.join(missing)} cannot be had (see data/README.md)" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests an hour, unless they ask for another time themselves."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip photo tests without weights, and downloads unless they are asked for."""
    if item.get_closest_marker("photo") and photo_weights_missing():
        out_of_reach(photo_weights_missing())
    if item.get_closest_marker("network") and not os.environ.get("WITHIN_EPSILON_NETWORK"):
        # Not even CI has this network: the skip is reported and stays a skip.
        pytest.skip("skipped, because it downloads: set WITHIN_EPSILON_NETWORK=1 to run it")


def find_chromium() -> str | None:
    """Return the browser named by $CHROMIUM, or the system's Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def chromium():
    """Return a headless browser (Playwright's `Browser`)."""
    path = find_chromium()
    if path is None:
        out_of_reach("no Chromium or Chrome is installed; name one with CHROMIUM=…")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free local port; yield its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="session")
def book() -> Iterator[str]:
    """Serve the built book; yield its address."""
    if not (BOOK / "index.html").exists():
        out_of_reach("the book is not built: run `make book`")
    yield from serve(BOOK)
