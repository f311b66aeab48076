"""From an ONNX graph to torch's layers, in Sequential and Residual."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from within_epsilon.verification.formats.draft import Draft, Value
from within_epsilon.verification.formats.onnx_graph import Graph, Step
from within_epsilon.verification.formats.onnx_native import (
    batch_norm,
    convolution,
    linear,
    pooling,
    scaling,
)
from within_epsilon.verification.formats.onnx_ops import Settings, run
from within_epsilon.verification.formats.wire import DTYPES

# Operators that leave all numbers as they are and in their order.
_SAME = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
# Affine in one value while all others are constant; in several at once.
_AFFINE = (
    "AveragePool", "BatchNormalization", "Conv", "Div", "Expand", "Gather", "Gemm",
    "GlobalAveragePool", "MatMul", "Mul", "Neg", "Pad", "ReduceMean", "ReduceSum", "Slice",
    "Split", "Transpose",
)  # fmt: skip
_JOINT = ("Add", "Sub", "Concat")
_KINKED = ("Relu", "LeakyRelu", "MaxPool")
_CONSTANT = ("Constant", "ConstantOfShape")
# A constant for each number.
_BY_NUMBER = ("Add", "Sub", "Mul", "Div")
# What is taken for granted: of constants, of shapes, and between equal types.
_GRANTED = ("Cast", "Shape")
OPERATORS = tuple(sorted({*_SAME, *_AFFINE, *_JOINT, *_KINKED, *_CONSTANT}))

_ON_IMAGES = ("Conv", "AveragePool", "GlobalAveragePool", "BatchNormalization", "ReduceMean")

# A matrix that is larger than this is not formed.
MOST_NUMBERS = 2**24


def layers_of(graph: Graph) -> tuple[list[nn.Module], tuple[int, ...]]:
    """Return a graph as layers, and the shape of one input.

    Raises
    ------
    ValueError
        If it has an operator that is not read here, or is no series of layers and branches.
    """
    draft = Draft()
    kinds = {value.dtype for value in graph.constants.values() if value.is_floating_point()}
    draft.dtype = torch.float64 if kinds == {torch.float64} else torch.float32
    values: dict[str, Value | Tensor] = {**graph.constants, graph.input: Value(0, graph.shape)}
    for step in graph.steps:
        if step.kind not in (*OPERATORS, *_GRANTED):
            raise ValueError(f"expected operators {', '.join(OPERATORS)}, received {step.kind}")
        missing = [name for name in step.inputs if name and name not in values]
        if missing:
            raise ValueError(f"expected values that are computed before, received {missing[0]!r}")
        taken = [values[name] if name else None for name in step.inputs]
        settings = {**step.settings, "outputs": len(step.outputs)}
        values |= dict(zip(step.outputs, _outputs(draft, step, taken, settings), strict=False))
    last = values.get(graph.output)
    if not isinstance(last, Value):
        raise ValueError("expected a network whose output depends on its input")
    end = draft.flat(last)
    shape = draft.shapes[0]
    assert shape is not None
    return draft.chain(end, 0), shape


def _outputs(
    draft: Draft, step: Step, taken: Sequence[Value | Tensor | None], settings: Settings
) -> Sequence[Value | Tensor]:
    """Return what a step returns: constants, or values with nodes of their own."""
    live = [value for value in taken if isinstance(value, Value)]
    constants = [None if isinstance(value, Value) else value for value in taken]
    if step.kind == "Shape" and live:
        return run("Shape", [torch.empty(live[0].shape)], settings)
    if not live and step.kind not in _KINKED:
        return run(step.kind, constants, settings)
    if step.kind == "Dropout" and constants[2:] and constants[2] is not None and constants[2].any():
        raise ValueError("expected Dropout that does nothing, received one that is training")
    first = taken[0] if isinstance(taken[0], Value) else None
    if first is not None and _is_same(draft, step.kind, settings):
        example = run(step.kind, [torch.empty(first.shape), *constants[1:]], settings)[0]
        return [Value(first.node, tuple(example.shape))]
    if first is not None and step.kind in _KINKED:
        return [_kinked(draft, step.kind, first, settings)]
    if step.kind == "Add" and len({value.shape for value in live}) == 1 < len(live):
        return [_sum(draft, live)]
    alone = len(live) == 1 and step.kind in _AFFINE and (first is not None or step.kind != "Div")
    if len(live) == 1 and (alone or step.kind in _JOINT):
        found = _native(draft, step, live[0], taken, settings)
        if found is not None:
            return [found]
    if alone or (live and step.kind in _JOINT):
        return _affine(draft, step.kind, taken, settings)
    raise ValueError(
        f"expected {step.kind} of constants and one value that depends on the input, received "
        f"one of {len(live)}"
    )


def _sum(draft: Draft, values: Sequence[Value]) -> Value:
    """Return the sum of values of one shape: as an image if all are images."""
    images = [draft.image(value) for value in values]
    nodes = [node for node in images if node is not None]
    if len(nodes) < len(values):
        nodes = [draft.flat(value) for value in values]
    shape = draft.shapes[nodes[0]]
    assert shape is not None
    return Value(draft.add(None, shape, *nodes), values[0].shape)


def _is_same(draft: Draft, kind: str, settings: Settings) -> bool:
    """Tell whether an operator leaves all numbers as they are and in their order."""
    return kind in _SAME or (kind == "Cast" and DTYPES.get(settings["to"]) == draft.dtype)


def _kinked(draft: Draft, kind: str, value: Value, settings: Settings) -> Value:
    if kind != "MaxPool":
        layer = nn.ReLU() if kind == "Relu" else nn.LeakyReLU(settings.get("alpha", 0.01))
        node = draft.flat(value) if draft.shapes[value.node] is None else value.node
        shape = draft.shapes[node]
        assert shape is not None
        return Value(draft.add(layer, shape, node), value.shape)
    source, pool = draft.image(value), pooling(kind, settings)
    if source is None or pool is None:
        raise ValueError(f"expected MaxPool of images, alike on both sides, received {settings}")
    return _placed(draft, pool, source)


def _placed(draft: Draft, layer: nn.Module, source: int) -> Value:
    """Add a layer that takes one example's line or image, and returns one."""
    shape = draft.shapes[source]
    assert shape is not None
    with torch.no_grad():
        made = layer(torch.zeros(1, *shape, dtype=draft.dtype))
    node = draft.add(layer, tuple(made.shape[1:]), source)
    return Value(node, tuple(made.shape))


