"""A reader's own picture: Pillow's pixels for a PNG, and a sentence for what cannot be attacked."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from within_epsilon.data import photo

pytestmark = pytest.mark.browser

TAKE = """
async ({ text, name, type, shape, script }) => {
  const { takePicture } = await import("./picture_intake.js");
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const file = new File([bytes], name, { type });
  try {
    const pixels = await takePicture(file, shape);
    const raw = new Uint8Array(pixels.buffer);
    let out = "";
    for (let i = 0; i < raw.length; i += 8192) {
      out += String.fromCharCode(...raw.subarray(i, i + 8192));
    }
    return { pixels: btoa(out) };
  } catch (error) {
    return { error: error.message };
  }
}
"""
SHAPE = (3, 224, 224)


@pytest.fixture
def take(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that hands a file to a page: its pixels, or a sentence."""
    page = open_page()

    def take_(
        content: bytes,
        name: str = "mine.png",
        kind: str = "image/png",
        shape: tuple[int, ...] = SHAPE,
    ) -> Any:
        text = base64.b64encode(content).decode()
        found = page.evaluate(
            TAKE, {"text": text, "name": name, "type": kind, "shape": list(shape)}
        )
        if "error" in found:
            return found["error"]
        return np.frombuffer(base64.b64decode(found["pixels"]), np.float32).reshape(shape)

    take_.page = page  # type: ignore[attr-defined]
    return take_


def noise(*shape: int, seed: int = 0, levels: int = 256) -> np.ndarray:
    kind = np.uint8 if levels <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, levels, shape).astype(kind)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(width: int, height: int, depth: int, colour: int, lines: bytes, *more: bytes) -> bytes:
    """Write kinds of PNG that Pillow does not: `lines` with a filter byte before each."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + chunk(b"IEND", b"")


def sixteen_bits(channels: int, colour: int) -> bytes:
    values = noise(40, 50 * channels, levels=65536).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    return raw_png(50, 40, 16, colour, lines)


def all_filters() -> bytes:
    """Every line filtered in another way; what the bytes decode to is for both readers to say."""
    values = noise(50, 300)
    lines = b"".join(bytes([i % 5]) + line.tobytes() for i, line in enumerate(values))
    return raw_png(100, 50, 8, 2, lines)


def grey_bits(depth: int) -> bytes:
    values = noise(30, -(-90 * depth // 8))
    return raw_png(90, 30, depth, 0, b"".join(b"\0" + line.tobytes() for line in values))


def palette(transparent: bool) -> bytes:
    image = Image.fromarray(noise(60, 70, 3)).quantize(200)
    options = {"transparency": bytes(range(200))} if transparent else {}
    return encoded(image, **options)


def rotated(turn: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    steps = np.repeat(np.repeat(noise(3, 5, 3), 100, 0), 100, 1)
    return encoded(Image.fromarray(steps), kind, exif=exif.tobytes())


PICTURES = {
    "smaller": lambda: encoded(Image.fromarray(noise(100, 171, 3))),
    "larger": lambda: encoded(Image.fromarray(noise(1003, 751, 3))),
    "as it is": lambda: encoded(Image.fromarray(noise(224, 224, 3))),
    "one off": lambda: encoded(Image.fromarray(noise(225, 224, 3))),
    "three off": lambda: encoded(Image.fromarray(noise(224, 227, 3))),
    "one pixel": lambda: encoded(Image.fromarray(noise(1, 1, 3))),
    "grey": lambda: encoded(Image.fromarray(noise(300, 320))),
    "transparent": lambda: encoded(Image.fromarray(noise(300, 320, 4))),
    "transparent grey": lambda: encoded(Image.fromarray(noise(300, 320, 2), "LA")),
    "palette": lambda: palette(transparent=False),
    "transparent palette": lambda: palette(transparent=True),
    "one clear colour": lambda: encoded(
        Image.fromarray(noise(50, 60, 3, levels=2) * 255), transparency=(255, 0, 255)
    ),
    "16-bit grey": lambda: sixteen_bits(1, 0),
    "16-bit colour": lambda: sixteen_bits(3, 2),
    "16-bit alpha": lambda: sixteen_bits(4, 6),
    "1-bit grey": lambda: grey_bits(1),
    "2-bit grey": lambda: grey_bits(2),
    "4-bit grey": lambda: grey_bits(4),
    "filters": all_filters,
    "gamma and profile": lambda: encoded(
        Image.fromarray(noise(200, 300, 3)), icc_profile=b"\0" * 128, gamma=1.0
    ),
    **{f"turned {turn}": lambda turn=turn: rotated(turn, "PNG") for turn in range(1, 9)},
}


@pytest.mark.parametrize("what", PICTURES)
def test_a_png_has_pillows_pixels(take: Callable[..., Any], what: str) -> None:
    content = PICTURES[what]()
    expected = photo(content)[0].numpy()
    found = take(content)
    assert isinstance(found, np.ndarray), found
    np.testing.assert_array_equal(found, expected)


def test_any_size_has_pillows_pixels(take: Callable[..., Any]) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([1, 8, 28, 224]))
    def check(width: int, height: int, size: int) -> None:
        if max(width, height) > 20 * min(width, height):
            width = height
        content = encoded(Image.fromarray(noise(height, width, 3, seed=width)))
        found = take(content, shape=(3, size, size))
        np.testing.assert_array_equal(found, photo(content, size)[0].numpy())

    check()
