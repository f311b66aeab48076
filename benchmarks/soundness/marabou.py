"""Ask Marabou what `exact` and `branch_and_bound` have decided, network by network.

    PYTHONPATH=lib:benchmarks python benchmarks/soundness/marabou.py [--seeds 4]

Needs maraboupy, onnx and onnxruntime beside the library. Networks go to Marabou as files that
`write_onnx` writes. Threat model: all inputs of a box; a network is safe there if the class of the
box's middle stays.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tables import text, versions, write
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.models import mlp
from within_epsilon.verification import Box, branch_and_bound, exact, rivals, write_onnx
from within_epsilon.widgets import digits_mlp

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS = 60
# Marabou's numbers are right to about 1e-6, exact's to 1e-3.
APART, GAP = 2e-3, 1e-3


def _leaky() -> nn.Module:
    layers = nn.Linear(6, 8), nn.LeakyReLU(0.1), nn.Linear(8, 6), nn.LeakyReLU(0.3)
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(6, 3))


def _strided() -> nn.Module:
    first = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU()
    return nn.Sequential(*first, nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


def _pooled() -> nn.Module:
    first = nn.Conv2d(1, 3, 2), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(12, 3))


RANDOM: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[float, float]]] = {
    "6-8-8-3": (lambda: mlp(6, 8, 8, 3), (1, 2, 3), (0.1, 0.3)),
    "6-6-6-6-3": (lambda: mlp(6, 6, 6, 6, 3), (1, 2, 3), (0.1, 0.3)),
    "leaky": (_leaky, (1, 2, 3), (0.1, 0.3)),
    "strided": (_strided, (1, 5, 5), (0.05, 0.15)),
    "pooled": (_pooled, (1, 5, 5), (0.05, 0.15)),
}
DIGITS, DIGIT_RADII = 5, (0.05, 0.1)


def questions(seeds: int) -> Iterator[tuple[str, float, nn.Module, Box, Tensor]]:
    """Yield a name, a radius, a network, a box of pixels around an input, and its label."""
    for name, (make, shape, radii) in RANDOM.items():
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = make().eval()
            for parameter in model.parameters():
                parameter.data = torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.8)
            image = torch.rand(1, *shape)
            for radius in radii:
                yield f"{name} {seed}", radius, model, *_around(model, image, radius)
    # Without its first layer, which subtracts 0 and divides by 1: Marabou reads none such.
    network, images = digits_mlp().body, digits().test.images
    for number in range(DIGITS):
        for radius in DIGIT_RADII:
            around = _around(network, images[number : number + 1], radius)
            yield f"digit {number}", radius, network, *around


def _around(model: nn.Module, image: Tensor, radius: float) -> tuple[Box, Tensor]:
    box = Box((image - radius).clamp(min=0), (image + radius).clamp(max=1))
    return box, model(image).argmax(dim=1)


class Marabou:
    """A network in a file, about which Marabou is asked.

    Parameters
    ----------
    model : the network
    box : where its inputs may lie
    label : the class that is to stay
    folder : where the file may be
    """

    def __init__(self, model: nn.Module, box: Box, label: Tensor, folder: Path) -> None:
        self.model, self.box, self.label = model, box, label
        self.path = folder / "network.onnx"
        write_onnx(self.path, model, box.lower.shape[1:])

    def reaches(self, value: float) -> tuple[str, Tensor | None]:
        """Say whether some margin in the box is `value` or less: sat, unsat or unknown."""
        from maraboupy import Marabou as library  # noqa: N813 - a module

        said = "unsat"
        for rival in rivals(self.label, self.model(self.box.lower).shape[1])[0].tolist():
            network = library.read_onnx(str(self.path))
            inputs, outputs = network.inputVars[0].flatten(), network.outputVars[0].flatten()
            ends = self.box.lower.flatten().tolist(), self.box.upper.flatten().tolist()
            for variable, low, high in zip(inputs, *ends, strict=True):
                network.setLowerBound(variable, low)
                network.setUpperBound(variable, high)
            pair = [outputs[self.label.item()], outputs[rival]]
            network.addInequality(pair, [1.0, -1.0], value)
            options = library.createOptions(verbosity=0, timeoutInSeconds=SECONDS)
            answer, found, _ = network.solve(verbose=False, options=options)
            if answer == "sat":
                point = torch.tensor([found[variable] for variable in inputs])
                return "sat", point.view_as(self.box.lower)
            if answer != "unsat":
                said = "unknown"
        return said, None


def ask(name: str, radius: float, model: nn.Module, box: Box, label: Tensor) -> dict[str, Any]:
    """Return what the three say, and whether they contradict each other."""
    row: dict[str, Any] = {"network": name, "radius": radius}
    for verify in (branch_and_bound, exact):
        start = time.perf_counter()
        settings = {"gap": GAP} if verify is branch_and_bound else {}
        (found,) = verify(model, box, label, time_limit=SECONDS, **settings)
        ends = {"status": found.status, "lower": found.lower, "upper": found.upper}
        short = {key: one if isinstance(one, str) else round(one, 6) for key, one in ends.items()}
        row[verify.__name__] = {**short, "seconds": round(time.perf_counter() - start, 2)}
    ours, start = row["branch_and_bound"], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        marabou = Marabou(model, box, label, Path(folder))
        sign, point = marabou.reaches(0.0)
        below, _ = marabou.reaches(ours["lower"] - APART)
        above, _ = marabou.reaches(ours["upper"] + APART)
    status = {"unsat": "proved", "sat": "refuted"}.get(sign, "unknown")
    row["marabou"] = {"status": status, "below": below, "above": above}
    row["marabou"]["seconds"] = round(time.perf_counter() - start, 2)
    if point is not None:
        point = point.float().clamp(box.lower, box.upper)
        logits = model(point)[0].double()
        margins = logits[label] - logits[rivals(label, len(logits))[0]]
        row["marabou"]["replayed"] = round(margins.min().item(), 6)
    row["verdict"] = judge(row)
    return row


def judge(row: dict[str, Any]) -> str:
    """Say whether all agree; "open" where somebody has not decided."""
    said = {row[name]["status"] for name in ("branch_and_bound", "exact", "marabou")}
    if {"proved", "refuted"} <= said or row["marabou"]["below"] == "sat":
        return "contradiction"
    if row["marabou"]["above"] == "unsat":
        return "contradiction"
    ends = [row[name][end] for end in ("lower", "upper") for name in ("branch_and_bound", "exact")]
    if max(ends[:2]) > min(ends[2:]) + APART:
        return "contradiction"
    said |= {row["marabou"]["below"], row["marabou"]["above"]}
    return "open" if "unknown" in said else "agree"


def main() -> None:
    """Compare, and print a line for each question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="random networks of each kind")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for question in questions(given.seeds):
        rows.append(ask(*question))
        print(*rows[-1].values(), flush=True)
        write("marabou", rows, versions(("maraboupy", "onnx", "onnxruntime")), RESULTS)
    short = [
        {"network": row["network"], "radius": row["radius"], "verdict": row["verdict"]}
        | {name: row[name]["status"] for name in ("branch_and_bound", "exact", "marabou")}
        for row in rows
    ]
    print(text(short))
    sys.exit(any(row["verdict"] == "contradiction" for row in rows))


if __name__ == "__main__":
    main()
