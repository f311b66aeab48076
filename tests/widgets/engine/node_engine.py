"""The page's engine, run by Node."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from within_epsilon.widgets.engine import ENGINE

RUN = Path(__file__).with_name("run.mjs")
OLDEST = (20, 19)  # the first that takes a .js file for a module when it looks like one


@cache
def missing() -> str:
    """Return why there is no Node to run the engine, or an empty string."""
    path = shutil.which("node")
    if path is None:
        return "Node is not installed"
    text = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    version = tuple(map(int, re.findall(r"\d+", text)[:2]))
    return "" if version >= OLDEST else f"Node {text.strip()} is older than 20.19"


def encode(data: bytes | Tensor) -> str:
    """Return bytes, or a tensor as float32, in base64."""
    raw = data if isinstance(data, bytes) else data.float().contiguous().numpy().tobytes()
    return base64.b64encode(raw).decode()


def decode(text: str, kind: Any = np.float32) -> Tensor:
    """Return the numbers in a base64 text, flat."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), kind).copy())


def call(task: str, kernels: str = "wasm", **job: Any) -> Any:
    """Run one task of run.mjs and return its answer."""
    message = json.dumps({"task": task, "kernels": kernels, "engine": str(ENGINE), **job})
    done = subprocess.run(["node", RUN], input=message, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass
class Network:
    """A network as the engine takes it."""

    description: dict[str, Any]
    weights: bytes
    format: str = "safetensors"

    def job(self) -> dict[str, Any]:
        """Return this network's part of a job."""
        return {
            "description": self.description,
            "weights": encode(self.weights),
            "format": self.format,
        }


@dataclass
class Gradient:
    """What the engine found for one image, and on which linear piece of the network."""

    logits: Tensor
    loss: float
    gradient: Tensor
    pieces: list[Tensor]


def gradients(
    network: Network, images: Tensor, labels: Tensor, kernels: str = "wasm"
) -> list[Gradient]:
    """Let the engine compute the loss and its gradient, one image after the other."""
    answer = call(
        "gradients",
        kernels,
        network=network.job(),
        images=[encode(image) for image in images],
        labels=labels.tolist(),
    )
    assert answer["kernels"] == kernels
    return [
        Gradient(
            decode(found["logits"]),
            found["loss"],
            decode(found["gradient"]).view(images.shape[1:]),
            [decode(p["data"], p["type"]) for p in found["pieces"]],
        )
        for found in answer["results"]
    ]
