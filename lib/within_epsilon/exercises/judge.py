"""Judges answers in processes of their own: `python -m within_epsilon.exercises.judge`.

The library in this process is as it was installed: whatever a notebook did to the one in its
kernel stays there, only the answer comes over. Each answer is judged in a copy of the process
(`os.fork`), so that one which changes, stops or delays it affects no other.

It reads one JSON object from its input, `{"answers": {"5.1": PATH}, "chapter": "5", "seconds":
60, "memory": BYTES}`, and writes a line `["5.1", VERDICT]` for each answer. The class's seed is in
the environment; see `variants`.
"""

from __future__ import annotations

import builtins
import json
import linecache
import os
import pickle
import secrets
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from within_epsilon.data import digits
from within_epsilon.exercises import CORRECT, WRONG, verdict

_TORCH = str(Path(torch.__file__).parent)
_LONGEST = 3000  # characters of a verdict


def main() -> None:
    """Judge the answers named on standard input."""
    request = json.load(sys.stdin)
    digits()  # once, and not in every copy
    verdict(f"{request['chapter']}.0", None)  # imports the chapter's checks
    for number, path in request["answers"].items():
        said = judge(number, Path(path), request["seconds"], request["memory"])
        print(json.dumps([number, said]), flush=True)


def judge(number: str, path: Path, seconds: float, memory: int) -> str:
    """Return the verdict on an answer that `grading.taking` wrote, from a copy of this process.

    Parameters
    ----------
    number : the exercise
    path : file of the answer
    seconds, memory : what the check may take, in seconds and bytes
    """
    token = secrets.token_bytes(16)  # what the answer writes to the pipe by luck is no verdict
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            _prepare(memory)
            said = _judged(number, path)[:_LONGEST]
            os.write(theirs, token + said.encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(theirs)
    heard = _listen(ours, time.monotonic() + seconds)
    os.close(ours)
    for end in (lambda: os.killpg(child, signal.SIGKILL), lambda: os.kill(child, signal.SIGKILL)):
        with suppress(ProcessLookupError, PermissionError):
            end()
    _, status = os.waitpid(child, 0)
    if heard is None:
        return f"{WRONG}the check was stopped after {seconds:g} s"
    if not heard.startswith(token):
        cause = signal.Signals(status).name if 0 < status < 65 else "its own doing"
        return f"{WRONG}it ended the process that checked it ({cause})"
    return heard.removeprefix(token).decode(errors="replace")


def _listen(pipe: int, last: float) -> bytes | None:
    """Return what comes through a pipe until it is closed, or None when its time is up."""
    said = b""
    while len(said) < 8 * _LONGEST:
        left = last - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        part = os.read(pipe, 4096)
        if not part:
            break
        said += part
    return said


def _prepare(memory: int) -> None:
    """Give this copy a group of its own, its limits, and nothing to read from or print to."""
    from within_epsilon.grading.taking import limit

    os.setsid()
    limit(memory)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)


def _judged(number: str, path: Path) -> str:
    """Unpack an answer and judge it, in the process that will end with it."""
    kept = _functions()
    try:
        packed = pickle.loads(path.read_bytes())
        for name, source in packed["sources"].items():
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        answer = packed["answer"]
    except BaseException as error:  # unpacking runs the reader's code
        return f"{WRONG}it does not work outside of its notebook ({_named(error)})"
    try:
        said = verdict(number, answer)
    except BaseException as error:  # KeyboardInterrupt and its like
        return f"{WRONG}it stopped with {_named(error)}"
    now = _functions()
    changed = [
        name
        for name, value in kept.items()
        if now.get(name) is not value and not _by_torch(name, now.get(name))
    ]
    if said == CORRECT and changed:
        return f"{WRONG}it replaced {', '.join(sorted(changed)[:3])} while it was checked"
    return said


def _by_torch(name: str, value: Any) -> bool:
    """Whether torch replaced a function of its own, as it does when it first trains."""
    code = getattr(value, "__code__", None)
    same = getattr(value, "__name__", "") == name.rpartition(".")[2]
    return code is not None and same and code.co_filename.startswith(_TORCH)


def _named(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _functions() -> dict[str, Any]:
    """Return the functions that a check relies on, by their full names."""
    ours = [m for name, m in list(sys.modules.items()) if name.startswith("within_epsilon.")]
    homes: list[ModuleType | type] = [*ours, builtins, np, torch, torch.Tensor]
    homes += [torch.nn.functional, torch.autograd, torch.linalg, torch.nn.Module]
    return {
        f"{home.__name__}.{name}": value
        for home in homes
        for name, value in list(vars(home).items())
        if callable(value)
    }


if __name__ == "__main__":
    main()
