"""Stands between the grader and a submission's kernel, so that the kernel's parent is this alone.

``python minder.py PROGRAM ARGUMENT…`` runs a program and ends as it does. A notebook that ends its
parent process, as some do by mistake and some on purpose, ends this, and the grader goes on. It is
run by its path and imports nothing of the library: each notebook starts one.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress


def main(command: list[str]) -> int:
    """Run a command to its end, or to the grader's, and return its exit status."""
    grader = os.getppid()
    # An interruption goes to the whole group and is meant for the kernel. One that is ignored
    # would be ignored by the kernel, too; a handler is not handed on.
    signal.signal(signal.SIGINT, lambda *_: None)
    # Jupyter's name for the process that would be ended.
    variables = {k: v for k, v in os.environ.items() if k != "JPY_PARENT_PID"}
    child = subprocess.Popen(command, env=variables)
    while (code := _status(child)) is None:
        if os.getppid() != grader:
            child.kill()
    if code < 0:
        with suppress(OSError):  # for SIGKILL, which is never handled
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _status(child: subprocess.Popen[bytes]) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return child.wait(timeout=1)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
