"""How a reader's function is called: on copies, watched, and leaving nothing behind."""

from __future__ import annotations

import inspect
import linecache
import random
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from within_epsilon.exercises.answers import describe, plain
from within_epsilon.exercises.registry import Wrong

_HERE = str(Path(__file__).resolve().parents[1])
_LIBRARIES = (_HERE, str(Path(torch.__file__).parent), str(Path(np.__file__).parent))


@contextmanager
def sandbox() -> Iterator[None]:
    """Fix all seeds and switch gradients on; afterwards all is as it was."""
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - readers use it
    dtype = torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.set_default_dtype(torch.float32)
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002


class Calls:
    """A reader's function, with a memory of how it was called.

    It is given copies of all tensors and lists, and is `Wrong` if it changes them. What it
    returns has passed through `answers.plain`.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._given: Mapping[str, Any] = {}
        self._running = self._called = self._returned_something = False
        self._result: Any = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the reader's function on copies."""
        arguments, originals = tuple(map(_copy, arguments)), arguments
        self._given = self._named(originals, options)
        self._running = True
        result = self._function(*arguments, **options)
        self._running, self._called = False, True
        if result is not None and result is not ...:
            self._returned_something = True
        for (name, before), after in zip(self._given.items(), arguments, strict=False):
            if _differ(before, after):
                raise Wrong(f"it changed the `{name}` that it was given; make new ones")
        self._result = plain(result)
        return self._result

    def _named(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Give every argument the reader's name for it, in order."""
        try:
            names = list(inspect.signature(self._function).bind_partial(*arguments).arguments)
        except (TypeError, ValueError):
            names = []
        if len(names) != len(arguments):
            names = [f"argument {place}" for place in range(1, len(arguments) + 1)]
        return dict(zip(names, arguments, strict=True)) | options

    @property
    def empty(self) -> bool:
        """Whether all that it ever returned was nothing: an unfilled stub."""
        return self._called and not self._returned_something

    def is_stub(self, error: BaseException) -> bool:
        """Whether the error is a stub's own `raise NotImplementedError`."""
        if not isinstance(error, NotImplementedError) or self._returned_something:
            return False
        innermost = traceback.extract_tb(error.__traceback__)[-1]
        return not innermost.filename.startswith(_LIBRARIES)

    def story(self, error: BaseException) -> str:
        """Say what the reader's code stopped with: the error, the line, and its input."""
        message = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {message[0][:160]}" if message else type(error).__name__
        if not self._running:  # it came back, but with something that no check expects
            result = describe(self._result)
            return f"what it returned, {result}, could not be judged ({what})"
        lines = [f"it stopped with {what}"]
        frame = self._line(error)
        if frame:
            lines.append(f"  in line {frame.lineno}: {frame.line}")
        if self._given:
            given = "; ".join(f"{name} = {describe(value)}" for name, value in self._given.items())
            lines.append(f"  called with {given}")
        return "\n".join(lines)

    def _line(self, error: BaseException) -> traceback.FrameSummary | None:
        """Return the innermost line of the reader's own code."""
        frames = traceback.extract_tb(error.__traceback__)
        linecache.checkcache()
        ours = [frame for frame in frames if not _foreign(frame.filename)]
        return ours[-1] if ours and ours[-1].line else None


def _foreign(filename: str) -> bool:
    return filename.startswith((*_LIBRARIES, "<frozen")) or "site-packages" in filename


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()  # a part of the graph if there is one
    return list(value) if isinstance(value, list) else value


def _differ(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        if before.shape != after.shape:
            return True
        same = (before == after) | ((before != before) & (after != after))  # NaN is NaN
        return not bool(same.all())
    return isinstance(before, list) and before != after
