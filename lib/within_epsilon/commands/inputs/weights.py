"""Weights in files: read as numbers, and no code."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.models import Classifier


def weights_in(path: Path) -> Mapping[str, Tensor]:
    """Read weights by name from a file of safetensors or of `torch.save`.

    Raises
    ------
    ValueError, OSError
        If there is none, or it holds anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"--weights: there is no file {path}; look at its name and folder, or leave the option "
            "out for torchvision's own"
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state: Any = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"--weights: {path} is no whole safetensors file: {error}") from error
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch finds wrong with it
            raise ValueError(
                f"--weights: {path} is no file of weights alone, or damaged; save "
                "network.state_dict() with torch.save, or as safetensors"
            ) from error
    for name in ("state_dict", "model", "weights"):  # what trainings wrap them in
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not state or not all(map(_is_weight, state.values())):
        raise ValueError(
            f"--weights: expected tensors by name in {path}, received something else; save "
            "network.state_dict()"
        )
    return {name.removeprefix("module."): value for name, value in state.items()}


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor)


def fill(body: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Put weights into a network.

    Raises
    ------
    ValueError
        If they are another network's.
    """
    inner = body.body if isinstance(body, Classifier) else body
    prefixed = all(name.startswith("body.") for name in state)
    try:
        (body if prefixed else inner).load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(
            f"--weights: {path} is of another network: {first[:200]}; give the weights of this one"
        ) from error


def hash_of_file(path: Path) -> str:
    """Return what tells a file from others of the same name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
