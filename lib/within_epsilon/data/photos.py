"""Photos as networks take them: (1, 3, 224, 224), pixels in [0, 1]."""

import io
import struct
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from within_epsilon.data.files import fetch

BUNDLED = ("chelsea", "coffee", "pig")
# Named, because Pillow would otherwise try every format it knows, some by starting
# other programs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
LARGEST_ASPECT_RATIO = 20
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Pillow raises on a file that is not what it claims to be.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, LookupError, struct.error, *BOMB)

Source = str | Path | bytes | BinaryIO | Image.Image


def photo(source: Source, size: int = 224) -> Tensor:
    """Load a photo as torchvision's ImageNet networks expect it, but for normalisation.

    The shorter side is resized to `size` (bilinear, antialiased) and the centre square
    kept; on a square picture this is the tutorial's plain ``Resize(224)``. EXIF rotation
    is applied, transparency laid on white, 16 bits rounded to 8, colour profiles ignored.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL image
        ``"chelsea"`` or ``"coffee"`` (scikit-image's), ``"pig"`` (downloaded once), or a
        picture of your own: JPEG, PNG, GIF, BMP, WebP, TIFF or PPM.
    size : int
        Side of the result, in pixels.

    Returns
    -------
    Tensor, (1, 3, size, size), float32
        Pixels in [0, 1].

    Raises
    ------
    FileNotFoundError
        If there is no such file and no bundled photo of that name.
    ValueError
        If the source is not a picture of those formats, is damaged, or is too large or
        too narrow to be taken in good faith.
    DataUnavailableError
        If the pig cannot be downloaded.
    ImportError
        If a bundled photo needs scikit-image and it is not installed.
    """
    from torchvision.transforms import functional as transforms

    image, name = _open(source)
    try:
        image = _to_rgb(ImageOps.exif_transpose(image))
    except UNREADABLE as error:
        raise ValueError(f"{name}: damaged, or of a kind that cannot be read ({error})") from error
    short, long = sorted(image.size)
    if long > LARGEST_ASPECT_RATIO * short:
        raise ValueError(
            f"{name}: expected sides within a factor of {LARGEST_ASPECT_RATIO} of each other, "
            f"received {image.width} x {image.height} pixels; crop it first"
        )
    square = transforms.center_crop(transforms.resize(image, [size]), [size])
    pixels: Tensor = transforms.to_tensor(square)
    return pixels.unsqueeze(0)


def _open(source: Source) -> tuple[Image.Image, str]:
    """Return a picture, its pixels perhaps not read yet, and what to call it in errors."""
    if isinstance(source, Image.Image):
        return source, "The given image"
    if isinstance(source, str) and source in BUNDLED:
        if source == "pig":
            return identify(fetch("pig.jpg").read_bytes(), "pig.jpg"), source
        return _scikit_image(source), source
    if isinstance(source, bytes):
        return identify(source, "The given bytes"), "The given bytes"
    if isinstance(source, str | Path):
        return identify(_read(Path(source).expanduser()), str(source)), str(source)
    if hasattr(source, "read"):
        content = source.read()
        if isinstance(content, bytes):
            return identify(content, "The given file"), "The given file"
        raise TypeError("source: expected bytes from the file, received text; open it in mode 'rb'")
    raise TypeError(
        "source: expected a name, a path, bytes, a binary file or a PIL image, received "
        f"{type(source).__name__}"
    )


def _scikit_image(name: str) -> Image.Image:
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            f"The photo {name!r} comes with scikit-image, which is not installed: "
            "pip install scikit-image, or pass a photo of your own."
        ) from error
    return Image.fromarray(getattr(skimage.data, name)())


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"{path}: expected a picture, received a folder")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        close = get_close_matches(path.name, BUNDLED)
        hint = f"did you mean {close[0]!r}?" if close else f"bundled are {', '.join(BUNDLED)}."
        raise FileNotFoundError(f"No file {str(path)!r}; {hint}") from error


def identify(content: bytes, name: str) -> Image.Image:
    """Read a picture's header, refusing what is no picture and what would fill the memory."""
    if not content:
        raise ValueError(f"{name}: expected a picture, received 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except BOMB as error:
        raise ValueError(
            f"{name}: too large to unpack safely; shrink it first ({error})"
        ) from error
    except UNREADABLE as error:
        raise ValueError(
            f"{name}: expected a picture ({', '.join(FORMATS)}), received something else"
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Map 0 to 65,535 onto 0 to 255, where Pillow's own conversion would clip at 255."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels are neither 8 nor 16 bits; save it as an ordinary PNG")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
