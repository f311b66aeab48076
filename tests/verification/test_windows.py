"""Coefficients in windows are the coefficients."""

import pytest
import torch
from torch import nn

from within_epsilon.models import Residual
from within_epsilon.threat import Ball
from within_epsilon.verification.domain import domain_of
from within_epsilon.verification.network import read_network
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.rounding import Arithmetic
from within_epsilon.verification.windows import Windows, units

conv = nn.Conv2d
BODIES = {
    "padded": lambda: [conv(1, 3, 3, padding=1), conv(3, 2, 3, padding=1), nn.ReLU()],
    "strided": lambda: [
        conv(1, 4, 3, stride=2, padding=1), nn.ReLU(),
        conv(4, 4, 2, stride=2, dilation=2, padding=2, groups=2), nn.ReLU(),
    ],
    "pooled": lambda: [
        conv(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), conv(2, 2, 2), nn.ReLU(),
        nn.AvgPool2d(2), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, stride=1, padding=1),
    ],
    "residual": lambda: [
        conv(1, 2, 3, padding=1), nn.BatchNorm2d(2),
        Residual(nn.Sequential(nn.ReLU(), conv(2, 2, 3, padding=1), nn.BatchNorm2d(2))),
        Residual(conv(2, 2, 2, stride=2), nn.Sequential(conv(2, 2, 3, padding=1), nn.ReLU(),
                                                        conv(2, 2, 2, stride=2))), nn.ReLU(),
    ],
}  # fmt: skip


def network_of(kind):
    torch.manual_seed(0)
    body = nn.Sequential(*BODIES[kind](), nn.Flatten(), nn.LazyLinear(3)).double()
    body(torch.rand(9, 1, 12, 11).double())
    return read_network(body.eval(), (1, 12, 11))


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize("kind", BODIES)
def test_bounds_through_windows_are_those_of_all_coefficients(kind, dtype):
    network = network_of(kind)
    images = torch.rand(2, 1, 12, 11, dtype=torch.float64)
    domain = domain_of(images, Ball("linf", 0.1), exactly=True)
    bounds = Bounds(network, domain, Arithmetic(dtype))
    bounds.extend_all()
    looked = 0
    for node in network.taken:
        shape = network.nodes[node].shape
        places = torch.randperm(shape.numel())[:40]
        lower, upper = bounds.ends(node, places)
        eye = torch.zeros(1, len(places), shape.numel(), dtype=torch.float64)
        eye[0, torch.arange(len(places)), places] = 1.0
        rows = eye.view(1, len(places), *shape)
        both = bounds.least(node, torch.cat([rows, -rows], dim=1))
        torch.testing.assert_close(torch.cat([lower, -upper], dim=1), both, rtol=0, atol=1e-9)
        (part,) = network.nodes[node].rule.back(units(shape, places))[:1]
        looked += isinstance(part, Windows)
    assert looked


def test_the_layer_before_a_relu_is_paid_with_it_or_by_itself_the_same():
    network = network_of("strided")
    images = torch.rand(2, 1, 12, 11, dtype=torch.float64)
    bounds = Bounds(network, domain_of(images, Ball("linf", 0.1), exactly=True),
                    Arithmetic(torch.float32))  # fmt: skip
    bounds.extend_all()
    last, rows = len(network.nodes) - 1, torch.randn(1, 4, 3, dtype=torch.float64)
    # Slopes that are given are those of the lines: only what is paid where differs.
    lines = {i: bounds.lines(i).lower.unsqueeze(1) for i in network.activations}
    together, apart = bounds.least(last, rows), bounds.least(last, rows, lines)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)
    real = Bounds(network, bounds.domain, Arithmetic(None))
    real.extend_all()
    assert (real.least(last, rows) - together > 1e-6).all()
