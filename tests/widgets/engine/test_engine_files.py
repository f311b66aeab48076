"""What is committed beside the engine's sources, and what a page loads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from torch import nn

from within_epsilon.models import Classifier, digits_classifier, photo_classifier, small_cnn
from within_epsilon.widgets.engine import ENGINE, SHIPPED, describe


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("digits_cnn", digits_classifier),
        pytest.param("squeezenet1_0", photo_classifier, marks=pytest.mark.photo),
    ],
)
def test_committed_descriptions_are_the_models(name: str, load: type) -> None:
    committed = json.loads((ENGINE / "networks" / f"{name}.json").read_text(encoding="utf-8"))
    assert committed == describe(load(), SHIPPED[name])


def test_what_the_engine_cannot_run_is_refused() -> None:
    refused = {
        nn.Sigmoid(): (TypeError, "received Sigmoid at 1"),
        nn.Conv2d(8, 8, 3, groups=2): (ValueError, "cannot run 1 with its groups"),
        nn.Conv2d(8, 8, (3, 1)): (ValueError, "kernel_size"),
        nn.Conv2d(8, 8, 3, padding="same"): (ValueError, "padding=same"),
        nn.Conv2d(8, 8, 3, bias=False): (ValueError, "bias"),
        nn.MaxPool2d(3, padding=1): (ValueError, "padding"),
        nn.AdaptiveAvgPool2d(2): (TypeError, "AdaptiveAvgPool2d"),
    }
    for module, (error, sentence) in refused.items():
        model = Classifier(nn.Sequential(nn.Conv2d(1, 8, 3), module))
        with pytest.raises(error, match=sentence):
            describe(model, (1, 8, 8))
    with pytest.raises(RuntimeError):
        describe(Classifier(small_cnn()), (1, 9, 12))


def test_code_is_light(site: Path) -> None:
    """In bytes as a server sends them, gzipped file by file."""
    folder = site / "engine"
    paths = [*folder.glob("*.js"), folder / "kernels.wasm"]
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in paths}
    assert sum(sizes.values()) <= 15_500, sizes


def test_manifest_names_what_is_there(site: Path) -> None:
    folder = site / "engine"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == set(SHIPPED)
    for entry in manifest.values():
        assert (folder / entry["network"]).is_file()
        if "missing" not in entry:
            weights = folder / entry["weights"]["url"]
            assert weights.stat().st_size == entry["weights"]["size"]
            assert entry["weights"]["sha256"][:12] in weights.name
            assert (folder / entry.get("licence", entry["network"])).is_file()
