"""Small networks that pages prove things about: two that ship, and how any travels."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.models import Classifier, mlp, read_layers
from within_epsilon.models.normalize import Normalize

NETWORKS = Path(__file__).with_name("proof_networks.json")


def digits_mlp() -> Classifier:
    """Load the network of the sandwich explorer: 64-20-20-10, trained against PGD.

    Returns
    -------
    Classifier
        `mlp(64, 20, 20, 10)`, trained on ``digits().train`` within linf of radius 0.1 by
        `.ci/train_proof_networks.py`, in evaluation mode.
    """
    return Classifier(_load("digits"), categories="0123456789").eval()


def disc_network() -> nn.Sequential:
    """Load the network of the branching explorer: 2-6-2, class 1 inside a disc around 0.

    Returns
    -------
    nn.Sequential
        `mlp(2, 6, 2)` with weights of two decimals, in evaluation mode.
    """
    return _load("disc").eval()


def pack(layers: nn.Sequential) -> dict[str, Any]:
    """Return an MLP's sizes and weights, as `proof_networks.json` has them."""
    affine = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return {
        "sizes": [affine[0].in_features, *(layer.out_features for layer in affine)],
        "weights": [{k: _encode(w) for k, w in layer.state_dict().items()} for layer in affine],
    }


def _load(name: str) -> nn.Sequential:
    """Return a network that `pack` packed."""
    packed = json.loads(NETWORKS.read_text(encoding="utf-8"))[name]
    with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, cost no seed
        layers = mlp(*packed["sizes"])
    affine = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer, weights in zip(affine, packed["weights"], strict=True):
        layer.load_state_dict({k: _decode(weights[k], w) for k, w in layer.state_dict().items()})
    return layers


def layers_of(model: nn.Module, inputs: int) -> list[dict[str, Any]]:
    """Return a multi-layer perceptron as the page's bounds read it.

    Parameters
    ----------
    model : nn.Module
        `Linear` layers with `ReLU` between them and nothing else but `Flatten`, in float32 and
        eval mode; a `Classifier` around them must not normalise.
    inputs : int
        The number of inputs that it has to have.

    Returns
    -------
    list of dict
        For each `Linear` "weight" and "bias", float32 in base64.

    Raises
    ------
    TypeError, ValueError
        If the model is another one.
    """
    layers = [layer for layer in read_layers(model) if not _does_nothing(layer.module)]
    kinds = [layer.kind for layer in layers]
    if not kinds or kinds != (["linear", "relu"] * len(kinds))[: len(kinds) // 2 * 2 + 1]:
        raise TypeError(
            "model: expected Linear layers with ReLU between them, without normalisation, "
            f"received {', '.join(kinds) or 'no layer'}"
        )
    found, width = [], inputs
    for layer in layers[::2]:
        weights: Mapping[str, Tensor] = layer.module.state_dict()
        if set(weights) != {"weight", "bias"} or weights["weight"].dtype != torch.float32:
            raise ValueError(
                f"model: expected a weight and a bias in float32 at {layer.name}, received "
                f"{', '.join(f'{k} in {w.dtype}' for k, w in weights.items())}"
            )
        if weights["weight"].shape[1] != width:
            raise ValueError(
                f"model: expected {width} inputs at {layer.name}, received "
                f"{weights['weight'].shape[1]}"
            )
        width = len(weights["bias"])
        found.append({k: _encode(w) for k, w in weights.items()})
    return found


def _does_nothing(module: nn.Module) -> bool:
    """Tell whether a layer leaves all numbers of a flat input as they are."""
    if isinstance(module, Normalize):
        return bool((module.mean == 0).all() and (module.std == 1).all())
    return isinstance(module, nn.Flatten)


def _encode(weights: Tensor) -> str:
    return base64.b64encode(weights.detach().cpu().contiguous().numpy().tobytes()).decode()


def _decode(text: str, like: Tensor) -> Tensor:
    numbers = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)
    return numbers.view_as(like)
