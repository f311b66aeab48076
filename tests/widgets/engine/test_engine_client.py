"""What a page can ask of the engine: in a worker, without one, with everything that can break."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import node_engine
import pytest
import torch

from within_epsilon.data import digits, fetch, photo
from within_epsilon.models import digits_classifier
from within_epsilon.widgets.engine import ENGINE

pytestmark = pytest.mark.browser

IMPORT = """const { openEngine, openShipped } = await import("/engine/client.js");
  const { latestWins } = await import("/engine/calls.js");"""
# Runs a body with the first test digit at hand; an error becomes its sentence.
WRAP = """async ({{ pixels, label }}) => {{
  {imports}
  const image = Float32Array.from(pixels);
  const list = (point) => JSON.parse(JSON.stringify(point, (_, item) =>
    (ArrayBuffer.isView(item) ? [...item] : item)));
  try {{ {body} }} catch (error) {{ return {{ name: error.name, message: error.message }}; }}
}}"""


def run(page: Any, body: str) -> Any:
    test = digits().test
    state = {"pixels": test.images[0].flatten().tolist(), "label": int(test.labels[0])}
    return page.evaluate(WRAP.format(imports=IMPORT, body=body), state)


@pytest.mark.parametrize(
    ("options", "script", "kind", "kernels"),
    [
        ("{}", "", "worker", "wasm"),
        ("{ worker: false }", "", "main thread", "wasm"),
        ("{}", "delete globalThis.Worker", "main thread", "wasm"),
        ("{}", "globalThis.Worker = class { constructor() { throw 1; } }", "main thread", "wasm"),
        ("{ worker: false }", "delete globalThis.WebAssembly", "main thread", "javascript"),
        ("{ wasm: false }", "", "worker", "javascript"),
    ],
)
def test_answers_alike_everywhere(
    open_page: Callable[..., Any], options: str, script: str, kind: str, kernels: str
) -> None:
    page = open_page(script=script)
    found = run(
        page,
        f"""const engine = await openShipped("digits_cnn", {options});
        const {{ kind, kernels, verified, classes, shape, categories }} = engine;
        const steps = [];
        const point = await engine.pgd(image, label, {{ epsilon: 0.1, steps: 3, randomStart: false,
          progress: ({{ step }}) => steps.push(step) }});
        const before = await engine.predict(image, {{ label }});
        return list({{ kind, kernels, verified, classes, shape, categories, steps, point,
          before }});""",
    )
    assert (found["kind"], found["kernels"]) == (kind, kernels), found
    assert found["verified"] is True
    assert (found["classes"], found["shape"]) == (10, [1, 8, 8])
    assert found["categories"] == list("0123456789")
    assert found["steps"] == [0, 1, 2]
    assert found["point"]["step"] == 3
    assert found["point"]["loss"] > found["before"]["loss"]
    assert sum(found["before"]["probabilities"]) == pytest.approx(1)
    expected = digits_classifier()(digits().test.images[:1])[0]
    torch.testing.assert_close(torch.tensor(found["before"]["logits"]), expected, atol=1e-4, rtol=0)


def test_says_when_hashes_cannot_be_checked(open_page: Callable[..., Any]) -> None:
    page = open_page(origin="http://engine.test/")
    found = run(page, 'return { verified: (await openShipped("digits_cnn")).verified };')
    assert found == {"verified": False}


def is_weights(path: str) -> bool:
    return path.endswith(".safetensors")


@pytest.mark.parametrize("worker", ["true", "false"])
def test_refuses_with_a_sentence(open_page: Callable[..., Any], site: Any, worker: str) -> None:
    (weights,) = site.glob("engine/weights/*.safetensors")
    content = weights.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    breakages = {
        "the server answered 404": lambda path: 404 if is_weights(path) else None,
        "their SHA-256 is": lambda path: flipped if is_weights(path) else None,
        f"{len(content)} bytes expected": lambda path: content[:-1] if is_weights(path) else None,
        "the server answered 500": lambda path: 500 if "manifest" in path else None,
    }
    for sentence, break_ in breakages.items():
        page = open_page(break_)
        found = run(page, f'await openShipped("digits_cnn", {{ worker: {worker} }});')
        assert found is not None
        assert found["name"] == "Error"
        assert sentence in found["message"]
        assert found["message"].endswith(".")


def test_falls_back_where_files_are_missing(open_page: Callable[..., Any]) -> None:
    body = (
        """const { kind, kernels } = await openShipped("digits_cnn"); return { kind, kernels };"""
    )
    page = open_page(lambda path: 404 if path.endswith(".wasm") else None)
    assert run(page, body) == {"kind": "worker", "kernels": "javascript"}
    page = open_page(lambda path: b"\0asm, but damaged" if path.endswith(".wasm") else None)
    assert run(page, body) == {"kind": "worker", "kernels": "javascript"}


def test_without_a_connection(open_page: Callable[..., Any]) -> None:
    page = open_page()
    run(page, "")
    page.context.set_offline(True)
    page.context.unroute("**/*")
    found = run(page, 'await openShipped("digits_cnn");')
    assert "there is no connection" in found["message"]


@pytest.mark.parametrize("worker", ["true", "false"])
def test_cancels_at_once_and_lives_on(open_page: Callable[..., Any], worker: str) -> None:
    found = run(
        open_page(),
        f"""const engine = await openShipped("digits_cnn", {{ worker: {worker} }});
        const stop = new AbortController();
        const seen = [];
        const attack = engine.pgd(image, label, {{ epsilon: 0.1, steps: 1e6, signal: stop.signal,
          progress({{ step }}) {{ seen.push(step); if (step === 5) stop.abort(); }} }});
        const name = await attack.catch((error) => error.name);
        const late = seen.length;
        const before = await engine.pgd(image, label, {{ epsilon: 0.1, signal: stop.signal }})
          .catch((error) => error.name);
        const said = (error) => error.message;
        const wrong = await engine.pgd(image, 10, {{ epsilon: 0.1 }}).catch(said);
        const small = await engine.predict(image.subarray(1)).catch(said);
        const {{ step }} = await engine.pgd(image, label, {{ epsilon: 0.1 }});
        const pending = engine.pgd(image, label, {{ epsilon: 0.1, steps: 1e6 }}).catch(said);
        engine.close();
        return {{ name, before, step, wrong, small, late: late === seen.length && late,
          closed: await pending, after: await engine.predict(image).catch(said) }};""",
    )
    assert found == {
        "name": "AbortError",
        "before": "AbortError",
        "late": 6,
        "step": 40,
        "wrong": "label: a class from 0 to 9 expected, 10 received.",
        "small": "image: 64 numbers expected, 63 received.",
        "closed": "The engine was closed.",
        "after": "The engine was closed.",
    }


def test_latest_wins(open_page: Callable[..., Any]) -> None:
    found = run(
        open_page(),
        """const done = [];
        let release;
        const look = latestWins(async (n) => {
          await new Promise((resolve) => { release = resolve; });
          if (n === 4) throw new Error("four");
          done.push(n);
          return n;
        });
        const calls = [1, 2, 3].map((n) => look(n));
        release();
        await calls[0];
        await new Promise((resolve) => setTimeout(resolve));
        release();
        const results = await Promise.all(calls);
        const fails = look(4).catch((error) => error.message);
        await new Promise((resolve) => setTimeout(resolve));
        const last = look(5);
        release();
        const failure = await fails;
        await new Promise((resolve) => setTimeout(resolve));
        release();
        return { done, results: results.map((r) => r ?? null), failure, last: await last };""",
    )
    assert found == {"done": [1, 3, 5], "results": [1, None, 3], "failure": "four", "last": 5}


@pytest.mark.photo
@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("worker", ["true", "false"])
def test_a_photo_in_the_page(open_page: Callable[..., Any], worker: str) -> None:
    """The numbers are Node's to the bit, and the page lives on while they are computed."""
    image = photo("chelsea")
    page = open_page()
    found = page.evaluate(
        f"""async (text) => {{
          {IMPORT}
          const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
          const image = new Float32Array(bytes.buffer);
          const heard = [];
          const engine = await openShipped("squeezenet1_0", {{ worker: {worker},
            progress: ({{ loaded, total }}) => heard.push([loaded, total]) }});
          await engine.gradient(image, 285);
          let longest = 0;
          let last = performance.now();
          const timer = setInterval(() => {{
            longest = Math.max(longest, performance.now() - last);
            last = performance.now();
          }}, 1);
          const {{ logits, gradient }} = await engine.gradient(image, 285);
          clearInterval(timer);
          const text64 = (array) => btoa(Array.from(new Uint8Array(array.buffer),
            (byte) => String.fromCharCode(byte)).join(""));
          return {{ logits: text64(logits), gradient: text64(gradient), longest,
            heard: heard.at(-1) }};
        }}""",
        node_engine.encode(image),
    )
    description = json.loads((ENGINE / "networks" / "squeezenet1_0.json").read_text())
    content = fetch("compressed_SqueezeNet.net").read_bytes()
    network = node_engine.Network(description, content, "deep-compression")
    (expected,) = node_engine.gradients(network, image, torch.tensor([285]))
    assert torch.equal(node_engine.decode(found["logits"]), expected.logits)
    assert torch.equal(
        node_engine.decode(found["gradient"]).view(image[0].shape), expected.gradient
    )
    assert found["heard"] == [len(content), len(content)]
    assert found["longest"] < 300  # alone on a machine it is about 30
