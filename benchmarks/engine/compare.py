"""Time the engine and onnxruntime-web on the same page, one thread each.

python compare.py FOLDER

The folder is that of README.md, with onnxruntime-web and the exported networks.
"""

import functools
import http.server
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

from playwright.sync_api import sync_playwright

from within_epsilon.data import photo

HERE = Path(__file__).resolve().parent
CREATIONS, ROUNDS, WARM_UP = 15, 30, 6
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


def fill(site: Path, peer: Path) -> None:
    """Gather what the page loads."""
    placing = HERE.parents[1] / ".ci" / "engine.py"
    subprocess.run([sys.executable, placing, site / "engine"], check=True)
    (site / "peer").mkdir()
    for name in PROGRAM:
        shutil.copy(peer / "node_modules" / "onnxruntime-web" / "dist" / name, site / "peer")
    for name in ("forward.onnx", "gradient.onnx"):
        shutil.copy(peer / name, site / "peer")
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


def in_fresh_page(browser: Any, address: str, call: str) -> Any:
    """Call a function of compare.js in a page that has cached nothing."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    result = page.evaluate(f'async () => (await import("/compare.js")).{call}')
    context.close()
    return result


def row(what: str, pairs: list[tuple[float, float]]) -> None:
    """Print the medians of both and of their ratio."""
    ours, theirs = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(one / two for one, two in pairs)
    print(f"| {what} | {ours:.0f} | {theirs:.0f} | {ratio:.2f} |")


def main() -> None:
    """Print one row per measurement."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Path(folder)
        fill(site, Path(sys.argv[1]))
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with serve(site) as address:
            for who in ("forward", "gradient"):
                pairs = [
                    tuple(
                        in_fresh_page(browser, address, f'create("{n}")') for n in ("engine", who)
                    )
                    for _ in range(CREATIONS)
                ]
                row(f"create, {who}", pairs)
            found = in_fresh_page(browser, address, f"run({ROUNDS})")
        browser.close()
    for what, pairs in found["times"].items():
        row(what, pairs[WARM_UP:])
    print(f"Logits differ by {found['difference']:.1e} at most.")


if __name__ == "__main__":
    main()
