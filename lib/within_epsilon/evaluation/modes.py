"""Which modules of a model are in train mode, where that changes answers."""

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
        Names as in ``model.named_modules()``, with classes; empty if none trains.
    """
    return [
        f"{name} ({type(module).__name__})".lstrip()
        for name, module in model.named_modules()
        if getattr(module, "training", False) and _cares(module)
    ]


def _cares(module: nn.Module) -> bool:
    """Tell whether a module's code asks for its mode; what only holds others does not."""
    bases = (base for base in type(module).__mro__ if base not in (nn.Module, object))
    functions = (member for base in bases for member in vars(base).values())
    codes = (getattr(function, "__code__", None) for function in functions)
    return any(code is not None and "training" in code.co_names for code in codes)
