"""Which parts of a model are in train mode, where that changes its answers."""

import functools
import inspect
import warnings
from collections.abc import Hashable, Iterable

import torch
from torch import nn

from within_epsilon.parts import codes_in, globals_named, modules_of, of_library

# Where TorchScript's operators are told the mode.
_MODE_OF = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::batch_norm": 5}


def training_modules(model: nn.Module) -> list[str]:
    """Name the modules in train mode whose answers depend on it.

    Parameters
    ----------
    model : nn.Module
        The model.

    Returns
    -------
    list of str
        Their dotted names in the model, in its order; the model itself goes by its class.
        Whoever computes the same in both modes (ReLU, containers, dropout at rate 0) is
        left out, as is a class of one's own whose code never asks for its mode.
    """
    return [
        name or type(module).__name__
        for name, module in modules_of(model)
        # A frozen TorchScript module has no mode at all.
        if (getattr(module, "training", False) and _mode_matters(module)) or _traced(module)
    ]


def warn_if_training(model: nn.Module, stacklevel: int = 3) -> None:
    """Warn about a model in train mode, whose answers are not those it will be judged by.

    Parameters
    ----------
    model : nn.Module
        The model; see `training_modules`.
    stacklevel : int
        Whose line the warning names; 3 is the caller's caller.
    """
    if names := training_modules(model):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(
            f"the model is in train mode ({names[0]}{more}): dropout and batch statistics "
            f"change its answers; {how_to_eval(model, names)}",
            stacklevel=stacklevel,
        )


def how_to_eval(model: nn.Module, names: Iterable[str]) -> str:
    """Say what to do about modules in train mode, some of which `eval` may not reach."""
    known = {name or type(module).__name__: module for name, module in model.named_modules()}
    for name in names:
        if name not in known:
            return (
                f"call eval() on {name} too, which model.eval() does not reach: assign it to the "
                "model by itself, or in an nn.ModuleList"
            )
        if isinstance(known[name], torch.jit.ScriptModule) and not known[name].training:
            return f"trace {name} in eval mode: what was traced has the mode of that time for good"
    return "call model.eval() first"


def _mode_matters(module: nn.Module) -> bool:
    rates = [getattr(module, name, None) for name in ("p", "dropout", "drop_prob", "drop_rate")]
    numbers = [rate for rate in rates if isinstance(rate, int | float)]
    without_effect = bool(numbers) and not any(numbers)
    # Transformers only choose a faster way to the same numbers.
    transformer = isinstance(module, nn.TransformerEncoder | nn.TransformerEncoderLayer)
    if without_effect or transformer or not getattr(module, "track_running_stats", True):
        return False
    if isinstance(module, torch.jit.ScriptModule):
        return "training" in getattr(module, "code", "")
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    own = (vars(module).get("forward"), *hooks, *(type(hook).__call__ for hook in hooks))
    kind: Hashable = type(module)  # type: ignore[assignment]
    return _reads_mode(kind) or any(_mentions(function, "training") for function in own)


def _traced(module: nn.Module) -> bool:
    """Tell whether a TorchScript module was traced in train mode, which no eval() ends."""
    if not isinstance(module, torch.jit.ScriptModule) or not hasattr(module, "graph"):
        return False
    return any(
        list(node.inputs())[place].toIValue() is True
        for kind, place in _MODE_OF.items()
        for node in module.graph.findAllNodes(kind)  # type: ignore[attr-defined]
    )


@functools.cache
def _reads_mode(kind: type) -> bool:
    """Tell whether what a module's class computes looks at `training`."""
    for name in set(dir(kind)) - {"train", "eval", "training", *dir(object), "__setstate__"}:
        for parent in kind.__mro__:
            function = vars(parent).get(name)
            if parent is nn.Module or function is None:
                continue
            if _mentions(function, "training"):
                return True
            if not _mentions(function, "super"):
                break
    return False


def _mentions(function: object, word: str) -> bool:
    """Tell whether a function's code has a word in it, or that of functions that it calls."""
    waiting, seen = [function], set[int]()
    while waiting:
        function = inspect.unwrap(_function_of(waiting.pop()))  # type: ignore[arg-type]
        code = getattr(function, "__code__", None)
        if code is None or id(code) in seen:
            continue
        seen.add(id(code))
        if any(word in (*part.co_names, *part.co_consts) for part in codes_in(code)):
            return True
        known = getattr(function, "__globals__", {})
        if not of_library(known):
            waiting += filter(inspect.isfunction, map(known.get, globals_named(code)))
    return False


def _function_of(value: object) -> object:
    """Return the function in a property, a static method, a partial and the like."""
    for name in ("fget", "__func__", "func"):
        value = getattr(value, name, None) or value
    return value
