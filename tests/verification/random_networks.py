"""Small random networks of every kind of layer that bounds can pass."""

import torch
from torch import nn

from within_epsilon.models import Classifier, Residual, mlp

SHAPES = {"mlp": (1, 2, 3), "leaky": (1, 2, 3), "normalized": (3, 2, 2)}


def _bodies():
    conv = nn.Conv2d
    return {
        "mlp": lambda: mlp(6, 7, 5, 3),
        "leaky": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(6, 6), nn.LeakyReLU(0.3), nn.Linear(6, 5, bias=False),
            nn.LeakyReLU(0.01), nn.Dropout(), nn.Linear(5, 3),
        ),
        "normalized": lambda: nn.Sequential(
            conv(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 6),
            nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3),
        ),
        "strided": lambda: nn.Sequential(
            conv(1, 2, 3, stride=2, padding=1), nn.ReLU(), conv(2, 4, 2, dilation=2, groups=2),
            nn.ReLU(), nn.Flatten(), nn.Linear(4, 3),
        ),
        "pooled": lambda: nn.Sequential(
            conv(1, 3, 2), nn.ReLU(), nn.MaxPool2d(2), conv(3, 2, 1), nn.MaxPool2d(2, stride=1),
            nn.Flatten(), nn.Linear(2, 3),
        ),
        "overlapping": lambda: nn.Sequential(
            conv(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 1, dilation=2),
            nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 2, padding=1), nn.Flatten(),
            nn.Linear(2, 3),
        ),
        "averaged": lambda: nn.Sequential(
            conv(1, 2, 3, padding="same"), nn.ReLU(), nn.AvgPool2d(2), conv(2, 3, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3),
        ),
        "residual": lambda: nn.Sequential(
            Residual(nn.Sequential(conv(1, 1, 3, padding=1), nn.ReLU(), conv(1, 1, 1))), nn.ReLU(),
            Residual(conv(1, 2, 1), nn.Sequential(conv(1, 2, 1), nn.ReLU())),
            nn.Flatten(), nn.Linear(50, 3),
        ),
    }  # fmt: skip


KINDS = tuple(_bodies())


def random_network(kind, seed, dtype=torch.float32):
    """Return a random classifier in eval mode, and the shape of its inputs."""
    torch.manual_seed(seed)
    body = _bodies()[kind]()
    shape = SHAPES.get(kind, (1, 5, 5))
    model = Classifier(body, 0.3, [0.5] * shape[0] if kind == "normalized" else 1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.8))
    model.train()
    model(torch.rand(20, *shape))  # running statistics that are not 0 and 1
    return model.eval().to(dtype), shape
