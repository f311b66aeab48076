"""Pictures as tensors: 8 bits, as they are, or resized as a network wants them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from within_epsilon.data.photos import UNREADABLE, identify

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff")


class UnusableError(ValueError):
    """A picture that a data set should not hold, whatever the others are."""


class DamagedError(ValueError):
    """A picture that cannot be read, among others that can."""


@dataclass(frozen=True)
class Preparation:
    """How pictures become tensors.

    Parameters
    ----------
    size : int, optional
        Side of the square that is cut out after resizing; None for pictures as they are.
    resize : int, optional
        What the shorter side is resized to before; `size` by default.
    channels : int, optional
        1 or 3; by default 1 for grey pictures and 3 for others.
    interpolation : object, optional
        As torchvision names it; bilinear by default.
    """

    size: int | None = None
    resize: int | None = None
    channels: int | None = None
    interpolation: Any = None

    def __call__(self, content: bytes, name: str) -> Tensor:
        """Read a picture.

        Returns
        -------
        Tensor of shape (C, H, W), float32
            Pixels in [0, 1].

        Raises
        ------
        UnusableError
            If it has more than 8 bits a channel.
        DamagedError
            If it cannot be read.
        """
        try:
            image = identify(content, name)
            bits = _bits(image)
            if bits == 8:
                image = ImageOps.exif_transpose(image)
                image.load()
        except UNREADABLE as error:
            about = str(error).removeprefix(f"{name}: ")
            raise DamagedError(f"{name}: no picture, or damaged ({about})") from error
        if bits != 8:
            raise UnusableError(
                f"{name}: expected a picture of 8 bits a channel, received {bits}; save it with 8, "
                "for an attack is judged on the pixels that a file can hold"
            )
        return self.of_image(image)

    def of_image(self, image: Image.Image) -> Tensor:
        """Turn a picture that has been read into a tensor (C, H, W) in [0, 1]."""
        pixels = np.asarray(self._resized(self._converted(image)))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255

    def _converted(self, image: Image.Image) -> Image.Image:
        grey = image.mode in ("1", "L", "LA")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        channels = self.channels or (1 if grey else 3)
        return image.convert("L" if channels == 1 else "RGB")

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as transforms

        way = self.interpolation or InterpolationMode.BILINEAR
        image = transforms.resize(image, [self.resize or self.size], way)
        square: Image.Image = transforms.center_crop(image, [self.size])
        return square


def prepared_for(network: Any, size: int | None, channels: str | None) -> Preparation:
    """Choose how pictures are prepared: as asked, else as the network's weights ask.

    Parameters
    ----------
    network : networks.Network
        The network.
    size, channels
        What the user asked for.
    """
    wanted = int(channels) if channels else network.channels
    if size is not None or network.preset is None:
        return Preparation(size, None, wanted)
    preset = network.preset
    return Preparation(preset.crop_size[0], preset.resize_size[0], wanted, preset.interpolation)


def read_picture(path: Path, prepare: Preparation) -> Tensor:
    """Read a picture's file.

    Raises
    ------
    OSError, ValueError
        If there is none, or it cannot be used.
    """
    if path.is_dir():
        raise ValueError(f"{path}: expected a picture, received a folder; name the files in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; look at its name and folder")
    return prepare(path.read_bytes(), str(path))


def _bits(image: Image.Image) -> int:
    """Return how many bits a channel has in the file, which Pillow's mode alone does not say."""
    if image.mode.startswith("I"):
        return 16
    if image.mode == "F":
        return 32
    # Of colour pictures of 16 bits Pillow keeps the upper eight in silence.
    tiles = getattr(image, "tile", None)
    layout = str(tiles[0][3]) if tiles else ""
    return 16 if "16" in layout else 8
