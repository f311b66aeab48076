"""Hand a classifier to the engine that runs networks inside the page (`frontend/engine`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from within_epsilon.data.files import registry, shipped
from within_epsilon.models import (
    Classifier,
    Layer,
    digits_classifier,
    photo_classifier,
    read_layers,
)
from within_epsilon.models.layers import computes_as
from within_epsilon.runtime import device_of
from within_epsilon.widgets.recording import InFloat32, in_float32

ENGINE = Path(__file__).with_name("frontend") / "engine"

# What the shipped networks are trained to see; their descriptions are committed.
SHIPPED = {"squeezenet1_0": (3, 224, 224), "digits_cnn": (1, 8, 8)}

_HEAVY = 200_000  # bytes of weights that a page may carry


def describe(model: Classifier, shape: Sequence[int]) -> dict[str, Any]:
    """Describe a classifier as the engine needs it: its layers as data.

    Parameters
    ----------
    model : Classifier
        Its body is made of the layers that the engine knows: `Sequential`, `Conv2d`,
        `Linear`, `ReLU`, `MaxPool2d`, global average pooling, `Flatten`, `Dropout`, and
        torchvision's SqueezeNets, as `small_cnn`, `mlp` and `photo_classifier` give them.
    shape : three int
        Channels, height and width of an image.

    Returns
    -------
    dict
        JSON types only: "shape", "mean" and "std" per channel, "layers", "categories".
        Layers with weights bear the names that `weights` gives them.

    Raises
    ------
    TypeError
        If a layer is none of these, or computes something else by a `forward` of its own.
    ValueError
        If a layer has settings that the engine does not know, or the shape does not fit.
    """
    mean, std = (_decimals(b.flatten().expand(shape[0])) for b in (model.mean, model.std))
    layers = _all_described(read_layers(model.body))
    in_float32(model)(torch.zeros(1, *shape, device=device_of(model)))  # or torch says why
    return {
        "shape": list(shape),
        "mean": mean,
        "std": std,
        "layers": layers,
        "categories": list(model.categories),
    }


def weights(model: Classifier) -> bytes:
    """Return the weights of a classifier's body in float32, as safetensors for the engine."""
    state = model.body.state_dict()
    # Copies: a layer that stands in two places has two names here, but one memory.
    copies = {name: w.float().cpu().contiguous().clone() for name, w in state.items()}
    content: bytes = save(copies)
    return content


def reference(model: nn.Module, shape: Sequence[int]) -> dict[str, Any]:
    """Tell a page where to get a network: by name, if the book ships it, or with its weights.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (1, k).
    shape : three int
        Channels, height and width of an image.

    Returns
    -------
    dict
        With "size", the bytes of its weights, and either "shipped", a name in the book's
        manifest; or "description" (see `describe`) and "weights", as base64; or "missing", the
        sentence that says why a page cannot run it: the engine does not know its layers, or its
        weights would make the page heavy. "heavy" if plain JavaScript is too slow for it.
    """
    if isinstance(model, InFloat32):
        model = model.model
    try:
        if not computes_as(model, Classifier):
            raise TypeError(f"expected a Classifier, received {type(model).__name__}")
        description = describe(model, shape)
    except (TypeError, ValueError):
        return {"missing": "This network has layers that the page's engine does not know."}
    name = _shipped_as(model, description)
    if name == "squeezenet1_0":
        return {
            "shipped": name,
            "size": registry()["compressed_SqueezeNet.net"].size,
            "heavy": True,
        }
    if name:
        return {"shipped": name, "size": shipped(f"{name}.safetensors").stat().st_size}
    content = weights(model)
    if len(content) > _HEAVY:
        return {"missing": "This network is too large to travel inside a page."}
    return {
        "description": description,
        "weights": base64.b64encode(content).decode(),
        "size": len(content),
    }


def _shipped_as(model: Classifier, description: dict[str, Any]) -> str | None:
    """Return the name of the shipped network that this is, down to its weights."""
    for name in SHIPPED:
        path = ENGINE / "networks" / f"{name}.json"
        if json.loads(path.read_text(encoding="utf-8")) == description:
            own = digits_classifier() if name == "digits_cnn" else photo_classifier(name)
            return name if weights(own) == weights(model) else None
    return None


def _decimals(numbers: Tensor) -> list[float]:
    """Return the shortest decimals that are these float32."""
    return [float(str(number)) for number in numbers.float().cpu().numpy()]


def _described(layer: Layer) -> dict[str, Any] | None:
    """Return a layer as the engine needs it, or None if it changes no number."""
    name, kind, module, branches = layer
    if kind == "concat":
        return {"kind": kind, "branches": [_all_described(branch) for branch in branches]}
    if isinstance(module, nn.Conv2d):
        return _conv(name, module)
    if isinstance(module, nn.Linear):
        _require_weight_and_bias(name, module)
        return {"kind": kind, "name": name, "out": module.out_features}
    if isinstance(module, nn.MaxPool2d):
        return _max_pool(name, module)
    if kind in ("relu", "mean"):
        return {"kind": kind}
    if kind == "flatten":
        return None
    raise TypeError(
        "model: expected a body of layers that the engine knows (Conv2d, Linear, ReLU, "
        "MaxPool2d, AdaptiveAvgPool2d(1), Flatten, Dropout, SqueezeNet, in Sequential), received "
        f"{type(module).__name__} at {name or 'its top'}"
    )


def _all_described(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    return [found for found in map(_described, layers) if found]


def _conv(name: str, module: nn.Conv2d) -> dict[str, Any]:
    _require_weight_and_bias(name, module)
    known = {
        "groups": module.groups == 1,
        "dilation": set(module.dilation) == {1},
        "padding_mode": module.padding_mode == "zeros",
    }
    _refuse(name, [setting for setting, fine in known.items() if not fine])
    return {
        "kind": "conv",
        "name": name,
        "out": module.out_channels,
        "kernel": _one(name, "kernel_size", module.kernel_size),
        "stride": _one(name, "stride", module.stride),
        "padding": _one(name, "padding", module.padding),
    }


def _max_pool(name: str, module: nn.MaxPool2d) -> dict[str, Any]:
    _refuse(name, [k for k, v in {"padding": 0, "dilation": 1}.items() if getattr(module, k) != v])
    return {
        "kind": "max_pool",
        "kernel": _one(name, "kernel_size", module.kernel_size),
        "stride": _one(name, "stride", module.stride),
        "ceil": module.ceil_mode,
    }


def _one(name: str, setting: str, value: int | str | Sequence[int]) -> int:
    """Return the number that a setting gives for rows and columns alike."""
    numbers = {value} if isinstance(value, int | str) else set(value)
    number = numbers.pop()
    if numbers or not isinstance(number, int):
        _refuse(name, [f"{setting}={value}"])
    return int(number)


def _refuse(name: str, settings: list[str]) -> None:
    if settings:
        raise ValueError(
            f"model: the engine cannot run {name} with its {' and '.join(settings)}; it knows "
            "square windows, equal strides, and zero padding in convolutions only"
        )


def _require_weight_and_bias(name: str, module: nn.Module) -> None:
    """Refuse layers without a bias, and those that compute their weight (spectral_norm does)."""
    found = set(module.state_dict())
    if found != {"weight", "bias"}:
        raise ValueError(
            f"model: expected a weight and a bias in {name}, received "
            f"{', '.join(sorted(found))}; the engine knows no other layers"
        )
