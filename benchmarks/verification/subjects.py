"""The networks and inputs that bounds are compared on, in float64."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within_epsilon.data import digits
from within_epsilon.data.files import cache_folder
from within_epsilon.models import digits_classifier, mlp
from within_epsilon.verification import Box, read_onnx, read_vnnlib


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and boxes of inputs.

    Parameters
    ----------
    name : str
        What it is.
    model : nn.Module
        In float64.
    others : dict from str to nn.Module
        The same function for others to bound, by how it is written down.
    box : Box
        N boxes.
    labels : Tensor of shape (N,)
        What the network says in their middle.
    """

    name: str
    model: nn.Module
    others: dict[str, nn.Module]
    box: Box
    labels: Tensor

    def first(self, n: int) -> "Subject":
        """Return the same with n boxes."""
        box = Box(self.box.lower[:n], self.box.upper[:n])
        return Subject(self.name, self.model, self.others, box, self.labels[:n])


def digits_mlp(epochs: int = 30) -> nn.Module:
    """Train a network of 64, 50, 20 and 10 numbers on digits, in float32."""
    torch.manual_seed(0)
    model, train = mlp(64, 50, 20, 10).float(), digits().train
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for some in torch.randperm(len(train.images)).split(32):
            loss = F.cross_entropy(model(train.images[some]), train.labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def subjects(n: int = 64) -> Iterator[Subject]:
    """Yield the networks, with n boxes each where there are so many."""
    images = digits().test.images[:n].double()
    model = digits_mlp().double()
    yield _around("MLP 64-50-20-10", model, {"layers": model}, images, 0.05)
    model = digits_classifier().double()
    layers = list(model.body)
    pooled = nn.Sequential(*layers[:3], _MaxOfFour(16), nn.ReLU(), *layers[5:]).eval()
    forms = {"max-pooling as ReLUs": pooled, "max-pooling": model.body}
    yield _around("digits CNN", model, forms, images, 0.05)
    folder = cache_folder() / "vnn" / "mnist_fc"
    if folder.exists():
        model = read_onnx(folder / "mnist-net_256x2.onnx").double()
        boxes = [read_vnnlib(folder / f"prop_{i}_0.03.vnnlib").parts[0] for i in range(10)]
        lower, upper = (
            torch.stack([getattr(box, end).double().flatten() for box in boxes]).view(-1, 1, 784, 1)
            for end in ("lower", "upper")
        )
        yield _of_boxes("MNIST 256x2", model, {"layers": model}, Box(lower, upper))


def _around(
    name: str, model: nn.Module, others: dict[str, nn.Module], images: Tensor, epsilon: float
) -> Subject:
    box = Box((images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1))
    return _of_boxes(name, model, others, box)


def _of_boxes(name: str, model: nn.Module, others: dict[str, nn.Module], box: Box) -> Subject:
    middle = (box.lower + box.upper) / 2
    with torch.no_grad():
        labels = model(middle).argmax(dim=1)
        for other in others.values():
            torch.testing.assert_close(other(middle), model(middle))
    return Subject(name, model, others, box, labels)


class _MaxOfFour(nn.Module):
    """2 x 2 max-pooling as max(a, b) = a + ReLU(b - a), the way in which ours bounds it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernels = {
            "left": [[1, 0], [0, 0]], "gain": [[-1, 1], [0, 0]],
            "low_left": [[0, 0], [1, 0]], "low_gain": [[0, 0], [-1, 1]],
        }  # fmt: skip
        for name, kernel in kernels.items():
            layer = nn.Conv2d(channels, channels, 2, stride=2, bias=False).double()
            with torch.no_grad():
                one = torch.tensor(kernel, dtype=torch.float64)
                layer.weight.copy_(torch.eye(channels).double()[..., None, None] * one)
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> Tensor:
        """Return the largest of each window."""
        high = self.left(images) + torch.relu(self.gain(images))
        low = self.low_left(images) + torch.relu(self.low_gain(images))
        return high + torch.relu(low - high)
