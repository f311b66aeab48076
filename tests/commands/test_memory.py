"""Ten times the data take no more memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from processes import environment

MEASURED = """
import re, sys
from pathlib import Path
from click.testing import CliRunner
from within_epsilon.commands import main
result = CliRunner().invoke(main, sys.argv[1:])
assert result.exit_code == 0, result.output
# Not getrusage: its peak begins with that of the process that started this one.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no peak memory to read")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ten_times_the_data_take_as_much_memory(folder, save):
    (folder / "large.py").write_text(
        "from within_epsilon.models import mlp\ndef net():\n    return mlp(3072, 10)\n"
    )
    generator, peaks = np.random.default_rng(0), []
    for n in (2_000, 20_000):
        images = generator.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        save(f"{n}.npz", images=images, labels=generator.integers(0, 10, n))
        words = ("--model", "large:net", "--data", f"{n}.npz", "--epsilon", "1/255", "--check", "0")
        quick = ("--attack", "fgsm", "--out", f"out{n}")
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, "evaluate", *words, *quick],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.05 * peaks[0]  # the larger file alone is 61 MB
