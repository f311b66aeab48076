"""A kernel for one submission: cells go in one by one, and only what they ended with comes back.

Nobody listens to what the cells print or show: it cannot fill the grader's memory.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from within_epsilon.grading.processes import Limits, environment, kill_group, marked

START = 120.0  # seconds for a kernel to answer at all
GRACE = 5.0  # seconds to end after an interruption
_MINDER = Path(__file__).with_name("minder.py")


class EndedError(Exception):
    """The kernel is no more; the message is a sentence that says why."""


@dataclass(frozen=True)
class Reply:
    """How a cell ended.

    Parameters
    ----------
    problem : "ValueError: …" or a sentence about the time; empty if all went well
    """

    problem: str = ""


class Kernel:
    """A fresh IPython kernel in an empty folder, as a context.

    Parameters
    ----------
    folder : where it lives; its own home, and its cells' current folder, are made in it
    limits : its time and memory
    data : folder of the book's downloaded files
    """

    def __init__(self, folder: Path, limits: Limits, data: Path) -> None:
        self._folder, self._limits, self._data = folder, limits, data
        self._marked = marked()
        self._group: int | None = None

    def __enter__(self) -> Kernel:
        from jupyter_client import KernelManager

        home, work = self._folder / "home", self._folder / "work"
        work.mkdir(parents=True)
        variables = environment(home, self._marked.__enter__(), self._data)
        self._manager: Any = KernelManager(
            kernel_name="python3", connection_file=str(self._folder / "connection.json")
        )
        # Not as a kernel of that name is installed for the user: that may be another Python's.
        kernel = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
        self._manager.kernel_spec.argv = [sys.executable, "-I", str(_MINDER), *kernel]
        try:
            self._manager.start_kernel(
                env=variables,
                cwd=str(work),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._group = self._manager.provisioner.pid
            self._client: Any = self._manager.client()
            self._client.start_channels(iopub=False, stdin=False, hb=False, control=False)
            self._deadline = time.monotonic() + START
            begun = self._call("limit", self._limits.bytes, seconds=START)
            if begun.problem:
                raise EndedError(f"The kernel did not start: {begun.problem}.")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._deadline = time.monotonic() + self._limits.seconds
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        kill_group(self._group)
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)
        if hasattr(self, "_client"):
            self._client.stop_channels()
        self._marked.__exit__(None, None, None)

    def mark(self, expression: str) -> None:
        """Note what a name means now; see `taking.mark`."""
        self._call("mark", expression)

    def take(self, expression: str, path: Path) -> Reply:
        """Write an answer to a file; see `taking.take`."""
        return self._call("take", expression, str(path))

    def _call(self, name: str, *arguments: object, seconds: float | None = None) -> Reply:
        """Call a function of `taking` in the kernel, without a name of ours among its names."""
        module = "__import__('within_epsilon.grading.taking', fromlist=['taking'])"
        given = ", ".join(map(repr, arguments))
        return self.run(f"{module}.{name}({given})", seconds)

    def run(self, source: str, seconds: float | None = None) -> Reply:
        """Run code.

        Parameters
        ----------
        source : the code
        seconds : how long it may take; without it, as long as the limits allow a cell

        Raises
        ------
        EndedError
            If the kernel has ended, or had to be.
        """
        end = time.monotonic() + (seconds or self._limits.cell_seconds)
        last = min(end, self._deadline)
        message = self._client.execute(source, allow_stdin=False, stop_on_error=False)
        content = self._wait(message, last)
        if content is not None:
            return _read(content)
        if end > self._deadline:
            raise EndedError(f"Time was up: {self._limits.seconds:g} s for the notebook in all.")
        self._manager.interrupt_kernel()
        if self._wait(message, time.monotonic() + GRACE) is None:
            raise EndedError(
                f"The notebook was ended: a cell took more than {self._limits.cell_seconds:g} s "
                "and could not be interrupted."
            )
        return Reply(f"it was stopped after {self._limits.cell_seconds:g} s")

    def _wait(self, message: str, last: float) -> dict[str, Any] | None:
        """Return the reply to a message, or None when its time is up."""
        while (left := last - time.monotonic()) > 0:
            try:
                reply = self._client.get_shell_msg(timeout=min(left, 0.5))
            except queue.Empty:
                if not self._manager.is_alive():
                    raise EndedError(_obituary(self._manager.provisioner.process)) from None
                continue
            if reply.get("parent_header", {}).get("msg_id") == message:
                content: dict[str, Any] = reply["content"]
                return content
        return None


def _read(content: dict[str, Any]) -> Reply:
    if content.get("status") == "ok":
        return Reply()
    lines = str(content.get("evalue", "")).strip().splitlines() or [""]
    name = str(content.get("ename", "an error"))
    return Reply(f"{name}: {lines[0][:300]}".removesuffix(": "))


def _obituary(process: subprocess.Popen[bytes] | None) -> str:
    code = process.poll() if process else None
    if code is not None and code < 0:
        return f"The kernel was ended by {signal.Signals(-code).name}."
    return "The notebook ended its own kernel."
