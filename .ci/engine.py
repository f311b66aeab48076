"""Put the engine where the built pages find it: its modules, networks, weights and a manifest.

    python .ci/engine.py FOLDER

Needs no torch. Weights that cannot be had are named in the manifest as missing, so that a page can
say so and replay what its notebook recorded.
"""

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "lib" / "within_epsilon"
ENGINE = LIBRARY / "widgets" / "frontend" / "engine"
MODULES = ("*.js", "kernels.wasm", "digits.bin", "networks/*.json")
PATIENCE = 5.0  # seconds of a server's silence: a book can do without
# Comments on lines of their own, and indentation.
UNSAID = re.compile(rb"^\s*//.*\n|^\s*/\*\*[\s\S]*?\*/\n|^ +", re.MULTILINE)
# Network: file of weights, its format, licence of those who made it.
NETWORKS = {
    "digits_cnn": ("digits_cnn.safetensors", "safetensors", None),
    "squeezenet1_0": (
        "compressed_SqueezeNet.net",
        "deep-compression",
        "SqueezeNet-Deep-Compression.txt",
    ),
}


def files() -> Any:
    """Return the library's module that finds and fetches files, without the library's torch."""
    spec = importlib.util.spec_from_file_location("files", LIBRARY / "data" / "files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["TIMEOUT"] = PATIENCE
    return module


def find(name: str) -> Path:
    """Return a file of weights: one that ships with the library, or one that it fetches."""
    source = files()
    path = source.fetch(name) if name in source.registry() else source.shipped(name)
    return Path(path)


def slim(source: Path) -> bytes:
    """Return a file as pages load it: a script without comments and indentation."""
    content = source.read_bytes()
    return UNSAID.sub(b"", content) if source.suffix == ".js" else content


def place_weights(network: str, target: Path) -> dict[str, Any]:
    """Copy a network's weights under a name with their hash; return its part of the manifest."""
    name, weights_format, licence = NETWORKS[network]
    entry: dict[str, Any] = {"network": f"networks/{network}.json"}
    try:
        content = find(name).read_bytes()
    except OSError as error:
        reason = f"{str(error).splitlines()[0]} See data/README.md."
        print(f"Pages will replay {network} and not run it: {reason}", file=sys.stderr)
        return entry | {"missing": f"The weights of {network} were not there when this was built."}
    sha256 = hashlib.sha256(content).hexdigest()
    path = Path("weights", name)
    path = path.with_suffix(f".{sha256[:12]}{path.suffix}")
    target.joinpath(path).write_bytes(content)
    if licence:
        shutil.copyfile(ROOT / "data" / "licences" / licence, target / "weights" / licence)
        entry["licence"] = f"weights/{licence}"
    facts = {"format": weights_format, "size": len(content), "sha256": sha256}
    return entry | {"weights": {"url": path.as_posix(), **facts}}


def place(target: Path) -> dict[str, str]:
    """Fill a folder with all that a page loads to run a network; return what is missing."""
    shutil.rmtree(target, ignore_errors=True)
    for pattern in MODULES:
        for source in ENGINE.glob(pattern):
            copy = target / source.relative_to(ENGINE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(slim(source))
    target.joinpath("weights").mkdir()
    manifest = {network: place_weights(network, target) for network in NETWORKS}
    target.joinpath("manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return {name: entry["missing"] for name, entry in manifest.items() if "missing" in entry}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"expected a folder to fill: python {sys.argv[0]} FOLDER")
    place(Path(sys.argv[1]))
