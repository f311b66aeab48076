"""Pictures as data URIs, without losing a bit, and charts for where no script runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Return bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(levels: NDArray[np.uint8]) -> str:
    """Return (H, W, C) 8-bit levels, C = 1 or 3, as the data URI of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(
        buffer, format="PNG", optimize=True
    )
    return data_uri(buffer.getvalue())


def channels_last(image: Tensor) -> NDArray[Any]:
    """Return an image (1, C, H, W) as an array (H, W, C)."""
    return np.ascontiguousarray(image.detach()[0].permute(1, 2, 0).cpu().numpy())


def eight_bits(image: Tensor) -> NDArray[np.uint8]:
    """Round an image (1, C, H, W) in [0, 1] to (H, W, C) levels, as a canvas does."""
    return np.rint(channels_last(image).astype(np.float64) * 255).astype(np.uint8)


def encode_pixels(image: Tensor) -> str:
    """Return an image's exact float32 values as a data URI.

    A PNG if every pixel is level / 255 as float32 divides, else the raw little-endian numbers in
    the order row, column, channel.

    Parameters
    ----------
    image : float tensor (1, C, H, W), C = 1 or 3, in [0, 1]
    """
    image = image.to(torch.float32)
    levels, exact = eight_bits(image), channels_last(image)
    if np.array_equal(levels.astype(np.float32) / np.float32(255), exact):
        return png(levels)
    return data_uri(exact.astype("<f4").tobytes(), "application/octet-stream")


def decode_pixels(uri: str, shape: Sequence[int]) -> Tensor:
    """Return the image that `encode_pixels` wrote, (1, C, H, W), float32.

    Parameters
    ----------
    uri : str
        As `encode_pixels` gives it, or any PNG of that size as a data URI.
    shape : three int
        Channels, height and width.

    Raises
    ------
    ValueError
        If the numbers are not of that shape.
    """
    channels, height, width = shape
    data = base64.b64decode(uri.partition(",")[2])
    if uri.startswith("data:image/png"):
        levels = np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))
        values = levels.astype(np.float32) / np.float32(255)
    else:
        values = np.frombuffer(data, "<f4").astype(np.float32)
    if values.size != channels * height * width:
        raise ValueError(
            f"uri: expected {channels} x {height} x {width} numbers, received {values.size}"
        )
    array = values.reshape(height, width, channels)
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).unsqueeze(0)


def encode_signs(signs: Tensor) -> str:
    """Return signs (1, C, H, W) in {-1, 0, 1} as a PNG with the levels 0, 128 and 255.

    The picture is H high and W * C wide, a pixel's channels side by side, two bits each.
    """
    array = channels_last(signs).astype(np.int64) + 1
    picture = Image.fromarray(array.astype(np.uint8).reshape(len(array), -1), mode="P")
    picture.putpalette([level for level in (0, 128, 255) for _ in "rgb"])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", bits=2)
    return data_uri(buffer.getvalue())


def digits_as_text(images: Tensor) -> list[str]:
    """Write digits, (N, 1, H, W), as a character for each pixel: 0 to g for 0 to 16 sixteenths."""
    levels = (images.flatten(1) * 16).round().int().tolist()
    return ["".join("0123456789abcdefg"[level] for level in row) for row in levels]


def is_small(image: Tensor) -> bool:
    """Tell whether an image (1, C, H, W) has too few pixels to be shown at its own size."""
    return max(image.shape[2:]) < 100


def enlarge(levels: NDArray[np.uint8], least: int = 160) -> NDArray[np.uint8]:
    """Repeat pixels until the picture is at least that wide; wide ones stay as they are."""
    factor = max(1, -(-least // levels.shape[1]))
    return levels.repeat(factor, axis=0).repeat(factor, axis=1)


def chart(figure: Figure) -> str:
    """Return a matplotlib figure as a data URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return data_uri(buffer.getvalue())
