"""Write networks as ONNX files, for other programs to check what was found of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from within_epsilon.models import Layer, Normalize, read_layers
from within_epsilon.verification.formats.wire import write_field, write_tensor
from within_epsilon.verification.rounding import dtype_of

# Of the operators; any since 7 would do.
_OPSET = 13


def write_onnx(path: str | Path, model: nn.Module, shape: Sequence[int]) -> None:
    """Write a network as an ONNX file: what its layers are, and their weights.

    Parameters
    ----------
    path : str or Path
        The file, which is replaced if it exists.
    model : nn.Module
        In eval mode, of layers that `models.read_layers` reads, in float32 or float64.
    shape : sequence of int
        Of one input; the file's network takes `(1, *shape)`, "x", and returns (1, k), "y".

    Raises
    ------
    TypeError, ValueError
        If a layer cannot be read, or has settings that ONNX has no words for.
    """
    writer = _Writer(dtype_of(model))
    with torch.no_grad():
        outputs = model(torch.zeros(1, *shape, dtype=dtype_of(model)))
    last = writer.add_all(list(read_layers(model)), "x")
    writer.step("Identity", [last], output="y")
    ends = [
        write_field(11, _value("x", (1, *shape), writer.dtype)),
        write_field(12, _value("y", tuple(outputs.shape), writer.dtype)),
    ]
    graph = b"".join((write_field(2, "within_epsilon"), *writer.steps, *writer.weights, *ends))
    opset = write_field(8, write_field(1, "") + write_field(2, _OPSET))
    Path(path).write_bytes(write_field(1, 8) + write_field(7, graph) + opset)


class _Writer:
    """Steps and weights of a graph."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.steps: list[bytes] = []
        self.weights: list[bytes] = []

    def step(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str = "",
        **settings: int | float | list[int],
    ) -> str:
        """Add an operator, and return its output's name."""
        output = output or f"v{len(self.steps)}"
        parts = [write_field(1, name) for name in inputs] + [write_field(2, output)]
        parts += [write_field(4, kind)]
        parts += [write_field(5, _setting(name, value)) for name, value in settings.items()]
        self.steps.append(write_field(1, b"".join(parts)))
        return output

    def weight(self, tensor: Tensor) -> str:
        """Add a constant, and return its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(write_field(5, write_tensor(name, tensor.detach().to(self.dtype))))
        return name

    def add_all(self, layers: Sequence[Layer], source: str) -> str:
        """Add layers one after the other, and return the last output's name."""
        for layer in layers:
            source = self.add(layer, source)
        return source

    def add(self, layer: Layer, source: str) -> str:
        """Add a layer, and return its output's name."""
        module = layer.module
        if layer.kind in ("concat", "sum"):
            ends = [self.add_all(branch, source) for branch in layer.branches]
            if layer.kind == "concat":
                return self.step("Concat", ends, axis=1)
            source = ends[0]
            for end in ends[1:]:
                source = self.step("Add", [source, end])
            return source
        if isinstance(module, Normalize):
            mean, std = (self.weight(b.view(1, -1, 1, 1)) for b in (module.mean, module.std))
            return self.step("Div", [self.step("Sub", [source, mean]), std])
        if isinstance(module, nn.Linear):
            weights = [self.weight(w) for w in (module.weight, module.bias) if w is not None]
            return self.step("Gemm", [source, *weights], transB=1)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._batch_norm(module, source)
        if isinstance(module, nn.Conv2d):
            return self._convolution(module, source)
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            return self._pooling(module, source)
        if isinstance(module, nn.LeakyReLU):
            return self.step("LeakyRelu", [source], alpha=float(module.negative_slope))
        plain = {"relu": "Relu", "mean": "GlobalAveragePool", "flatten": "Flatten"}
        return self.step(plain[layer.kind], [source])

    def _batch_norm(self, module: nn.BatchNorm1d | nn.BatchNorm2d, source: str) -> str:
        assert module.running_mean is not None
        assert module.running_var is not None
        scale, shift = module.weight, module.bias
        if scale is None:
            scale, shift = (
                torch.ones_like(module.running_mean),
                torch.zeros_like(module.running_mean),
            )
        own = [self.weight(w) for w in (scale, shift, module.running_mean, module.running_var)]
        return self.step("BatchNormalization", [source, *own], epsilon=float(module.eps))

    def _convolution(self, module: nn.Conv2d, source: str) -> str:
        if module.padding_mode != "zeros":
            raise ValueError(f"model: expected padding by zeros, received {module.padding_mode}")
        weights = [self.weight(w) for w in (module.weight, module.bias) if w is not None]
        sides: list[tuple[int, int]]
        if isinstance(module.padding, str):
            spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
            same = module.padding == "same"
            sides = [(span // 2, span - span // 2) if same else (0, 0) for span in spans]
        else:
            sides = [(p, p) for p in module.padding]
        return self.step(
            "Conv", [source, *weights], kernel_shape=[*module.kernel_size],
            strides=[*module.stride], dilations=[*module.dilation], group=module.groups,
            pads=[first for first, _ in sides] + [last for _, last in sides],
        )  # fmt: skip

    def _pooling(self, module: nn.MaxPool2d | nn.AvgPool2d, source: str) -> str:
        kernel, stride, padding = map(_pair, (module.kernel_size, module.stride, module.padding))
        pads = padding * 2
        ceil = int(module.ceil_mode)
        if isinstance(module, nn.MaxPool2d):
            dilations = _pair(module.dilation)
            return self.step(
                "MaxPool", [source], kernel_shape=kernel, strides=stride, pads=pads,
                dilations=dilations, ceil_mode=ceil,
            )  # fmt: skip
        if module.divisor_override is not None or ceil:
            raise ValueError("model: expected AvgPool2d without divisor_override and ceil_mode")
        counted = int(module.count_include_pad)
        return self.step(
            "AveragePool", [source], kernel_shape=kernel, strides=stride, pads=pads,
            count_include_pad=counted,
        )  # fmt: skip


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else [*value]


def _setting(name: str, value: int | float | list[int]) -> bytes:
    """Encode an attribute with its type: a float, a whole number, or a list of these."""
    if isinstance(value, float):
        content = write_field(2, value) + write_field(20, 1)
    elif isinstance(value, int):
        content = write_field(3, value) + write_field(20, 2)
    else:
        content = b"".join(write_field(8, one) for one in value) + write_field(20, 7)
    return write_field(1, name) + content


def _value(name: str, shape: Sequence[int], dtype: torch.dtype) -> bytes:
    """Encode what a graph takes or returns."""
    sizes = b"".join(write_field(1, write_field(1, size)) for size in shape)
    code = 1 if dtype == torch.float32 else 11
    return write_field(1, name) + write_field(
        2, write_field(1, write_field(1, code) + write_field(2, sizes))
    )
