"""The graph that an ONNX file holds."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from within_epsilon.verification.formats.wire import (
    all_of,
    fields,
    read_tensor,
    single,
    whole_numbers,
)

# The versions of ONNX's own operators whose meaning is the one that is read here.
OPSETS = (7, 25)


@dataclass(frozen=True, eq=False)
class Step:
    """One operator of a graph.

    Parameters
    ----------
    kind : str
        Its name in ONNX.
    inputs, outputs : list of str
        The values that it takes and returns, by name; "" for one that is left out.
    settings : dict
        Its attributes: numbers, lists of numbers, text, tensors.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """What a file holds.

    Parameters
    ----------
    steps : list of Step
        In the order in which they run.
    constants : dict from str to Tensor
        Weights and other numbers.
    input, output : str
        The one value that it takes, and the one that it returns.
    shape : tuple of int
        The input's, with 1 where the file leaves a size open.
    """

    steps: list[Step]
    constants: dict[str, Tensor]
    input: str
    output: str
    shape: tuple[int, ...]


def read_graph(content: bytes) -> Graph:
    """Read a file's graph.

    Raises
    ------
    ValueError
        If it is none, or takes or returns several values.
    """
    graphs = all_of(content, 7)
    if len(graphs) != 1:
        raise ValueError(f"expected an ONNX file with one graph, received {len(graphs)}")
    versions = [dict(fields(value)) for value in all_of(content, 8)]
    opset = next((found.get(2, 1) for found in versions if not found.get(1)), OPSETS[0])
    own = list(fields(graphs[0]))
    constants = dict(read_tensor(value) for number, value in own if number == 5)
    declared = [_value(value) for number, value in own if number == 11]
    # Old files list their weights among the inputs.
    inputs = [one for one in declared if one[0] not in constants]
    outputs = [_value(value)[0] for number, value in own if number == 12]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"expected a network with one input and one output, received {len(inputs)} and "
            f"{len(outputs)}"
        )
    steps = [_step(value) for number, value in own if number == 1]
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ValueError(f"expected an opset from {OPSETS[0]} to {OPSETS[1]}, received {opset}")
    return Graph(steps, constants, inputs[0][0], outputs[0], inputs[0][1])


def _value(content: bytes) -> tuple[str, tuple[int, ...]]:
    """Return a value's name and shape, of which open sizes are 1."""
    name = dict(fields(content))[1].decode()
    sizes = []
    for kind in all_of(content, 2):
        for tensor in all_of(kind, 1):
            for shape in all_of(tensor, 2):
                sizes = [dict(fields(size)).get(1, 1) for size in all_of(shape, 1)]
    return name, tuple(size if isinstance(size, int) else 1 for size in sizes)


def _step(content: bytes) -> Step:
    found = list(fields(content))
    names = {k: [value.decode() for number, value in found if number == k] for k in (1, 2, 4)}
    settings = dict(_setting(value) for number, value in found if number == 5)
    return Step(names[4][0], names[1], names[2], settings)


def _setting(content: bytes) -> tuple[str, Any]:
    """Return an attribute's name and value, whichever of its fields holds it."""
    parts = dict(fields(content))
    name = parts[1].decode()
    if 5 in parts:
        return name, read_tensor(parts[5])[1]
    if 8 in parts:
        return name, whole_numbers(all_of(content, 8))
    if 7 in parts:
        raw = b"".join(all_of(content, 7))
        return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).tolist()
    if 2 in parts:
        return name, single(parts[2])
    if 4 in parts:
        return name, parts[4].decode()
    return name, whole_numbers([parts.get(3, 0)])[0]
