"""Time the engine beside onnxruntime-web in a page, and beside torch; one thread each.

    make benchmark-engine                     # both tables
    make benchmark-engine TABLES=training     # this one, which needs no npm

Prints the tables and writes them to results/engine.json and results/training.json.
"""

import argparse
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
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import training
from export import export
from playwright.sync_api import Browser, sync_playwright
from tables import Row, text, versions, write

from within_epsilon.data import photo

Versions = dict[str, str]
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
    """Gather what every page loads."""
    placing = HERE.parents[1] / ".ci" / "engine.py"
    subprocess.run([sys.executable, placing, site / "engine"], check=True)
    shutil.copy(HERE / "compare.js", site)
    (site / "index.html").write_text("<!doctype html><title>Comparison</title>")


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve the folder; yield its address."""
    handler = partial(Handler, directory=str(site))
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


def beside_onnxruntime(browser: Browser, address: str, site: Path) -> tuple[list[Row], Versions]:
    """Compare with onnxruntime-web; return the rows, and its version."""
    (site / "peer").mkdir()
    for name in PROGRAM:
        shutil.copy(PEER / "dist" / name, site / "peer")
    export(site / "peer")
    (site / "image.bin").write_bytes(photo("chelsea").numpy().tobytes())
    version = json.loads((PEER / "package.json").read_text())["version"]
    rows = [*create(browser, address), *call(browser, address)]
    return rows, {"onnxruntime-web": version}


def beside_torch(browser: Browser, address: str, _: Path) -> tuple[list[Row], Versions]:
    """Compare a training in the page with the same in torch."""
    return list(training.rows(partial(in_fresh_page, browser, address))), {}


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


TABLES = {"engine": beside_onnxruntime, "training": beside_torch}


def main() -> None:
    """Make the tables named on the command line, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="both by default")
    names = parser.parse_args().tables or TABLES
    torch.set_num_threads(1)
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name in names:
            site = Path(folder) / name
            fill(site)
            with serve(site) as address:
                rows, took_part = TABLES[name](browser, address, site)
            print(f"\n{name}\n{text(rows)}", flush=True)
            others = versions(["onnxscript"] if name == "engine" else [])
            write(name, rows, others | took_part | {"Chromium": browser.version}, HERE / "results")
        browser.close()


if __name__ == "__main__":
    main()
