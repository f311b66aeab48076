"""What both attack: the networks for digits, one for MNIST trained here, SqueezeNet on crops."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.append(str(Path(__file__).resolve().parents[1] / "attacks"))
from subjects import Subject, keep_right, robust_digits, standard_digits

from within_epsilon.data import photo
from within_epsilon.models import Classifier, photo_classifier

STANDARD = {"steps": 100, "queries": 5000}


def mnist(path: Path, n: int = 200) -> Subject:
    """Return a small network trained on 9,800 MNIST digits, and the first n others."""
    with np.load(path) as file:
        images = torch.from_numpy(file["images"]).float().unsqueeze(1) / 255
        labels = torch.from_numpy(file["labels"]).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(
            *(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(400, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
        model = Classifier(body)
        train(model, images[200:], labels[200:])
    epsilons = {"linf": 0.1, "l2": 1.5, "l1": 10.0}
    return keep_right("MNIST", model.eval(), images[:n], labels[:n], epsilons)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 4) -> None:
    """Train with Adam, on digits with noise, which makes the network a little less brittle."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            noisy = (images[rows] + 0.2 * torch.randn_like(images[rows])).clamp(0, 1)
            optimizer.zero_grad()
            F.cross_entropy(model(noisy), labels[rows]).backward()
            optimizer.step()


def crops(size: int = 64) -> Subject:
    """Return SqueezeNet and crops of two photos, labelled by the network itself."""
    model = photo_classifier()
    views = [photo(name, size=2 * size) for name in ("chelsea", "coffee")]
    images = torch.cat(
        [
            view[..., top : top + size, left : left + size]
            for view in views
            for top in (0, size)
            for left in (0, size)
        ]
    )
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    epsilons = {"linf": 0.2 / 255, "l2": 0.06, "l1": 4.0}
    return Subject("crops of photos", model, images, labels, 0, epsilons)


def _mnist_file() -> Path:
    return Path(os.environ["WITHIN_EPSILON_DATA"]) / "mnist10k.npz"


# Name: a subject, and the settings that both attacks get.
SUBJECTS: dict[str, Callable[[], tuple[Subject, dict[str, Any]]]] = {
    "digits": lambda: (standard_digits(200), {**STANDARD, "seeds": 1}),
    "robust digits": lambda: (robust_digits(200), {**STANDARD, "seeds": 1}),
    "mnist": lambda: (mnist(_mnist_file()), {**STANDARD, "seeds": 1}),
    "crops": lambda: (crops(), {"steps": 10, "queries": 200, "seeds": 2}),
}
