"""What an evaluation rests on, in plain values that are equal for equal experiments."""

import functools
import hashlib
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from platform import python_version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from within_epsilon import __version__
from within_epsilon.attacks import WithinBall, describe, settings
from within_epsilon.checks import check_logits
from within_epsilon.evaluation.core.examples import Batch
from within_epsilon.reports import Stage

# Settings that change what is shown, or that the evaluation sets itself.
_WITHOUT_EFFECT = {"callback", "indices", "at_once", "progress"}
# What wraps a model without changing its answers.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}
# Objects of these modules say nothing about answers, and lead everywhere.
_OPAQUE = {"logging", "threading", "_thread", "weakref"}
# What TorchScript's text says of the session: numbers of classes, addresses, places in files.
_OF_SESSION = re.compile(r"\.___torch_mangle_\d+| object at 0x[0-9a-f]+| # \S+:\d+:\d+")
# Where torch keeps hooks, which are not looked at.
_HOOKS = {name for name in vars(nn.Module()) if "_hook" in name}


def plain(
    value: Any, unnamed: list[str], known: dict[int, tuple[object, str]] | None = None
) -> Any:
    """Describe a value by what JSON can hold; objects by class and attributes, at any depth.

    Parameters
    ----------
    value : object
        Numbers, tensors, containers, functions, modules, other objects.
    unnamed : list of str
        Gets the names of functions that a name does not identify: lambdas, what is defined
        inside functions, and what belongs to ``__main__``, where code changes freely.
    known : dict, optional
        What has been met, for objects that lead back to themselves.
    """
    known = {} if known is None else known
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, float | complex | bytes | torch.dtype | torch.device | np.generic):
        return repr(value)
    if isinstance(value, Tensor):
        return digest(value)
    if isinstance(value, np.ndarray):
        return _digest_of_array(value, unnamed, known)
    if isinstance(value, functools.partial):
        return [plain(part, unnamed, known) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.MethodType):
        return [value.__func__.__qualname__, plain(value.__self__, unnamed, known)]
    if isinstance(value, types.BuiltinMethodType) and not isinstance(
        value.__self__, types.ModuleType | type | None
    ):
        return [value.__name__, plain(value.__self__, unnamed, known)]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return _named(value, unnamed)
    if id(value) in known:
        return known[id(value)][1]
    known[id(value)] = value, f"#{len(known)}"  # kept alive, so that nothing else gets its id
    if isinstance(value, set | frozenset):  # which have another order in every session
        return sorted((plain(part, unnamed, known) for part in value), key=repr)
    if isinstance(value, list | tuple | Mapping):
        held: Any = (
            {str(k): plain(v, unnamed, known) for k, v in value.items()}
            if isinstance(value, Mapping)
            else [plain(part, unnamed, known) for part in value]
        )
        own = getattr(value, "__dict__", None)  # a child class's attributes
        return [held, plain(own, unnamed, known)] if own else held
    return [_named(type(value), []), plain(_attributes(value), unnamed, known)]


def _named(value: Any, unnamed: list[str]) -> str:
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    if isinstance(value, types.FunctionType) and (
        "<" in name or value.__module__ == "__main__"  # <lambda>, <locals>
    ):
        unnamed.append(name)
    return name


def _attributes(value: Any) -> Any:
    """Return what an object holds, or None if that cannot be seen."""
    if type(value).__module__.split(".")[0] in _OPAQUE:
        return None
    if isinstance(value, torch.jit.ScriptModule):
        # Its tensors, and attributes and code of all its parts.
        return dict(value.state_dict()), _OF_SESSION.sub(
            "", value._c.dump_to_str(True, True, False)
        )
    if isinstance(value, nn.Module):
        wrapped = _WRAPPERS.get(type(value).__name__)
        if wrapped is not None:
            return getattr(value, wrapped)
        return {name: part for name, part in vars(value).items() if name not in _HOOKS}
    if hasattr(value, "__dict__"):
        return vars(value)
    try:  # what a copy would be made from, such as a deque's items
        parts = value.__reduce_ex__(4)
        return [list(part) if isinstance(part, Iterator) else part for part in parts]
    except Exception:
        return None


