"""Export SqueezeNet's logits, and its logits and input gradient, to ONNX.

ONNX has no automatic differentiation, so the gradient is traced as a function of its own; two
adjoints that ONNX does not know are written as operations that it does.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from within_epsilon.models import photo_classifier

aten = torch.ops.aten


def convolution_adjoint(
    gradient: Tensor, images: Tensor, weight: Tensor, _: Any, stride: Any, padding: Any, *rest: Any
) -> tuple[Tensor, None, None]:
    """Return the gradient in the images: a transposed convolution, undilated and ungrouped."""
    missed = [
        images.shape[2 + i]
        - ((gradient.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + weight.shape[2 + i])
        for i in range(2)
    ]
    assert rest[0] == [1, 1]
    settings = (stride, padding, [1, 1], True, missed, 1)
    return aten.convolution(gradient, weight, None, *settings), None, None


def max_pool_adjoint(gradient: Tensor, images: Tensor, *settings: Any) -> Tensor:
    """Return the gradient in the images: each number added where its maximum was."""
    where = settings[-1]
    flat = torch.zeros_like(images).flatten(2)
    return flat.scatter_add(2, where.flatten(2), gradient.flatten(2)).view(images.shape)


ADJOINTS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_adjoint,
    aten.max_pool2d_with_indices_backward.default: max_pool_adjoint,
    **get_decompositions([aten.threshold_backward, aten._log_softmax_backward_data]),
}


class Logits(nn.Module):
    """A classifier without its checks, which cannot be exported."""

    def __init__(self) -> None:
        super().__init__()
        self.model = photo_classifier().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        logits: Tensor = self.model.body((images - self.model.mean) / self.model.std)
        return logits


class Gradient(nn.Module):
    """Logits, and the gradient of the cross-entropy in the images."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = Logits()

    def forward(self, images: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both."""

        def loss(images: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.logits(images)
            return -(F.log_softmax(logits, 1) * one_hot).sum(), logits

        gradient, logits = torch.func.grad(loss, has_aux=True)(images)
        return logits, gradient


def export(folder: Path) -> None:
    """Write forward.onnx and gradient.onnx."""
    warnings.simplefilter("ignore")
    images, one_hot = torch.rand(1, 3, 224, 224), F.one_hot(torch.tensor([285]), 1000).float()
    write = partial(torch.onnx.export, dynamo=True, external_data=False, verbose=False)
    target = folder / "forward.onnx"
    write(Logits(), (images,), target, input_names=["images"], output_names=["logits"])
    traced = make_fx(Gradient(), decomposition_table=ADJOINTS)(images, one_hot)
    program = torch.export.export(traced, (images, one_hot))
    given, found = ["images", "one_hot"], ["logits", "gradient"]
    write(program, (), folder / "gradient.onnx", input_names=given, output_names=found)
