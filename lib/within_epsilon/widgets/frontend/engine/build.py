"""Compile kernels.c to kernels.wasm, or check that the committed one is what comes out.

python build.py [--check]

Needs the C compiler of the PyPI package `ziglang`, in exactly this version: another may write
other bytes.
"""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ZIG = "0.17.1"
HERE = Path(__file__).resolve().parent
FLAGS = [
    "-target",
    "wasm32-freestanding",
    "-O3",
    "-fno-unroll-loops",
    "-msimd128",
    "-ffp-contract=off",
    "-nostdlib",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--no-entry",
    "-Wl,--import-memory",
    "-Wl,-z,stack-size=16384",
    "-s",
]


def compiled() -> bytes:
    """Return what kernels.c compiles to."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "kernels.wasm")
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(target), "kernels.c"]
        subprocess.run(command, cwd=HERE, check=True)
        return target.read_bytes()


def main() -> None:
    """Write kernels.wasm, or with --check compare it."""
    try:
        version = metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        sys.exit(f"The compiler is not installed: pip install ziglang=={ZIG}")
    if version != ZIG:
        sys.exit(f"ziglang {version} is installed; for the same bytes: pip install ziglang=={ZIG}")
    place = HERE / "kernels.wasm"
    fresh = compiled()
    if "--check" not in sys.argv:
        place.write_bytes(fresh)
    elif fresh != place.read_bytes():
        sys.exit("kernels.wasm is not what kernels.c compiles to: run build.py and commit it.")
    print(f"kernels.wasm: {len(fresh):,} bytes")


if __name__ == "__main__":
    main()