def _digest_of_array(array: np.ndarray, unnamed: list[str], known: Any) -> Any:
    """Hash an array of numbers, or describe what else it holds."""
    if array.dtype.hasobject:
        return [list(array.shape), plain(array.ravel().tolist(), unnamed, known)]
    whole = np.ascontiguousarray(array)
    words = f"{whole.dtype} {whole.shape}"
    return f"{words} {hashlib.blake2b(whole.tobytes(), digest_size=16).hexdigest()}"


def digest(values: Tensor) -> str:
    """Hash dtype, shape and numbers."""
    tensor = values.detach().resolve_conj().resolve_neg()
    words = f"{tensor.dtype} {tuple(tensor.shape)}"
    if tensor.is_quantized:
        words, tensor = f"{words} {tensor.qscheme()}", tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    rows = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()  # also of bfloat16
    return f"{words} {hashlib.blake2b(rows.data, digest_size=16).hexdigest()}"


def model_hash(model: nn.Module, unnamed: list[str]) -> str:
    """Hash a model's classes, parameters, buffers and attributes at any depth, modes included."""
    return _hash(plain(model, unnamed))


def stage(attack: Callable[..., Tensor], unnamed: list[str]) -> Stage:
    """Describe an attack with all its settings, positional ones too."""
    function: Any = attack.search if isinstance(attack, WithinBall) else attack
    values, arguments = settings(function), list[Any]()
    if function is not attack:  # what the ball decides, which the report has
        values = {name: value for name, value in values.items() if name not in ("norm", "mask")}
    while isinstance(function, functools.partial):
        values = {**function.keywords, **values}
        arguments = [*function.args, *arguments]
        function = function.func
    if arguments:
        values["arguments"] = arguments
    name = plain(function, unnamed)
    if isinstance(name, list):  # a method, or an object that is called
        values["object"], name = name, _named(type(function), unnamed)
        unnamed += [name] if name.startswith("__main__.") else []
    named = {
        k: _short(plain(values[k], unnamed)) for k in sorted(values) if k not in _WITHOUT_EFFECT
    }
    return Stage(describe(attack), name, named)


def _short(described: Any) -> Any:
    """Put the hash of an object's contents in their place."""
    if not isinstance(described, list) or len(repr(described)) < 200:
        return described
    return f"{described[0]} {_hash(described)}"


def _hash(described: Any) -> str:
    return hashlib.blake2b(repr(described).encode(), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions that the numbers were found with."""
    return {
        "within-epsilon": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": python_version(),
    }


def example_hash(batch: Batch) -> str:
    """Hash examples with their positions and labels; sums of such hashes are in any order equal."""
    if batch.unreadable:
        (index,) = batch.indices.tolist()
        return hashlib.blake2b(f"{index} unreadable".encode(), digest_size=16).hexdigest()
    pixels = batch.images.detach().cpu().contiguous()
    rows = pixels.flatten(1).view(torch.uint8).numpy()
    kind = f"{pixels.dtype} {tuple(pixels.shape[1:])}"
    total = 0
    for index, label, row in zip(batch.indices.tolist(), batch.labels.tolist(), rows, strict=True):
        state = hashlib.blake2b(f"{index} {label} {kind} ".encode(), digest_size=16)
        state.update(row.data)
        total += int.from_bytes(state.digest(), "little")
    return f"{total % 2**128:032x}"


@torch.no_grad()
def probe(model: nn.Module, images: Tensor) -> list[float]:
    """Return a few numbers that follow from the model's answers to fixed inputs.

    Parameters
    ----------
    model : nn.Module
        The model.
    images : Tensor of shape (N, ...)
        For shape, dtype and device.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((2, *images.shape[1:]), generator=generator, dtype=torch.float32)
    flat = torch.stack((torch.full_like(noise[0], 0.1), torch.full_like(noise[0], 0.9)))
    logits = check_logits(model(torch.cat((noise, flat)).to(images)), 4).double().cpu()
    logits = logits.nan_to_num(0.0, 1e300, -1e300).clamp(-1e9, 1e9)
    angles = torch.outer(torch.arange(logits.shape[1]), torch.arange(1, 4)).double()
    return [float(f"{number:.9g}") for number in (logits @ angles.cos()).flatten().tolist()]