def _native(
    draft: Draft, step: Step, value: Value, taken: Sequence[Value | Tensor | None],
    settings: Settings,
) -> Value | None:  # fmt: skip
    """Return the value of torch's own layer for a step, if there is one."""
    constants = [None if isinstance(one, Value) else one for one in taken]
    kind = step.kind
    if kind in _BY_NUMBER:
        return _each(draft, kind, value, taken)
    if taken[0] is not value:
        return None
    line = value.shape[:1] == (1,) and len(value.shape) == 2
    if line and kind in ("Gemm", "MatMul", "BatchNormalization"):
        norm = kind == "BatchNormalization"
        layer = batch_norm(constants, settings, 1) if norm else linear(kind, constants, settings)
        return None if layer is None else _placed(draft, layer, draft.flat(value))
    source = draft.image(value) if kind in _ON_IMAGES else None
    if source is None:
        return None
    made: nn.Module | None
    if kind == "Conv":
        made = convolution(constants, settings)
    elif kind == "BatchNormalization":
        made = batch_norm(constants, settings, 2)
    else:
        made = pooling(kind, settings, constants)
    return None if made is None else _placed(draft, made, source)


def _each(
    draft: Draft, kind: str, value: Value, taken: Sequence[Value | Tensor | None]
) -> Value | None:
    """Return a value whose numbers are each scaled and shifted by a constant."""
    first, other = taken[0] is value, taken[1] if taken[0] is value else taken[0]
    assert isinstance(other, Tensor)
    if np.broadcast_shapes(value.shape, other.shape) != value.shape:
        return None
    if not other.any() and (kind == "Add" or (kind == "Sub" and first)):
        return value
    other = other.to(draft.dtype).expand(value.shape)
    scale = {"Mul": other, "Div": 1 / other}.get(kind, torch.ones_like(other))
    scale = scale if first or kind != "Sub" else -scale
    shift = {"Add": other, "Sub": -other if first else other}.get(kind, torch.zeros_like(other))
    if kind in ("Add", "Sub") and first and (merged := _merged(draft, value, shift)) is not None:
        return merged
    source = draft.image(value)
    if source is None:
        layer = scaling(scale.flatten(), shift.flatten(), 1)
        return replace(_placed(draft, layer, draft.flat(value)), shape=value.shape)
    scale, shift = (one.movedim(1, 0).flatten(1) for one in (scale, shift))
    if (scale != scale[:, :1]).any() or (shift != shift[:, :1]).any():
        return None
    return _placed(draft, scaling(scale[:, 0], shift[:, 0], 2), source)


