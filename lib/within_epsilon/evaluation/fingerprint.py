"""Fingerprints: whether two evaluations are the same experiment."""

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon import __version__
from within_epsilon.attacks import settings
from within_epsilon.threat import Ball

# Settings that change what is shown, or that the evaluation sets itself.
_WITHOUT_EFFECT = {"callback", "indices", "progress"}


def experiment(
    model: nn.Module, attacks: list[Callable[..., Tensor]], ball: Ball
) -> dict[str, object]:
    """Describe an evaluation by plain values that are equal for equal experiments.

    Parameters
    ----------
    model : nn.Module
        Identified by its structure as printed, parameters, buffers and modes. What its
        ``forward`` does beyond that is not seen.
    attacks : list of callable
        Identified by their names, settings, source code and what they close over; what
        else they use is not seen.
    ball : Ball
        The threat model.

    Returns
    -------
    dict
        Of what JSON can hold.
    """
    return {
        "library": __version__,
        "model": _digest_of_model(model),
        "attack": [_attack(attack) for attack in attacks],
        "ball": [ball.norm, ball.epsilon],
    }


def digest(tensor: Tensor, before: str = "") -> str:
    """Hash a tensor's dtype, shape and bytes, and what came before it."""
    values = tensor.detach().cpu().contiguous()
    state = hashlib.blake2b(f"{before}/{values.dtype}/{tuple(values.shape)}/".encode())
    # NumPy knows no bfloat16; bytes it knows.
    state.update(values.flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()[:32]


def _digest_of_model(model: nn.Module) -> str:
    state = hashlib.blake2b(repr(model).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        state.update(f"{name}/{digest(tensor)}".encode())
    state.update(str([module.training for module in model.modules()]).encode())
    return state.hexdigest()[:32]


def _attack(attack: Callable[..., Tensor]) -> dict[str, object]:
    values = settings(attack)
    while isinstance(attack, functools.partial):
        values = {**attack.keywords, **values}
        attack = attack.func
    chosen = {name: _plain(values[name]) for name in sorted(values) if name not in _WITHOUT_EFFECT}
    return {"attack": _plain(attack), "settings": chosen}


def _plain(value: Any, depth: int = 4) -> object:
    """Turn a setting into something that JSON holds and that the next session sees again."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return digest(value)
    if isinstance(value, nn.Module):
        return _digest_of_model(value)
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    if depth and isinstance(value, functools.partial):
        return [_plain(part, depth - 1) for part in (value.func, value.args, value.keywords)]
    if depth and inspect.isfunction(value):
        cells = [_plain(cell.cell_contents, depth - 1) for cell in value.__closure__ or ()]
        return [f"{value.__module__}.{value.__qualname__}", _source(value), cells]
    words = repr(value)
    # An address in memory is another one in every session.
    return type(value).__qualname__ if " at 0x" in words else words


def _source(function: Callable[..., Any]) -> str:
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt that keeps no source
        return ""
    return hashlib.blake2b(text.encode()).hexdigest()[:32]
