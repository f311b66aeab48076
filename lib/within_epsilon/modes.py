"""Which parts of a model are in train mode, where that changes its answers."""

import functools
import inspect
import warnings
from collections.abc import Hashable

import torch
from torch import nn


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
        for name, module in model.named_modules()
        # A frozen TorchScript module has no mode at all.
        if getattr(module, "training", False) and _mode_matters(module)
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
            "change its answers; call model.eval() first",
            stacklevel=stacklevel,
        )


def _mode_matters(module: nn.Module) -> bool:
    rates = [getattr(module, name, None) for name in ("p", "dropout", "drop_prob", "drop_rate")]
    without_effect = any(isinstance(rate, int | float) and rate == 0 for rate in rates)
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


@functools.cache
def _reads_mode(kind: type) -> bool:
    """Tell whether what a module's class computes looks at `training`."""
    for name in set(dir(kind)) - {"train", "eval", *dir(object), "__setstate__"}:
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
    codes = [getattr(inspect.unwrap(function), "__code__", None)]  # type: ignore[arg-type]
    while codes:
        code = codes.pop()
        if code is not None and word in (*code.co_names, *code.co_consts):
            return True
        codes += [part for part in getattr(code, "co_consts", ()) if inspect.iscode(part)]
    return False
