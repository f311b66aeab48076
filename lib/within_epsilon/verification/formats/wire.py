"""The encoding under ONNX files, as far as they need it: protocol buffers, and tensors in them."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# A tensor's element type, by its number in onnx.proto.
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    11: torch.float64,
}
_LAYOUTS = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 11: "<f8"}
# The field that holds a tensor's numbers where they are not in its raw bytes, and their layout.
_TYPED = {1: (4, "<f4"), 11: (10, "<f8"), 7: (7, None), 6: (5, None), 9: (5, None)}


class Field(NamedTuple):
    """One field of a message: its number, and a whole number or bytes."""

    number: int
    value: Any


def fields(content: bytes) -> Iterator[Field]:
    """Yield a message's fields.

    Raises
    ------
    ValueError
        If the bytes are no message.
    """
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
        yield Field(key >> 3, value)


def _whole(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError("expected an ONNX file, received one that does not parse")
        number |= (content[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if content[at - 1] < 128:
            return number, at


def all_of(content: bytes, number: int) -> list[Any]:
    """Return the values of all fields of a number."""
    return [value for found, value in fields(content) if found == number]


def whole_numbers(values: Sequence[Any]) -> list[int]:
    """Return the whole numbers of a repeated field, one by one or packed together."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _whole(value, at)
            found.append(one)
    # Negative ones come as their complement to 2^64.
    return [one - 2**64 if one >= 2**63 else one for one in found]


def read_tensor(content: bytes) -> tuple[str, Tensor]:
    """Return a tensor and its name.

    Raises
    ------
    ValueError
        If its numbers are not in the file, or of a type that is not read here.
    """
    found = list(fields(content))
    parts = dict(found)
    name, code = parts.get(8, b"").decode(), parts.get(2, 0)
    shape = whole_numbers([value for number, value in found if number == 1])
    if code not in _LAYOUTS:
        raise ValueError(
            f"{name}: expected a tensor of float32, float64 or whole numbers, received element "
            f"type {code}"
        )
    if 9 in parts:
        values = np.frombuffer(parts[9], _LAYOUTS[code])
    else:
        field, layout = _TYPED.get(code, (5, None))
        own = [value for number, value in found if number == field]
        if layout is None:
            values = np.array(whole_numbers(own), dtype="<i8")
        else:
            values = np.frombuffer(b"".join(own), layout)
    if len(values) != int(np.prod(shape)):
        raise ValueError(f"{name}: expected its numbers in the file itself, received none of them")
    return name, torch.from_numpy(values.copy()).to(DTYPES[code]).view(shape)


def single(content: bytes) -> float:
    """Return a float32 by its four bytes."""
    (value,) = struct.unpack("<f", content)
    return float(value)


def write_field(number: int, content: int | float | str | bytes) -> bytes:
    """Encode one field: whole numbers, float32, text or bytes."""
    if isinstance(content, float):
        return _varint(number << 3 | 5) + struct.pack("<f", content)
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content % 2**64)
    content = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    head = b""
    while number > 127:
        head, number = head + bytes([number & 127 | 128]), number >> 7
    return head + bytes([number])


def write_tensor(name: str, tensor: Tensor) -> bytes:
    """Encode a tensor as ONNX's TensorProto."""
    code = {dtype: number for number, dtype in DTYPES.items()}[tensor.dtype]
    shape = b"".join(write_field(1, size) for size in tensor.shape)
    values = np.ascontiguousarray(tensor.detach().cpu().numpy()).astype(_LAYOUTS[code])
    return shape + write_field(2, code) + write_field(8, name) + write_field(9, values.tobytes())
