"""What ONNX's operators compute: for constants, and to find the matrix of an affine one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from within_epsilon.verification.formats.wire import DTYPES

Settings = dict[str, Any]
Operator = Callable[[Sequence[Tensor | None], Settings], Tensor | Sequence[Tensor]]


def run(kind: str, inputs: Sequence[Tensor | None], settings: Settings) -> Sequence[Tensor]:
    """Compute an operator's outputs."""
    found = TABLE[kind](inputs, settings)
    return [found] if isinstance(found, Tensor) else found


def numbers(values: Sequence[Tensor | None], place: int, settings: Settings, name: str) -> Any:
    """Return a list of whole numbers, which newer versions pass as an input, older ones set."""
    given = values[place] if place < len(values) else None
    return settings.get(name) if given is None else given.flatten().tolist()


def _given(values: Sequence[Tensor | None]) -> list[Tensor]:
    return [value for value in values if value is not None]


def _gemm(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    a, b, *rest = _given(values)
    a = a.T if settings.get("transA") else a
    b = b.T if settings.get("transB") else b
    product: Tensor = settings.get("alpha", 1.0) * (a @ b)
    shift: Tensor | float = settings.get("beta", 1.0) * rest[0] if rest else 0.0
    return product + shift


def _conv(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, weight, *bias = _given(values)
    rank = x.ndim - 2
    stride, dilation = (settings.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = paddings(x.shape[2:], weight.shape[2:], stride, dilation, settings)
    convolve: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    groups = settings.get("group", 1)
    result: Tensor = convolve(
        F.pad(x, pads), weight, bias[0] if bias else None, stride, 0, dilation, groups
    )
    return result


def paddings(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    settings: Settings,
) -> list[int]:  # fmt: skip
    """Return how many zeros stand around, in the order of `F.pad`: from the last dimension on."""
    rank, kind = len(sizes), settings.get("auto_pad", "NOTSET")
    begins, ends = [0] * rank, [0] * rank
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            windows = -(-sizes[i] // stride[i])
            lack = max(0, (windows - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - sizes[i])
            begins[i] = lack // 2 if kind == "SAME_UPPER" else lack - lack // 2
            ends[i] = lack - begins[i]
    elif kind == "NOTSET" and settings.get("pads"):
        # A file that names fewer pads than there are sides leaves out zeros.
        pads = settings["pads"]
        if len(pads) != 2 * rank and any(pads):
            raise ValueError(f"expected {2 * rank} pads, received {pads}")
        if len(pads) == 2 * rank:
            begins, ends = pads[:rank], pads[rank:]
    return [pad for i in reversed(range(rank)) for pad in (begins[i], ends[i])]


def _average(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    (x,) = _given(values)
    kernel, rank = settings["kernel_shape"], x.ndim - 2
    stride = settings.get("strides") or [1] * rank
    pads = paddings(x.shape[2:], kernel, stride, [1] * rank, settings)
    if settings.get("ceil_mode") or any(d != 1 for d in settings.get("dilations") or [1]):
        raise ValueError("expected AveragePool without ceil_mode and dilations")
    pool: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    mean = pool(F.pad(x, pads), kernel, stride)
    if settings.get("count_include_pad") or not any(pads):
        return mean
    return mean / pool(F.pad(torch.ones_like(x), pads), kernel, stride)


def _batch_norm(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, scale, shift, mean, variance = _given(values)
    to = [-1] + [1] * (x.ndim - 2)
    root: Tensor = (variance + settings.get("epsilon", 1e-5)).sqrt()
    return (x - mean.view(to)) / root.view(to) * scale.view(to) + shift.view(to)


def _reshape(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, shape = _given(values)[0], list(numbers(values, 1, settings, "shape"))
    if not settings.get("allowzero"):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(shape)


def _flatten(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    (x,) = _given(values)
    axis = settings.get("axis", 1)
    first = x.shape[: axis % x.ndim if axis != x.ndim else axis].numel()
    return x.reshape(first, -1)


def _squeeze(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, axes = _given(values)[0], numbers(values, 1, settings, "axes")
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, axes = _given(values)[0], numbers(values, 1, settings, "axes")
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x = _given(values)[0]
    starts, ends = (numbers(values, k, settings, name) for k, name in ((1, "starts"), (2, "ends")))
    axes = numbers(values, 3, settings, "axes") or list(range(len(starts)))
    steps = numbers(values, 4, settings, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = torch.tensor(range(x.shape[axis])[start:end:step], dtype=torch.int64)
        x = x.index_select(axis, places)
    return x


def _split(values: Sequence[Tensor | None], settings: Settings) -> Sequence[Tensor]:
    x, sizes = _given(values)[0], numbers(values, 1, settings, "split")
    axis = settings.get("axis", 0)
    if sizes is None:
        number = settings.get("num_outputs") or settings["outputs"]
        size = -(-x.shape[axis] // number)
        sizes = [min(size, x.shape[axis] - size * i) for i in range(number)]
    return torch.split(x, sizes, dim=axis)


def _pad(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, pads = _given(values)[0], numbers(values, 1, settings, "pads")
    fill = values[2] if len(values) > 2 else None
    if settings.get("mode", "constant") != "constant" or numbers(values, 3, settings, "axes"):
        raise ValueError("expected Pad with a constant and on all axes")
    rank = x.ndim
    value = settings.get("value", 0.0) if fill is None else float(fill)
    return F.pad(x, [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])],
                 value=value)  # fmt: skip


def _reduced(how: Callable[..., Tensor]) -> Operator:
    def reduce(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
        x, axes = _given(values)[0], numbers(values, 1, settings, "axes")
        if not axes:
            if settings.get("noop_with_empty_axes"):
                return x
            axes = list(range(x.ndim))
        return how(x, dim=axes, keepdim=bool(settings.get("keepdims", 1)))

    return reduce


def _constant(values: Sequence[Tensor | None], settings: Settings) -> Tensor:  # noqa: ARG001
    for name, dtype in (("value_float", torch.float32), ("value_floats", torch.float32),
                        ("value_int", torch.int64), ("value_ints", torch.int64)):  # fmt: skip
        if name in settings:
            return torch.tensor(settings[name], dtype=dtype)
    value: Tensor = settings["value"]
    return value


def _full(shape: Tensor, settings: Settings) -> Tensor:
    value = settings.get("value", torch.zeros(1))
    return torch.full(shape.tolist(), value.item(), dtype=value.dtype)


def _gather(values: Sequence[Tensor | None], settings: Settings) -> Tensor:
    x, places = _given(values)
    axis = settings.get("axis", 0) % x.ndim
    picked = x.index_select(axis, places.flatten() % x.shape[axis])
    return picked.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


def _on_one(how: Callable[[Tensor, Settings], Tensor]) -> Operator:
    return lambda values, settings: how(_given(values)[0], settings)


def _on_two(how: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda values, settings: how(*_given(values))  # noqa: ARG005


def _divide(one: Tensor, other: Tensor) -> Tensor:
    whole = not one.is_floating_point()
    return torch.div(one, other, rounding_mode="trunc") if whole else one / other


TABLE: dict[str, Operator] = {
    "Add": _on_two(torch.add),
    "AveragePool": _average,
    "BatchNormalization": _batch_norm,
    "Cast": _on_one(lambda x, settings: x.to(DTYPES[settings["to"]])),
    "Concat": lambda v, s: torch.cat(_given(v), dim=s["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _on_one(_full),
    "Conv": _conv,
    "Div": _on_two(_divide),
    "Dropout": _on_one(lambda x, _: x),
    "Expand": _on_two(lambda x, shape: x + torch.zeros(shape.tolist(), dtype=x.dtype)),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _on_one(lambda x, _: x.mean(list(range(2, x.ndim)), keepdim=True)),
    "Identity": _on_one(lambda x, _: x),
    "MatMul": _on_two(torch.matmul),
    "Mul": _on_two(torch.mul),
    "Neg": _on_one(lambda x, _: -x),
    "Pad": _pad,
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Reshape": _reshape,
    "Shape": _on_one(
        lambda x, given: torch.tensor(x.shape[given.get("start", 0) : given.get("end")])
    ),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _on_two(torch.sub),
    "Transpose": _on_one(lambda x, given: x.permute(given.get("perm") or [*range(x.ndim)][::-1])),
    "Unsqueeze": _unsqueeze,
}  # fmt: skip
