"""The library's shape: who may import whom, what names look like, what an import does."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "within_epsilon"

# What each module or package may import from the library. ANYTHING is for the ends of the
# chain, which nobody in the library may import.
ANYTHING = None
MAY_IMPORT = {
    "checks": set(),
    "parts": set(),
    "modes": {"parts"},
    "runtime": {"parts"},
    "wording": set(),
    "geometry": set(),
    "deep_compression": set(),
    "plots": {"wording"},
    "losses": {"checks"},
    "region": {"geometry"},
    "draws": {"geometry"},
    "threat": {"checks", "draws", "geometry", "region", "wording"},
    "data": {"runtime", "checks"},
    "models": {"runtime", "checks", "modes", "wording", "data", "deep_compression"},
    "attacks": {
        *("runtime", "checks", "modes", "wording", "draws", "geometry", "region", "threat"),
        "losses",
    },
    "defences": {"checks"},
    "reports": {"wording", "threat"},
    "evaluation": {
        *("runtime", "checks", "modes", "wording", "geometry", "losses", "threat", "data"),
        *("attacks", "reports"),
    },
    "training": {
        *("runtime", "checks", "modes", "losses", "threat", "data", "models", "attacks"),
        *("evaluation", "verification"),
    },
    "verification": {
        *("runtime", "checks", "modes", "geometry", "region", "threat", "models", "losses"),
        "attacks",
    },
    "grading": {"data"},
    "widgets": ANYTHING,
    "exercises": ANYTHING,
    "commands": ANYTHING,
}
FORBIDDEN_NAMES = {"eps", "nb_iter", "n_iter", "num_steps", "adv_images", "x_adv"}
LONGEST_MODULE, LONGEST_FUNCTION = 300, {"attacks": 40, "evaluation": 40}

FILES = sorted(path for path in LIBRARY.rglob("*.py") if "_shipped" not in path.parts)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
every_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix()
)


def module_name(path):
    """Return "attacks.gradient" for within_epsilon/attacks/gradient.py."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def imports(path):
    """Return the library's modules that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "within_epsilon":
                continue
            # The longest prefix that is a module; what follows is a name inside it.
            candidates = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
            found.add(next(filter(MODULES.__contains__, candidates), "__init__"))
    return found - {module_name(path)}


def test_the_contributors_table_is_what_modules_may_import():
    text = (LIBRARY.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.split("| Module | About | May import |\n|---|---|---|\n")[1].split("\n\n")[0]
    table = {}
    for row in rows.splitlines():
        modules, _, others = (cell.strip() for cell in row.strip("|").split("|"))
        for module in modules.split(", "):
            table[module.strip("`/")] = others
    everybody = {"runtime", "checks", "wording"}
    assert table == {
        name: "anything" if allowed is ANYTHING else ", ".join(sorted(allowed - everybody))
        for name, allowed in MAY_IMPORT.items()
    }


@every_file
def test_modules_import_only_what_they_may(path):
    own = module_name(path).split(".")[0]
    if own in ("__init__", "__main__"):
        return
    assert own in MAY_IMPORT, f"{own} is new: give it a line in MAY_IMPORT"
    others = {name.split(".")[0] for name in imports(path)} - {own, "__init__"}
    ends = {name for name, allowed in MAY_IMPORT.items() if allowed is ANYTHING}
    assert own == "commands" or not others & ends, "nobody imports the chain's ends"
    allowed = MAY_IMPORT[own]
    assert allowed is ANYTHING or others <= allowed, f"{own} may not import {others - allowed}"


def test_no_imports_go_in_circles():
    # Names that a package re-exports are found through it, so a package counts as a whole.
    graph = {name: imports(path) - {"__init__"} for name, path in MODULES.items()}
    packages = {name for name in MODULES if MODULES[name].name == "__init__.py"}
    for name, targets in graph.items():
        graph[name] = {t for t in targets if not (t in packages and name.startswith(f"{t}."))}
    TopologicalSorter(graph).prepare()


@every_file
def test_private_names_stay_in_their_module(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("within_epsilon"):
            private = [
                a.name for a in node.names if a.name.startswith("_") and a.name != "__version__"
            ]
            assert not private, f"{private} of {node.module}"


def defined_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@every_file
def test_names_are_ascii_and_the_fields_own(path):
    names = set(defined_names(TREES[path]))
    assert not [name for name in names if not name.isascii()]
    assert not names & FORBIDDEN_NAMES


@every_file
def test_nothing_happens_at_import(path):
    quiet = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for node in TREES[path].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        # A script's main() runs only when it is called by name.
        idle = ("TYPE_CHECKING", "__name__ == '__main__'")
        not_on_import = isinstance(node, ast.If) and ast.unparse(node.test) in idle
        assert isinstance(node, quiet) or docstring or not_on_import, ast.unparse(node)[:80]


@every_file
def test_modules_and_functions_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef):
            # The docstring does not count, nor does the signature.
            body = node.body[ast.get_docstring(node) is not None :]
            length = node.end_lineno - body[0].lineno + 1 if body else 0
            longest = LONGEST_FUNCTION.get(module_name(path).split(".")[0], 45)
            assert length <= longest, f"{node.name} has {length} lines"
