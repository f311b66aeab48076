"""Processes for strangers' code: their own folder and environment, and an end to all of them."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "WITHIN_EPSILON_SUBMISSION"
# What a kernel needs to start; keys, tokens and addresses of the grader's are not among it.
_KEPT = (
    *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LC_ALL", "TZ", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
)


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Parameters
    ----------
    seconds : for all cells of the notebook together
    cell_seconds : for one cell, and for one check
    memory : GiB of data for the kernel, and for each check
    """

    seconds: float = 600
    cell_seconds: float = 120
    memory: float = 4

    @property
    def bytes(self) -> int:
        """Return the memory in bytes."""
        return int(self.memory * 2**30)


def environment(home: Path, mark: str, data: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process whose home is an empty folder of its own."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "WITHIN_EPSILON_DATA": str(data),
        "TQDM_DISABLE": "1",
        "PYTHONSAFEPATH": "1",  # a file torch.py in the folder is not torch
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK: mark,
        **more,
    }


@contextmanager
def marked() -> Iterator[str]:
    """Yield a mark for the environment of processes; at the end kill all that carry it.

    A process that left its group, or whose parent has ended, is found by its mark, too.
    """
    mark = secrets.token_hex(16)
    try:
        yield mark
    finally:
        for _ in range(3):  # one that is just forking is caught the next time
            if not _kill_marked(mark):
                break


def _kill_marked(mark: str) -> int:
    import psutil

    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                process.kill()
                found += 1
    return found


def kill_group(group: int | None) -> None:
    """Kill a process and its children, if they are still there."""
    if group:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def supported() -> bool:
    """Whether the system can limit and end processes as grading needs it."""
    return sys.platform != "win32"
