"""What the tests of all labs need: broken surroundings, a kernel at the other end, a look."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from within_epsilon.widgets.lab import Lab

# What breaks a rung of the ladder, and what the lab says of the one below.
NO_WORKER = "delete globalThis.Worker"
THROWING_WORKER = "globalThis.Worker = class { constructor() { throw new Error('forbidden'); } }"


def is_weights(path: str) -> bool:
    return "/weights/" in path


def is_late(path: str) -> bool:
    """Tell what is loaded only after a touch."""
    return path.startswith("engine/") and not path.endswith(("calls.js", "ball.js"))


@dataclass(frozen=True)
class Breakage:
    """A broken surrounding: requests that fail, a script that runs first, what is said."""

    says: str
    answer: Callable[[str, Path], Any] = lambda path, site: None
    script: str = ""
    expected: str = ""  # complaints of the browser's console

    def options(self, site: Path) -> dict[str, Any]:
        """Return the arguments for `open_page`."""
        return {
            "break_": lambda path: self.answer(path, site),
            "script": self.script,
            "expected": self.expected,
        }


def damaged(path: str, site: Path) -> bytes | None:
    """Answer with the file, its last bit flipped."""
    content = (site / path).read_bytes() if is_weights(path) else None
    return content and content[:-1] + bytes([content[-1] ^ 1])


FAILED = "Failed to load resource"
# Rungs that run the network.
RUNNING = {
    "worker": Breakage(r"runs in this page\.$"),
    "no Worker": Breakage(r"on its main thread\.$", script=NO_WORKER),
    "forbidden Worker": Breakage(r"on its main thread\.$", script=THROWING_WORKER),
    "no WASM": Breakage(
        r"in plain JavaScript\.$",
        lambda path, _: 404 if path.endswith(".wasm") else None,
        expected=FAILED,
    ),
}
# Rungs that replay.
REPLAYING = {
    "client 404": Breakage(
        "program that runs the network could not be fetched",
        lambda path, _: 404 if path.endswith("client.js") else None,
        expected=FAILED,
    ),
    "worker 404": Breakage(
        "program that runs the network could not be fetched",
        lambda path, _: 404 if path.endswith("worker.js") else None,
        expected=FAILED,
    ),
    "manifest 404": Breakage(
        "the server answered 404",
        lambda path, _: 404 if path.endswith("manifest.json") else None,
        expected=FAILED,
    ),
    "weights 404": Breakage(
        "the server answered 404",
        lambda path, _: 404 if is_weights(path) else None,
        expected=FAILED,
    ),
    "weights damaged": Breakage("The weights are damaged: their SHA-256", damaged),
    "offline": Breakage(
        "could not be fetched",
        lambda path, _: (lambda route: route.abort()) if is_late(path) else None,
        expected=FAILED,
    ),
}


def epsilon_slider(page: Any) -> Any:
    return page.get_by_role("slider", name="Size of the perturbation")


def notice(page: Any) -> str:
    return str(page.locator(".notice").first.inner_text())


def wait_for_notice(page: Any, pattern: str, timeout: float = 20_000) -> None:
    """Wait until the first lab says that."""
    page.locator(".notice").first.filter(has_text=re.compile(pattern)).wait_for(timeout=timeout)


def sentence(page: Any) -> str:
    """Return the verdict without its mark."""
    mark = page.locator(".verdict .mark").first
    text = str(page.locator(".verdict").first.inner_text())
    return text.removeprefix(mark.inner_text()) if mark.count() else text


def wait_for_sentence(page: Any, expected: str | re.Pattern[str]) -> None:
    page.locator(".verdict").first.filter(has_text=expected).wait_for(timeout=20_000)


# The widget's model of a notebook with a kernel: messages go to Python, which answers when it can.
KERNEL = """
async ({ state, bundle }) => {
  const listeners = new Map();
  const call = (event, ...items) => {
    for (const listener of listeners.get(event) ?? []) listener(...items);
  };
  const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const decode = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  globalThis.model = {
    get: (key) => state[key],
    set(key, value) { state[key] = value; call(`change:${key}`); },
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
    off: (event, listener) => listeners.set(event,
      (listeners.get(event) ?? []).filter((other) => other !== listener)),
    save_changes() { toKernel({ state }); },
    send(content, callbacks, buffers) { toKernel({ content, buffers: buffers.map(encode) }); },
  };
  (async () => {
    for (;;) {
      for (const { content, buffers } of await fromKernel()) {
        call("msg:custom", content, buffers.map(decode));
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  const url = URL.createObjectURL(new Blob([bundle], { type: "text/javascript" }));
  const widget = await import(url);
  URL.revokeObjectURL(url);
  globalThis.close = await widget.default.render({ model, el: document.querySelector("#cell") });
}
"""


def connect(page: Any, lab: Lab) -> list[dict[str, Any]]:
    """Show a lab on an empty page as a notebook does whose kernel is this process.

    Returns the states that the front end has saved.
    """
    outbox: list[dict[str, Any]] = []
    saved: list[dict[str, Any]] = []

    def send(content: dict[str, Any], buffers: list[bytes]) -> None:
        texts = [base64.b64encode(buffer).decode() for buffer in buffers]
        outbox.append({"content": json.loads(json.dumps(content)), "buffers": texts})

    def to_kernel(message: dict[str, Any]) -> None:
        if "state" in message:
            saved.append(message["state"])
            return
        buffers = [memoryview(base64.b64decode(text)) for text in message["buffers"]]
        lab._handle_custom_msg(message["content"], buffers)

    def from_kernel() -> list[dict[str, Any]]:
        waiting, outbox[:] = list(outbox), []
        return waiting

    lab.send = send  # type: ignore[method-assign]
    page.expose_function("toKernel", to_kernel)
    page.expose_function("fromKernel", from_kernel)
    state = {key: value for key, value in lab.get_state().items() if not key.startswith("_")}
    page.evaluate(KERNEL, {"state": json.loads(json.dumps(state)), "bundle": lab._esm})
    return saved


def draw(page: Any, points: list[tuple[float, float]], steps: int = 6) -> None:
    """Draw one stroke on the pad with the mouse; places from 0 to 1."""
    pad = page.locator(".pad").first
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=steps)
    page.mouse.up()
