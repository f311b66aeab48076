"""Make the environment that a Make target needs, from the lock, and print where its programs are.

    python3 .ci/environment.py book    # builds the pages: no torch, .venv-book
    python3 .ci/environment.py full    # everything else: .venv
    python3 .ci/environment.py benchmark    # attack libraries to compare with: .venv-benchmark
    python3 .ci/environment.py compiler    # makes the engine's WebAssembly: .venv-compiler
    python3 .ci/environment.py oldest    # the oldest packages that are promised: .venv-oldest

A second call finds the work done and returns at once. Runs on any Python 3 without
dependencies, because its first duty is to say so when that Python will not do.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.txt"
# What an environment installs, if that is not the lock.
OWN_LOCKS = {
    "benchmark": ROOT / "benchmarks" / "requirements.txt",
    "compiler": ROOT / ".ci" / "compiler.txt",
}
SUPPORTED = ((3, 11), (3, 12), (3, 13))
FOLDERS = {"full": ".venv"} | {kind: f".venv-{kind}" for kind in ("book", "oldest", *OWN_LOCKS)}
PROBE = "import sys; print(*sys.version_info[:2]); import ensurepip, venv"


def find_python() -> str:
    """Return a Python that is supported and can make environments, or leave with a sentence."""
    asked = os.environ.get("PYTHON")
    names = [asked] if asked else [sys.executable, "python3.13", "python3.12", "python3.11"]
    found = []
    for name in names:
        path = shutil.which(name)
        if not path:
            continue
        probe = subprocess.run([path, "-c", PROBE], capture_output=True, text=True)
        numbers = tuple(int(part) for part in probe.stdout.split()[:2])
        if numbers not in SUPPORTED:
            if numbers:
                found.append("{} is {}.{}".format(path, *numbers))
            continue
        if probe.returncode:
            sys.exit(
                f"{path} cannot make environments: its venv module is missing. "
                "On Debian and Ubuntu: sudo apt install python3-venv"
            )
        return path
    sys.exit(
        "Within Epsilon needs Python 3.11, 3.12 or 3.13. Found: {}. Install one, or name it: "
        "make PYTHON=/path/to/python3.12 …".format("; ".join(found) or "none")
    )


def version(python: str) -> str:
    """Return what a Python says of itself: "Python 3.11.7"."""
    return subprocess.run([python, "--version"], capture_output=True, text=True).stdout.strip()


def fingerprint(kind: str, python: str) -> str:
    """Return what an environment depends on, as one hash."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), version(python).encode()]
    if kind in OWN_LOCKS:
        parts.append(OWN_LOCKS[kind].read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install(kind: str, folder: Path, python: str) -> None:
    """Fill the folder: uv first, by pip and from the lock, then the rest by uv."""
    print(f"Making {folder.name} …", file=sys.stderr, flush=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    own = shutil.which(str(programs / "python"))
    # A changed lock changes what is installed; only another Python asks for a fresh folder.
    if own is None or version(own) != version(python):
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    pinned_uv = re.search(r"^uv==.*\n(?:    .*\n)+", LOCK.read_text(), re.MULTILINE)
    if pinned_uv is None:
        sys.exit("requirements.txt does not pin uv: run `make lock`.")
    with tempfile.TemporaryDirectory() as scratch:
        only_uv = Path(scratch, "uv.txt")
        only_uv.write_text(pinned_uv.group())
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--require-hashes", "-r", str(only_uv)], check=True)

    def uv(*arguments: str) -> None:
        command = [str(programs / "uv"), "pip", "install", "--quiet", *arguments]
        environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
        subprocess.run(command, check=True, cwd=ROOT, env=environment)

    if kind == "book":
        uv("--require-hashes", "--constraint", "requirements.txt", "--group", "book")
    elif kind == "oldest":  # no lock: what pyproject.toml says is the point
        oldest = ("--resolution", "lowest-direct", "--group", "test", "--all-extras")
        uv(*oldest, "--requirement", "pyproject.toml")
    else:
        uv("--require-hashes", "--requirement", str(OWN_LOCKS.get(kind, LOCK)))
    if kind in ("full", "benchmark", "oldest"):
        uv("--no-deps", "--no-build-isolation", "--editable", ".")


def main() -> None:
    """Make the environment named on the command line, unless it is there already."""
    if len(sys.argv) != 2 or sys.argv[1] not in FOLDERS:
        sys.exit("usage: environment.py {}".format("|".join(FOLDERS)))
    kind = sys.argv[1]
    folder = ROOT / FOLDERS[kind]
    python = find_python()
    stamp, wanted = folder / ".complete", fingerprint(kind, python)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    try:
        install(kind, folder, python)
    except subprocess.CalledProcessError as error:
        sys.exit(f"Could not make {folder.name}: `{' '.join(map(str, error.cmd))}` failed.")
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
