"""The labs in Firefox, where Firefox, Node and its puppeteer-core are at hand.

npm install --prefix FOLDER puppeteer-core
FIREFOX=/path/to/firefox NODE_PATH=FOLDER/node_modules pytest tests/widgets/test_firefox.py
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from within_epsilon.data import photo
from within_epsilon.models import digits_classifier, photo_classifier
from within_epsilon.widgets import DigitLab, Explorer, PhotoLab
from within_epsilon.widgets.base import FRONTEND

VISIT = Path(__file__).with_name("firefox.mjs")
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Labs</title>
<script type="module" src="entry.js"></script></head><body>{}</body></html>"""


@pytest.fixture(scope="session")
def firefox() -> str:
    """Return Firefox's path, or skip: nothing else of the project depends on it."""
    path = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None or shutil.which("node") is None:
        pytest.skip("skipped, because Firefox or Node is not installed")
    probe = ["node", "-e", "require.resolve('puppeteer-core')"]
    if subprocess.run(probe, capture_output=True, cwd=VISIT.parent).returncode:
        pytest.skip("skipped, because Node has no puppeteer-core; see the top of this file")
    return path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served(site: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder with the front end and the engine, and its address."""
    folder = tmp_path / "page"
    shutil.copytree(FRONTEND, folder, ignore=shutil.ignore_patterns("engine", "__pycache__"))
    shutil.copytree(site / "engine", folder / "engine")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def photo_lab() -> PhotoLab:
    return PhotoLab(photo_classifier(), photo("chelsea"))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: DigitLab(digits_classifier(), epsilons=(0.0, 0.1)), id="digits"),
        pytest.param(photo_lab, id="photo", marks=pytest.mark.photo),
    ],
)
def test_labs_run_in_firefox(firefox: str, served: tuple[Path, str], make: object) -> None:
    folder, url = served
    lab: Explorer = make()
    (folder / "index.html").write_text(PAGE.format(lab.to_html()), encoding="utf-8")
    job = json.dumps({"url": url, "firefox": firefox})
    done = subprocess.run(
        ["node", VISIT], input=job, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["complaints"] == []
    (found,) = answer["labs"]
    assert found["notice"] == "The network runs in this page."
    assert "→" in found["verdict"]
