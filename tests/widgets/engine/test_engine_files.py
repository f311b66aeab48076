"""What is committed beside the engine's sources, and what a page loads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision.models.squeezenet import Fire

from within_epsilon.models import Classifier, digits_classifier, photo_classifier, small_cnn
from within_epsilon.widgets.engine import ENGINE, SHIPPED, describe, reference


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


class Residual(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        return images + super().forward(images)


def test_what_the_engine_cannot_run_is_refused() -> None:
    patched, fire = nn.ReLU(), Fire(8, 2, 3, 3)
    patched.forward = torch.sigmoid
    fire.expand1x1_activation = nn.GELU()
    refused = {
        nn.Sigmoid(): (TypeError, "received Sigmoid at 1"),
        nn.Conv2d(8, 8, 3, groups=2): (ValueError, "cannot run 1 with its groups"),
        nn.Conv2d(8, 8, (3, 1)): (ValueError, "kernel_size"),
        nn.Conv2d(8, 8, 3, padding="same"): (ValueError, "padding=same"),
        nn.Conv2d(8, 8, 3, bias=False): (ValueError, "expected a weight and a bias in 1"),
        nn.Linear(8, 8, bias=False): (ValueError, "and a bias in 1, received weight;"),
        nn.utils.spectral_norm(nn.Linear(8, 8)): (ValueError, "received bias, weight_orig, "),
        parametrizations.spectral_norm(nn.Linear(8, 8)): (ValueError, "parametrizations"),
        Residual(nn.ReLU()): (TypeError, "received Residual at 1"),
        patched: (TypeError, "received ReLU at 1"),
        fire: (TypeError, "received GELU at 1.expand1x1_activation"),
        nn.MaxPool2d(3, padding=1): (ValueError, "padding"),
        nn.AdaptiveAvgPool2d(2): (TypeError, "AdaptiveAvgPool2d"),
    }
    for module, (error, sentence) in refused.items():
        model = Classifier(nn.Sequential(nn.Conv2d(1, 8, 3), module))
        with pytest.raises(error, match=sentence):
            describe(model, (1, 8, 8))
    with pytest.raises(RuntimeError):
        describe(Classifier(small_cnn()), (1, 9, 12))


def test_only_what_computes_the_same_is_handed_over() -> None:
    """A subclass by its forward; a layer in two places as often as it runs."""

    class Renamed(nn.Sequential):
        def __init__(self) -> None:
            relu, square = nn.ReLU(), nn.Linear(64, 64)
            super().__init__(nn.Flatten(), square, relu, square, relu, nn.Linear(64, 10))

    class Cooled(Classifier):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) / 100

    handed = reference(Classifier(Renamed()), (1, 8, 8))["description"]["layers"]
    assert [layer["kind"] for layer in handed] == ["linear", "relu", "linear", "relu", "linear"]
    assert [layer.get("name") for layer in handed] == ["1", None, "3", None, "5"]
    assert "does not know" in reference(Cooled(Renamed()), (1, 8, 8))["missing"]


def test_code_is_light(site: Path) -> None:
    """In bytes as a server sends them, gzipped file by file; without what training loads."""
    folder = site / "engine"
    paths = [*folder.glob("*.js"), folder / "kernels.wasm"]
    for name in ("learn.js", "train.js"):
        paths.remove(folder / name)
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in paths}
    assert sum(sizes.values()) <= 16_500, sizes


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
