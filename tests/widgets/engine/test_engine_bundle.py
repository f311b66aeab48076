"""The engine inside a widget, where all there is is one module's text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from within_epsilon.data import digits
from within_epsilon.models import Classifier, mlp
from within_epsilon.runtime import seed_everything
from within_epsilon.widgets import base
from within_epsilon.widgets.engine import ENGINE, describe, weights

LAB = """import { openEngine } from "./engine/client.js";

export async function render({ model }) {
  const bytes = Uint8Array.from(model.weights);
  const engine = await openEngine({ description: model.description, worker: model.worker,
    weights: { bytes, format: "safetensors" } });
  const { kind, kernels } = engine;
  const { logits } = await engine.predict(Float32Array.from(model.pixels));
  return { kind, kernels, logits: [...logits] };
}
"""

# As anywidget does it: the module's address is gone once it is imported.
SHOW = """async ({ source, model }) => {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = await import(url);
  URL.revokeObjectURL(url);
  return widget.default.render({ model });
}"""


@pytest.mark.browser
@pytest.mark.parametrize(("worker", "kind"), [(True, "worker"), (False, "main thread")])
def test_runs_a_readers_own_model_in_a_widget(
    open_page: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worker: bool,
    kind: str,
) -> None:
    seed_everything(0)
    model = Classifier(mlp(64, 20, 10))
    (tmp_path / "lab.js").write_text(LAB)
    (tmp_path / "engine").symlink_to(ENGINE)
    monkeypatch.setattr(base, "FRONTEND", tmp_path)
    image = digits().test.images[:1]
    state = {
        "description": describe(model, (1, 8, 8)),
        "weights": list(weights(model)),
        "pixels": image.flatten().tolist(),
        "worker": worker,
    }
    page = open_page(lambda path: 404 if path else None)
    found = page.evaluate(SHOW, {"source": base.bundle("lab"), "model": state})
    assert (found["kind"], found["kernels"]) == (kind, "wasm")
    torch.testing.assert_close(torch.tensor(found["logits"]), model(image)[0], atol=1e-5, rtol=0)
