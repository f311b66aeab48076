"""The chapters print the same on a plainer processor than the one that wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.photo
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_chapters_print_the_same_without_newer_instructions(capability):
    """ATen's kernels for other instruction sets sum in other orders; MKL's too."""
    mkl = {"default": "COMPATIBLE", "avx2": "AVX2"}[capability]
    plain = {"ATEN_CPU_CAPABILITY": capability, "MKL_CBWR": mkl}
    environment = {**os.environ, **plain, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "chapters"]
    done = subprocess.run(
        [*command, "--nbval", "--nbval-current-env"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
