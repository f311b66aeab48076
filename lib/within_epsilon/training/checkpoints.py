"""A run of training safe on disk: written whole or not at all, and known again."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from within_epsilon.data.examples import Examples
from within_epsilon.evaluation.core import identity
from within_epsilon.runtime import written_whole

_FORMAT = 1


class Checkpoint:
    """The file of one run, or none.

    Parameters
    ----------
    path : path, optional
        Where; None for nowhere.
    settings : dict of str to str
        What the run rests on, by the name that a refusal gives it.
    """

    def __init__(self, path: str | Path | None, settings: dict[str, str]) -> None:
        self._path = None if path is None else Path(path).expanduser()
        self._settings = settings

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return what was saved, or None if there is nothing.

        Raises
        ------
        ValueError
            If the file is damaged, or of another run; it is left as it is.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            state = torch.load(self._path, map_location=device, weights_only=True)
            found = state["settings"]
            whole = state["format"] == _FORMAT and isinstance(found, dict)
        except Exception as error:  # whatever torch finds wrong with a file that is none of its own
            raise self._damaged(type(error).__name__) from error
        if not whole:
            raise self._damaged("of another format")
        differing = [name for name, value in self._settings.items() if found.get(name) != value]
        if differing:
            raise ValueError(
                f"checkpoint: {self._path} is of another run, with another "
                f"{', '.join(differing)}; it is left as it is: give another path, or move it away"
            )
        return dict(state)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written, on a full disk for instance; what was there is still there.
        TypeError
            If it could not be read back.
        """
        if self._path is None:
            return
        first = not self._path.exists()
        with _about(self._path, first), written_whole(self._path) as file:
            torch.save({"format": _FORMAT, "settings": self._settings, **state()}, file)
            file.flush()
            if first:
                _require_readable(Path(file.name))

    def _damaged(self, why: str) -> ValueError:
        return ValueError(
            f"checkpoint: {self._path} is damaged, or no checkpoint of fit ({why}); it is left as "
            "it is: give another path, or move it away"
        )


@contextmanager
def _about(path: Path, first: bool) -> Iterator[None]:
    """Say of a disk that is full that it is: torch raises an error of its own over it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        below: BaseException | None = error
        while below is not None and not isinstance(below, OSError):
            below = below.__context__
        if below is None or below.errno is None:
            raise
        kept = "" if first else "; the checkpoint of the epoch before is still there"
        raise OSError(below.errno, f"{below.strerror}{kept}", str(path)) from error


def _require_readable(path: Path) -> None:
    try:
        torch.load(path, weights_only=True)
    except Exception as error:
        raise TypeError(
            "checkpoint: expected an optimizer, schedule and objective whose state is made of "
            f"tensors and numbers, received one that cannot be read back safely ({error})"
        ) from error


def run_settings(
    model: nn.Module, examples: Examples, key: str | None, **others: Any
) -> dict[str, str]:
    """Describe what a run rests on, so that another session knows it again.

    Parameters
    ----------
    model : nn.Module
        Its classes, and the names, shapes and dtypes of its weights; their values change.
    examples : Examples
        See `Examples.fingerprint`.
    key : str, optional
        Stands for functions that have no name that another session would know them by.
    **others
        Whatever else counts.

    Raises
    ------
    TypeError
        If there is such a function and no key.
    """
    unnamed: list[str] = []
    kinds = [f"{name} {type(part).__qualname__}" for name, part in model.named_modules()]
    weights = [
        f"{name} {tuple(value.shape)} {value.dtype}" for name, value in model.state_dict().items()
    ]
    described = {name: identity.plain(_constant(value), unnamed) for name, value in others.items()}
    if unnamed and key is None:
        raise TypeError(
            "checkpoint: expected functions that another session can recognise, received "
            f"{', '.join(sorted(set(unnamed)))}; give a key= that changes whenever these do, such "
            "as key='my loss, first try', or put them into a module"
        )
    return {
        "architecture": json.dumps([kinds, weights]),
        "data": examples.fingerprint(),
        "key": json.dumps(key),
        **{name: json.dumps(value) for name, value in described.items()},
    }


def _constant(value: Any) -> Any:
    """Return what of an optimizer or schedule does not change with every step."""
    if isinstance(value, Optimizer):
        return [type(value).__qualname__, value.defaults]
    return type(value).__qualname__ if isinstance(value, LRScheduler) else value
