"""The project's own files: one address, a wheel that holds what it must, one lock."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PYPROJECT["project"]["urls"]["Homepage"]
UV = Path(sys.executable).with_name("uv")


def _tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return listing.stdout.split()


def test_everything_names_the_same_address():
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert re.findall(r"^  url: (\S+)$", config, re.MULTILINE) == [ADDRESS]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^repository-code: (\S+)$", citation, re.MULTILINE) == [ADDRESS]
    for path in sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))[1:]:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert f'repository = "{ADDRESS}"' in first
        assert f"@v{PYPROJECT['project']['version']}" in first
    version = (ROOT / "lib/within_epsilon/__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{PYPROJECT["project"]["version"]}"' in version


def test_the_address_moves_everywhere_at_once(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    new = "https://github.com/somebody/else-where"
    script = clone / ".ci" / "address.py"
    subprocess.run([sys.executable, str(script), new], check=True, capture_output=True)
    left = subprocess.run(
        ["git", "grep", "-c", ADDRESS.removeprefix("https://github.com/")],
        cwd=clone,
        capture_output=True,
        text=True,
    )
    assert left.stdout == ""
    refused = subprocess.run([sys.executable, str(script), "else-where"], capture_output=True)
    assert b"expected https://github.com/OWNER/NAME" in refused.stderr


def test_no_tracked_file_is_heavy_or_knows_one_machine():
    for name in _tracked():
        path = ROOT / name
        if not path.exists():  # deleted, and not yet committed
            continue
        assert path.stat().st_size < 1_600_000, name
        if path.suffix in {".py", ".md", ".ipynb", ".yml", ".toml", ".js", ""}:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"/(?:root|home)/\w", text), (
                f"{name} names a folder of one machine"
            )


def test_every_finding_has_a_row_and_every_row_a_finding():
    folder = ROOT / "findings"
    rows = re.findall(
        r"^\| `(\w+\.sh)` \|", (folder / "README.md").read_text("utf-8"), re.MULTILINE
    )
    scripts = {path.name for path in folder.glob("*.sh")} - {"environment.sh"}
    assert sorted(rows) == sorted(scripts)


def test_a_norm_has_one_name_wherever_it_is_read():
    wrong = "l" + "∞"
    text = [name for name in _tracked() if Path(name).suffix in (".ipynb", ".js", ".md", ".py")]
    assert [name for name in text if wrong in (ROOT / name).read_text(encoding="utf-8")] == []
    spelled = re.compile(r"(?<![\w\"'/.-])l(?:inf|[012])\b(?![\"'])")
    found = [(name, said) for name, said in _said() if spelled.search(said)]
    assert found == []


def test_k_counts_the_classes_wherever_it_is_read():
    counted = re.compile(r"\([^()]*\bK\b[^()]*\)|\bK classes|\bK [-+] 1\b")
    # A convolution's filters are K on the page that takes one apart.
    found = [said for name, said in _said() if counted.search(said) and "back" not in name]
    assert found == []


def _said():
    """Yield what readers meet in chapters and pages: prose without code, and printed lines."""
    for name in _tracked():
        text = (ROOT / name).read_text(encoding="utf-8") if name.endswith((".md", ".ipynb")) else ""
        blocks = [text] if name.startswith(("chapters/", "README", "CHANGELOG")) else []
        if name.endswith(".ipynb"):
            cells = json.loads(text)["cells"]
            blocks = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
            outputs = [output for cell in cells for output in cell.get("outputs", [])]
            blocks += ["".join(output.get("text", "")) for output in outputs]
        for block in blocks:
            prose = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "", block, flags=re.DOTALL)
            yield from ((name, line) for line in prose.splitlines())


def _asserts():
    for name in _tracked():
        text = (ROOT / name).read_text(encoding="utf-8") if name.endswith((".py", ".ipynb")) else ""
        cells = [text]
        if name.endswith(".ipynb"):
            code = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
            cells = ["".join(cell["source"]) for cell in code]
        for cell in cells:
            if "%pip" not in cell:
                nodes = ast.walk(ast.parse(cell))
                yield from ((name, node) for node in nodes if isinstance(node, ast.Assert))


def test_no_assertion_is_of_a_list_which_is_true_unless_it_is_empty():
    lists = (ast.List, ast.ListComp, ast.Tuple, ast.GeneratorExp, ast.Set, ast.SetComp, ast.Dict)
    found = list(_asserts())
    assert len(found) > 1000
    assert [(name, ast.unparse(n)) for name, n in found if isinstance(n.test, lists)] == []


def test_the_lock_pins_and_hashes_everything_that_is_asked_for():
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    groups = PYPROJECT["dependency-groups"].values()
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for requirement in sum([*groups, *extras], PYPROJECT["project"]["dependencies"]):
        name = re.match(r"[\w-]+", requirement)[0].lower()
        assert name in pinned, f"{requirement} is not in requirements.txt: run `make lock`"
    for block in re.split(r"\n(?=\S)", lock.strip()):
        if not block.startswith("#"):
            assert "--hash=sha256:" in block, block.splitlines()[0]
    assert "http://" not in lock
    assert "https://" not in lock


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [str(UV), "build", "--quiet", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", str(folder), str(ROOT)], check=True)
    return folder


def test_wheel_and_sdist_hold_what_they_must(distributions):
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = [name for name in _tracked() if name.startswith("lib/within_epsilon/")]
    assert len(modules) > 20
    for name in modules:
        assert name.removeprefix("lib/") in names
    for name in _tracked():
        if name.startswith("data/"):
            assert name.replace("data/", "within_epsilon/_shipped/", 1) in names
    assert any(name.endswith("LICENSE") for name in names)
    assert all(name.startswith(("within_epsilon/", "within_epsilon-")) for name in names), (
        "a stray file would land beside the package"
    )
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inner = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "data/registry.toml", *modules} <= inner


ATTACK_A_DIGIT = """
import sys
from within_epsilon.attacks import fgsm
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

model, test = digits_classifier(), digits().test
adversarial = fgsm(model, test.images, test.labels, Ball("linf", 0.1))
clean, attacked = (
    (model(images).argmax(1) == test.labels).float().mean().item()
    for images in (test.images, adversarial)
)
assert clean > 0.9 > 0.7 > attacked, (clean, attacked)
books = {"matplotlib", "anywidget", "ipywidgets", "skimage", "jupyter_book"} & set(sys.modules)
assert not books, books
print("fooled")
"""


def test_the_wheel_alone_attacks_a_digit(distributions, tmp_path):
    """Installed without the book's dependencies, away from the repository."""
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "venv")}
    environment.pop("PYTHONPATH", None)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    (wheel,) = distributions.glob("*.whl")
    uv = [str(UV), "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    lock = str(ROOT / "requirements.txt")
    subprocess.run(
        [*uv, "pip", "install", "--constraint", lock, str(wheel)], check=True, env=environment
    )
    done = subprocess.run(
        [str(python), "-c", ATTACK_A_DIGIT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fooled\n", done.stderr
