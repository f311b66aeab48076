"""A writer of small ONNX files, apart from the library's own."""

import struct

import torch


def varint(number):
    head = b""
    while number > 127:
        head, number = head + bytes([number & 127 | 128]), number >> 7
    return head + bytes([number])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content % 2**64)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, values):
    """Write an initializer: float32, float64, int64 or bool."""
    code = {torch.float32: 1, torch.float64: 11, torch.int64: 7, torch.bool: 9}[values.dtype]
    shape = b"".join(field(1, size) for size in values.shape)
    raw = values.contiguous().numpy().tobytes()
    return field(5, shape + field(2, code) + field(8, name.encode()) + field(9, raw))


def value(number, name, shape):
    """Declare an input, 11, or output, 12."""
    sizes = b"".join(
        field(1, field(2, size.encode()) if isinstance(size, str) else field(1, size))
        for size in shape
    )
    kind = field(1, field(1, 1) + field(2, sizes))
    return field(number, field(1, name.encode()) + field(2, kind))


def node(kind, inputs, output, **settings):
    parts = b"".join(field(1, name.encode()) for name in inputs)
    parts += b"".join(field(2, name.encode()) for name in output.split())
    parts += field(4, kind.encode())
    for name, given in settings.items():
        if isinstance(given, list):
            content = b"".join(field(8, one) for one in given)
        elif isinstance(given, float):
            content = b"\x15" + struct.pack("<f", given)
        else:
            content = field(4, given.encode()) if isinstance(given, str) else field(3, given)
        parts += field(5, field(1, name.encode()) + content)
    return field(1, parts)


def write(path, *parts, takes=("N", 2), opset=18):
    ends = value(11, "x", takes), value(12, "y", (1, 2))
    path.write_bytes(field(1, 8) + field(7, b"".join((*parts, *ends))) + field(8, field(2, opset)))
    return path
