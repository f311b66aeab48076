"""Read networks from ONNX files, as far as the benchmarks of the field need it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# The parts of the format that are read, by their numbers in onnx.proto.
_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_FLOAT = 1


class _Step(NamedTuple):
    inputs: list[str]
    output: str
    kind: str
    settings: dict[str, float]


def read_onnx(path: str | Path) -> nn.Sequential:
    """Read a feed-forward network of linear layers and ReLUs.

    Parameters
    ----------
    path : str or Path
        An ONNX file that holds its weights, float32, one operator after the other: Flatten,
        Reshape to (N, D), MatMul, Gemm, Add, Sub, Relu.

    Returns
    -------
    nn.Sequential
        In eval mode. It takes inputs of any shape (N, ...), returns (N, K), and computes what
        the file says up to the order of summation.

    Raises
    ------
    ValueError
        If the file is none, or has another operator or another shape of graph.
    """
    steps, constants = _graph(Path(path).read_bytes())
    layers: list[nn.Module] = [nn.Flatten()]
    current: str | None = None
    for step in steps:
        others = [name for name in step.inputs if name not in constants]
        if len(others) != 1 or (current is not None and others != [current]):
            raise ValueError(
                f"{path}: expected one operator after the other, received {step.kind} of {others}"
            )
        values = [constants[name] for name in step.inputs if name in constants]
        layers += _layers(step, values, str(path))
        current = step.output
    return nn.Sequential(*_merged(layers)).eval()


def _layers(step: _Step, constants: list[Tensor], path: str) -> list[nn.Module]:
    kind, settings = step.kind, step.settings
    if kind in ("Flatten", "Reshape") and settings.get("axis", 1) == 1:
        return []
    if kind == "Relu":
        return [nn.ReLU()]
    if kind == "MatMul" and constants[0].ndim == 2:
        return [_linear(constants[0].T, None)]
    usual = settings.get("alpha", 1) == settings.get("beta", 1) == 1 and not settings.get("transA")
    if kind == "Gemm" and usual:
        weight = constants[0] if settings.get("transB") else constants[0].T
        return [_linear(weight, constants[1].flatten() if len(constants) > 1 else None)]
    if kind == "Add":
        return [_Shift(constants[0].flatten())]
    # Sub of a constant, which is 0 in many files; not the other way round.
    if kind == "Sub":
        return [_Shift(-constants[0].flatten())]
    raise ValueError(
        f"{path}: expected Flatten, Reshape, MatMul, Gemm, Add, Sub or Relu, received {kind} with "
        f"{settings}"
    )


class _Shift(nn.Module):
    """Stands for an addition until it is merged with a linear layer."""

    def __init__(self, amount: Tensor) -> None:
        super().__init__()
        self.amount = amount


def _merged(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """Put each addition into the linear layer before it; an addition of 0 is none."""
    before: nn.Module | None = None
    for layer in layers:
        if not isinstance(layer, _Shift):
            if before is not None:
                yield before
            before = layer
        elif isinstance(before, nn.Linear) and before.bias is None:
            before = _linear(before.weight.detach(), layer.amount)
        elif layer.amount.any():
            size = len(layer.amount)
            if size == 1:
                raise ValueError("expected an addition of as many numbers as there are, received 1")
            yield from [] if before is None else [before]
            before = _linear(torch.eye(size), layer.amount)
    if before is not None:
        yield before


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer


def _graph(content: bytes) -> tuple[list[_Step], dict[str, Tensor]]:
    """Return a file's operators in their order, and its constants."""
    graphs = [value for number, value in _fields(content) if number == _GRAPH]
    if len(graphs) != 1:
        raise ValueError(f"expected an ONNX file with one graph, received {len(graphs)}")
    steps, constants = [], {}
    for number, value in _fields(graphs[0]):
        if number == _NODE:
            steps.append(_step(value))
        elif number == _INITIALIZER:
            name, tensor = _tensor(value)
            constants[name] = tensor
    return steps, constants


def _step(content: bytes) -> _Step:
    found = list(_fields(content))
    names = {k: [value.decode() for number, value in found if number == k] for k in (1, 2, 4)}
    settings = {}
    for number, value in found:
        if number == 5:
            parts = dict(_fields(value))
            (single,) = struct.unpack("<f", parts[2]) if 2 in parts else (parts.get(3, 0),)
            settings[parts[1].decode()] = single
    return _Step(names[1], names[2][0], names[4][0], settings)


def _tensor(content: bytes) -> tuple[str, Tensor]:
    found = list(_fields(content))
    parts = dict(found)
    name = parts[8].decode()
    shape = [int(value) for number, value in found if number == 1]
    if parts[2] != _FLOAT:
        # A Reshape's new shape, which needs no reading.
        return name, torch.zeros(0)
    raw = parts[9] if 9 in parts else parts.get(4, b"")
    if len(raw) != 4 * int(np.prod(shape)):
        raise ValueError(f"{name}: expected its numbers in the file itself, received none of them")
    return name, torch.from_numpy(np.frombuffer(raw, "<f4").copy()).view(shape)


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield a message's fields: their numbers, and whole numbers or bytes."""
    at = 0
    while at < len(content):
        key, at = _whole(content, at)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, at = _whole(content, at)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                size, at = _whole(content, at)
            if size is None or at + size > len(content):
                raise ValueError("expected an ONNX file, received one that does not parse")
            value, at = content[at : at + size], at + size
        yield key >> 3, value


def _whole(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(content):
            raise ValueError("expected an ONNX file, received one that does not parse")
        number |= (content[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if content[at - 1] < 128:
            return number, at
