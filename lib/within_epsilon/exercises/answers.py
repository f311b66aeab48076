"""What a reader's code returned, as the kind of thing that was asked for.

NumPy arrays, lists, other dtypes and tensors that hang on a graph are all the same answer; here
is the one place that makes them so. What cannot be converted is `Wrong`, in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from within_epsilon.exercises.registry import NotAttempted, Wrong

_SHORT = 6  # tensors up to this many entries are shown whole


def listed(row: Tensor) -> str:
    """Write a row of numbers as one would in a notebook, with two decimals."""
    return "[" + ", ".join(f"{value:.2f}" for value in row.tolist()) + "]"


def plain(found: Any) -> Any:
    """Turn NumPy's arrays and numbers into torch's and Python's, also inside containers."""
    if isinstance(found, np.ndarray) and found.dtype.kind in "fiub":
        return torch.from_numpy(found.copy())
    if isinstance(found, Tensor) and type(found) not in (Tensor, nn.Parameter):
        with (
            torch._C.DisableTorchFunctionSubclass()
        ):  # its own idea of what is equal does not count
            return found.as_subclass(Tensor)
    if isinstance(found, np.generic):
        return found.item()
    if isinstance(found, Mapping):
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(map(plain, found)) if type(found) in (list, tuple) else tuple(found)
    return found


def describe(value: Any) -> str:
    """Say in a few words what a value is, so that the reader recognises it."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        if value.numel() == 0:
            return f"{dtype} of shape {tuple(value.shape)}, empty"
        if value.numel() <= _SHORT and value.ndim <= 2:
            entries = np.array(value.tolist())
            return f"{dtype} {np.array2string(entries, precision=4, separator=', ')}"
        lowest, highest = value.min().item(), value.max().item()
        return f"{dtype} of shape {tuple(value.shape)}, {lowest:.4g} to {highest:.4g}"
    if isinstance(value, nn.Module):
        return "a network"
    if callable(value):
        return "a function"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _kind(found: Any) -> str:
    """Name what came instead of a tensor."""
    if isinstance(found, Tensor):
        return f"shape {tuple(found.shape)}"
    return "nothing" if found is None else f"{type(found).__name__} ({describe(found)})"


def _stack(found: Any) -> Tensor:
    if isinstance(found, list | tuple):
        parts = [_stack(part) for part in found]
        widest = reduce(torch.promote_types, [part.dtype for part in parts], torch.bool)
        return torch.stack([part.to(widest) for part in parts])
    if isinstance(found, float):
        return torch.tensor(found, dtype=torch.float64)
    return torch.as_tensor(found)


def tensor(found: Any, shape: tuple[int, ...], what: str = "a tensor") -> Tensor:
    """Return an answer as a tensor of that shape, its dtype and graph as they are.

    Parameters
    ----------
    found : tensor, array, number or nested list of these
    shape : what was asked for; () takes every tensor with one entry
    what : how to name it when it is something else
    """
    try:
        result = _stack(plain(found))
    except (TypeError, ValueError, RuntimeError):
        result = None
    if result is None or (tuple(result.shape) != shape and (shape or result.numel() != 1)):
        raise Wrong(
            f"it must return {what} of shape {shape}, got "
            f"{_kind(found if result is None else result)}"
        )
    return result.reshape(shape)


def tensor_like(found: Any, like: Tensor, what: str = "a tensor") -> Tensor:
    """Return an answer as a detached tensor of the same shape and dtype as another."""
    return tensor(found, tuple(like.shape), what).detach().to(like)


def number(found: Any, what: str = "a number") -> float:
    """Return an answer as a float; a tensor or an array with one entry is a number too."""
    found = plain(found)
    if isinstance(found, Tensor) and found.numel() == 1 and not found.is_complex():
        found = found.item()
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Wrong(f"it must return {what}, got {_kind(found)}")
    return float(found)


def whole(found: Any, what: str = "a whole number") -> int:
    """Return an answer as an int; 3.0 is 3."""
    value = number(found, what)
    if not value.is_integer():
        raise Wrong(f"it must return {what}, got {value:g}")
    return round(value)


def truth(found: Any) -> bool:
    """Return an answer as True or False."""
    found = plain(found)
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    if isinstance(found, bool) or (isinstance(found, int | float) and found in (0, 1)):
        return bool(found)
    raise Wrong(f"it must return one answer, True or False, got {_kind(found)}")


def entries(found: Any, names: Sequence[str]) -> list[Any]:
    """Return what a dictionary says under these names; if nothing yet, it is the stub."""
    if not isinstance(found, Mapping):
        raise Wrong(f"it must be a dictionary with {', '.join(names)}, not {describe(found)}")
    missing = [name for name in names if found.get(name) is None or found[name] is ...]
    if all(value is None or value is ... for value in found.values()):
        raise NotAttempted
    if missing:
        raise Wrong(f"there is nothing yet for {', '.join(missing)}")
    return [found[name] for name in names]


def pictures(found: Any, images: Tensor, epsilon: float | None = None) -> Tensor:
    """Return an answer as pictures like `images`, within epsilon of them, or say why it is none."""
    changed = tensor_like(found, images, "pictures")
    if not changed.isfinite().all():
        raise Wrong("some of its pixels are no numbers (NaN or infinite)")
    if changed.min() < -1e-6 or changed.max() > 1 + 1e-6:
        raise Wrong(
            f"some pixels left [0, 1]: they run from {changed.min():.3f} to {changed.max():.3f}"
        )
    if epsilon is not None:
        furthest = (changed - images).abs().max().item()
        if furthest > epsilon + 2e-6:
            raise Wrong(f"some pixels moved by {furthest:.4f}, more than ε = {epsilon:.4g}")
    return changed
