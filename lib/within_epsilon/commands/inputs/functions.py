"""A function of the user's own, by its module: the only code that is run."""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from within_epsilon.commands.inputs.weights import hash_of_file


def network_of(name: str) -> tuple[nn.Module, str]:
    """Import the user's module, and call the function.

    Parameters
    ----------
    name : str
        "module:function"; the module may be a path, too, such as "folder/mine.py".

    Returns
    -------
    body : nn.Module
        What the function returns.
    key : str
        What tells it apart beyond its weights: the name, and the hash of the module's file.

    Raises
    ------
    ValueError, TypeError
        If there is no such function, it fails, or it returns something else.
    """
    where, _, what = name.rpartition(":")
    module = _imported(where)
    function = getattr(module, what, None)
    if not callable(function):
        raise ValueError(
            f"--model: expected a function {what!r} in {where}, which has none; it has "
            f"{', '.join(n for n, v in vars(module).items() if callable(v) and n[0] != '_')}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # initial weights that are the same in every process
        try:
            body = function()
        except Exception as error:  # whatever a stranger's code raises
            raise _failed(name, error) from error
    if not isinstance(body, nn.Module):
        raise TypeError(
            f"--model: expected {name} to return a torch.nn.Module, received a "
            f"{type(body).__name__}; return the network itself"
        )
    source = getattr(module, "__file__", None)
    return body, f"{name} {hash_of_file(Path(source)) if source else ''}"


def _imported(where: str) -> ModuleType:
    path = Path(where.removesuffix(".py")).expanduser()
    folder, module = "", ".".join(path.parts)
    if path.is_absolute() or ".." in path.parts:
        folder, module = str(path.parent), path.name
    if folder not in sys.path:
        sys.path.insert(0, folder)  # "" is where the command is called
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if module == error.name or module.startswith(f"{error.name}."):
            raise ValueError(
                f"--model: expected MODULE:FUNCTION, there is no module {error.name!r} here; call "
                "the command in the folder that has it, or install it"
            ) from error
        raise ValueError(
            f"--model: {where} imports {error.name!r}, which is not installed; install it"
        ) from error
    except Exception as error:  # whatever a stranger's code raises
        raise _failed(where, error) from error


def _failed(what: str, error: Exception) -> ValueError:
    """Say where the user's code went wrong."""
    if isinstance(error, SyntaxError):
        file, line, about = error.filename, error.lineno, error.msg
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        file, line, about = last.filename, last.lineno, str(error)
    return ValueError(
        f"--model: {what} fails with {type(error).__name__}: {about} ({Path(file or '').name}, "
        f"line {line}); repair it, or see all of it with WITHIN_EPSILON_TRACEBACK=1"
    )
