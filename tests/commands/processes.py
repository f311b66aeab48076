"""Commands in processes of their own, alone and together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "lib"


def environment(**more):
    """Return what a process of its own needs, with one thread."""
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**clean, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1", **more}


def torchrun(processes, *words):
    """Return the command that starts so many processes on this machine."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *launch, "-m", "within_epsilon", *map(str, words)]


def together(processes, *words):
    """Run a verb in so many processes, as torchrun would; return what each said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "within_epsilon", *map(str, words)]
    running = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        env = environment(MASTER_ADDR="127.0.0.1", **{k: str(v) for k, v in place.items()})
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=env, **pipes))
    said = [process.communicate(timeout=500) for process in running]
    assert [process.returncode for process in running] == [0] * processes, said
    return [out for out, _ in said]


def reports_in(folder):
    """Return the reports that an evaluation has written."""
    return json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))["reports"]
