"""Time the engine and onnxruntime-web on the same page, one thread each.

    make benchmark-engine

Prints a table and writes it to results/engine.json.
"""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from export import export
from playwright.sync_api import Browser, sync_playwright
from tables import Row, text, versions, write

from within_epsilon.data import photo

HERE = Path(__file__).resolve().parent
PEER = HERE / "node_modules" / "onnxruntime-web"
CREATIONS, ROUNDS, WARM_UP = 100, 200, 6
# What is compared, and the most that the engine may take of the peer's time.
CREATION = {
    "forward": ("creation, session for logits", 0.3),
    "gradient": ("creation, session for both", 0.3),
}
CALLS = {"forward": ("logits", 1.1), "gradient": ("logits and gradient", 0.9)}
PROGRAM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves modules as modules, over connections that stay open, without a word."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    extensions_map = {".js": "text/javascript", ".mjs": "text/javascript"} | {
        ".wasm": "application/wasm",
        ".html": "text/html",
        "": "application/octet-stream",
    }

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def fill(site: Path) -> None:
    """Gather what the page loads."""
    placing = HERE.parents[1] / ".ci" / "engine.py"
    subprocess.run([sys.executable, placing, site / "engine"], check=True)
    (site / "peer").mkdir()
    for name in PROGRAM:
        shutil.copy(PEER / "dist" / name, site / "peer")
    export(site / "peer")
    shutil.copy(HERE / "compare.js", site)
    (site / "index.html").write_text("<!doctype html><title>Comparison</title>")
    (site / "image.bin").write_bytes(photo("chelsea").numpy().tobytes())


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve the folder; yield its address."""
    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def in_fresh_page(browser: Browser, address: str, call: str) -> Any:
    """Call a function of compare.js in a page that has cached nothing."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    result = page.evaluate(f'async () => (await import("/compare.js")).{call}')
    context.close()
    return result


def create(browser: Browser, address: str) -> Iterator[Row]:
    """Compare how long it takes until a network can be called."""
    opened = ["engine", *CREATION]
    times: dict[str, list[float]] = {who: [] for who in opened}
    for number in range(CREATIONS + 1):
        first = number % len(opened)
        for who in opened[first:] + opened[:first]:
            milliseconds = in_fresh_page(browser, address, f'create("{who}")')
            if number:  # the first round warms up the server
                times[who].append(milliseconds)
    for who, (what, limit) in CREATION.items():
        yield row(what, limit, list(zip(times["engine"], times[who], strict=True)))


def call(browser: Browser, address: str) -> Iterator[Row]:
    """Compare how long a network's answers take, and the answers."""
    found = in_fresh_page(browser, address, f"run({ROUNDS + WARM_UP})")
    for kind, (what, limit) in CALLS.items():
        difference = found[kind]["difference"]
        yield row(what, limit, found[kind]["times"][WARM_UP:]) | {"difference": difference}


def row(what: str, limit: float, pairs: list[tuple[float, float]]) -> Row:
    """Return medians of milliseconds, and of the ratios of the rounds."""
    ours, theirs = zip(*pairs, strict=True)
    ratios = [one / two for one, two in pairs]
    return {
        "what": what,
        "engine": median(ours),
        "peer": median(theirs),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "rounds": len(ratios),
        "limit": limit,
        "difference": None,
    }


def main() -> None:
    """Make the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Path(folder)
        fill(site)
        path = (
            os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        )
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with serve(site) as address:
            rows = [*create(browser, address), *call(browser, address)]
        took_part = versions(["onnxscript"]) | {
            "onnxruntime-web": json.loads((PEER / "package.json").read_text())["version"],
            "Chromium": browser.version,
        }
        browser.close()
    print(text(rows))
    write("engine", rows, took_part, HERE / "results")


if __name__ == "__main__":
    main()
