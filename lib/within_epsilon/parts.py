"""The modules that a model computes with, wherever it keeps them."""

import dis
import functools
import types
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

# What nn.Module looks after itself.
_REGISTERED = frozenset(vars(nn.Module()))
# What holds no module; and of global variables, what is no model's own.
_PLAIN = (int, float, str, bytes, type(None), Tensor, np.ndarray)
_LIBRARIES = ("torch.", "within_epsilon.")
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def modules_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a model's modules with dotted names, also those that torch does not know of.

    torch knows what is assigned to a module. It does not know what lies in a list, a tuple, a
    dictionary or a `functools.partial`, whose method is kept, or what a function holds in its
    closure or takes from a global variable: `eval`, `parameters` and `buffers` pass these over.

    Parameters
    ----------
    model : nn.Module
        The model, itself the first.
    """
    seen: Any = set()
    waiting = deque([("", model)])
    while waiting:
        name, module = waiting.popleft()
        for inner, part in module.named_modules(seen, name):
            yield inner, part
            waiting += _elsewhere(inner, part)


def _elsewhere(name: str, part: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules that a module holds without torch's knowledge, with names."""
    kept, origin = vars(part), type(part).__module__
    if origin.startswith("torch.") and ("forward" not in kept or "torch.nn." not in origin):
        return []
    waiting = [(f"{name}.{key}", value) for key, value in kept.items() if key not in _REGISTERED]
    kind: Hashable = type(part)  # type: ignore[assignment]
    waiting += [(name, function) for function in _functions(kind)]
    found, seen = [], set[int]()
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, nn.Module):
            found.append((place.lstrip("."), value))
        elif not isinstance(value, _PLAIN) and id(value) not in seen:
            seen.add(id(value))
            waiting += [(f"{place}{key}", inside) for key, inside in _inside(value)]
    return found


def _inside(value: object) -> Iterable[tuple[str, object]]:
    """Return what containers and functions hold, with how it is reached."""
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", inside) for key, inside in value.items()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [(f"[{number}]", inside) for number, inside in enumerate(value)]
    if isinstance(value, functools.partial):
        return [("", inside) for inside in (value.func, *value.args, *value.keywords.values())]
    if isinstance(value, types.MethodType):
        return [("", value.__self__), ("", value.__func__)]
    if isinstance(value, types.FunctionType) and not of_library(value.__globals__):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        closed = [(f".{name}", _content(cell)) for name, cell in cells]
        named = [
            (f".{name}", value.__globals__.get(name)) for name in globals_named(value.__code__)
        ]
        return closed + [(name, held) for name, held in named if not isinstance(held, _CODE)]
    return ()


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


@functools.cache
def _functions(kind: type) -> tuple[types.FunctionType, ...]:
    """Return the functions of a class that are neither torch's nor this library's."""
    own = (parent for parent in kind.__mro__ if not parent.__module__.startswith(_LIBRARIES))
    values = (value for parent in own for value in vars(parent).values())
    return tuple(value for value in values if isinstance(value, types.FunctionType))


def of_library(variables: Mapping[str, object]) -> bool:
    """Tell by a function's global variables whether it is torch's or this library's."""
    return str(variables.get("__name__")).startswith(_LIBRARIES)


@functools.cache
def globals_named(code: types.CodeType) -> tuple[str, ...]:
    """Return the global variables that a function names, those inside it included."""
    steps = (step for part in codes_in(code) for step in dis.get_instructions(part))
    return tuple({str(step.argval): None for step in steps if step.opname == "LOAD_GLOBAL"})


def codes_in(code: types.CodeType) -> list[types.CodeType]:
    """Return a function's code, and that of the functions inside it."""
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [code, *(part for one in inner for part in codes_in(one))]