def _merged(draft: Draft, value: Value, amount: Tensor) -> Value | None:
    """Return a value with something added in the linear layer that it comes from."""
    before = draft.layers[value.node]
    if not isinstance(before, nn.Linear) or before.bias is not None:
        return None
    # (A copy: another name of the product without the sum would see the sum.)
    layer = nn.Linear(before.in_features, before.out_features, dtype=draft.dtype)
    layer.weight, layer.bias = before.weight, nn.Parameter(amount.flatten().clone())
    return Value(draft.add(layer, (amount.numel(),), *draft.sources[value.node]), value.shape)


@torch.no_grad()
def _affine(
    draft: Draft, kind: str, taken: Sequence[Value | Tensor | None], settings: Settings
) -> Sequence[Value]:
    """Add an operator as the sum of its values' own linear maps."""
    dtype = draft.dtype
    zeros = [torch.zeros(v.shape, dtype=dtype) if isinstance(v, Value) else v for v in taken]
    start = run(kind, zeros, settings)
    places = [i for i, one in enumerate(taken) if isinstance(one, Value)]
    found = []
    for number, shift in enumerate(start):
        parts = [
            _part(draft, kind, taken, zeros, settings, number, place, shift if k == 0 else None)
            for k, place in enumerate(places)
        ]
        # Several values add up; floats are not told how the file would have done it.
        node = parts[0] if len(parts) == 1 else draft.add(None, (shift.numel(),), *parts)
        found.append(Value(node, tuple(shift.shape)))
    return found


def _part(
    draft: Draft, kind: str, taken: Sequence[Value | Tensor | None],
    zeros: Sequence[Tensor | None], settings: Settings, number: int, place: int,
    shift: Tensor | None,
) -> int:  # fmt: skip
    """Add the linear map of one of an operator's values; the first one has the constant."""
    value = taken[place]
    assert isinstance(value, Value)
    start = run(kind, zeros, settings)[number]
    size, out = math.prod(value.shape), start.numel()
    if size * out > MOST_NUMBERS:
        raise ValueError(f"expected {kind} of fewer numbers, received {size} to {out}")

    def reply(basis: Tensor) -> Tensor:
        inputs = [*zeros]
        inputs[place] = basis.view(value.shape)
        return (run(kind, inputs, settings)[number] - start).flatten()

    matrix = torch.stack([reply(row) for row in torch.eye(size, dtype=draft.dtype)], dim=1)
    constant = None if shift is None or not shift.any() else shift.flatten()
    if constant is None and size == out and bool((matrix == torch.eye(size)).all()):
        return draft.flat(value)
    layer = nn.Linear(size, out, bias=constant is not None, dtype=draft.dtype)
    layer.weight = nn.Parameter(matrix.contiguous())
    if constant is not None:
        layer.bias = nn.Parameter(constant.clone())
    return draft.add(layer, (out,), draft.flat(value))
