"""ONNX operators that are layers of torch's own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.verification.formats.onnx_ops import Settings, numbers, paddings


def linear(kind: str, constants: Sequence[Tensor | None], settings: Settings) -> nn.Linear | None:
    """Return MatMul or Gemm of a value and a constant matrix as a linear layer."""
    weight = constants[1]
    bias = constants[2] if len(constants) > 2 else None
    if weight is None or weight.ndim != 2 or settings.get("transA"):
        return None
    weight = weight if settings.get("transB") else weight.T
    if settings.get("alpha", 1.0) != 1 or (bias is not None and settings.get("beta", 1.0) != 1):
        return None
    if kind == "Gemm" and bias is not None and bias.numel() not in (1, len(weight)):
        return None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.flatten().expand(len(weight)).clone())
    return layer


def convolution(constants: Sequence[Tensor | None], settings: Settings) -> nn.Conv2d | None:
    """Return Conv as torch's, if it is one of images with the same padding on both sides."""
    weight = constants[1]
    bias = constants[2] if len(constants) > 2 else None
    if weight is None or settings.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    if weight.ndim != 4:
        return None
    kernel = weight.shape[2], weight.shape[3]
    stride, dilation = (settings.get(name) or [1, 1] for name in ("strides", "dilations"))
    pads = paddings([0, 0], kernel, stride, dilation, settings)
    if pads[0] != pads[1] or pads[2] != pads[3]:
        return None
    groups = settings.get("group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], kernel, tuple(stride), (pads[2], pads[0]),
        tuple(dilation), groups, bias is not None, dtype=weight.dtype,
    )  # fmt: skip
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer


def batch_norm(
    constants: Sequence[Tensor | None], settings: Settings, rank: int
) -> nn.Module | None:
    """Return BatchNormalization by running statistics."""
    scale, shift, mean, variance = constants[1:5]
    if scale is None or shift is None or mean is None or variance is None:
        return None
    if settings.get("training_mode"):
        raise ValueError("expected BatchNormalization by its own statistics, received training")
    kind = nn.BatchNorm2d if rank == 2 else nn.BatchNorm1d
    layer = kind(len(scale), eps=settings.get("epsilon", 1e-5), dtype=scale.dtype)
    with torch.no_grad():
        assert layer.running_mean is not None
        assert layer.running_var is not None
        for own, given in ((layer.weight, scale), (layer.bias, shift),
                           (layer.running_mean, mean), (layer.running_var, variance)):  # fmt: skip
            own.copy_(given)
    return layer.eval()


def scaling(scale: Tensor, shift: Tensor, rank: int) -> nn.Module:
    """Return a factor and a shift for each number of a line, or each channel of an image."""
    nothing = torch.zeros_like(scale), torch.ones_like(scale)
    layer = batch_norm((None, scale, shift, *nothing), {"epsilon": 0.0}, rank)
    assert layer is not None
    return layer


def pooling(
    kind: str, settings: Settings, constants: Sequence[Tensor | None] = ()
) -> nn.Module | None:
    """Return MaxPool, AveragePool or a mean over all places as torch's, if it is one."""
    if kind == "GlobalAveragePool":
        return nn.AdaptiveAvgPool2d(1)
    if kind == "ReduceMean":
        axes = numbers(constants, 1, settings, "axes") or []
        over = sorted(axis % 4 for axis in axes)
        return nn.AdaptiveAvgPool2d(1) if over == [2, 3] and settings.get("keepdims", 1) else None
    kernel = settings["kernel_shape"]
    stride, dilation = (settings.get(name) or [1, 1] for name in ("strides", "dilations"))
    if settings.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or len(kernel) != 2:
        return None
    pads = paddings([0, 0], kernel, stride, dilation, settings)
    ceil, sides = bool(settings.get("ceil_mode")), (pads[2], pads[0])
    if kind == "MaxPool" and pads[::2] == pads[1::2]:
        return nn.MaxPool2d(tuple(kernel), tuple(stride), sides, tuple(dilation), ceil_mode=ceil)
    if kind == "MaxPool" or any(pads) or ceil or any(d != 1 for d in dilation):
        return None
    return nn.AvgPool2d(tuple(kernel), tuple(stride))
