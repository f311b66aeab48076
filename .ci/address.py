"""Keep the repository's address in one place: `[project.urls]` in pyproject.toml.

    python3 .ci/address.py URL    # move the project: rewrites every file that names the address
    python3 .ci/address.py        # print the address

Files that name it are found by searching what git tracks, so a new chapter is covered too.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORM = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")


def current() -> str:
    """Return the address that pyproject.toml states."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Homepage"])


def mentions(address: str) -> list[Path]:
    """Return the tracked files that name the address."""
    command = ["git", "grep", "--name-only", "--fixed-strings", "-I", address]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return [ROOT / line for line in found.splitlines()]


def move(old: str, new: str) -> list[Path]:
    """Replace the old address, also in its Binder and Colab forms; return the changed files."""
    changed = []
    old_slug, new_slug = (url.removeprefix("https://github.com/") for url in (old, new))
    forms = {
        old: new,
        f"gh/{old_slug}": f"gh/{new_slug}",
        f"github/{old_slug}": f"github/{new_slug}",
    }
    for path in mentions(old):
        text = before = path.read_text(encoding="utf-8")
        for form, replacement in forms.items():
            # Only the whole name: an address may be the beginning of a longer one.
            text = re.sub(rf"{re.escape(form)}(?![\w-])", replacement, text)
        if text != before:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def main() -> None:
    """Print the address, or change it everywhere."""
    if len(sys.argv) == 1:
        print(current())
        return
    new = sys.argv[1].rstrip("/").removesuffix(".git")
    if not FORM.fullmatch(new):
        sys.exit(f"expected https://github.com/OWNER/NAME, got {sys.argv[1]!r}")
    for path in move(current(), new):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
