"""Pictures in arrays: an ``.npz`` file, read row by row."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from within_epsilon.commands.inputs.pictures import DamagedError, UnusableError


class Arrays:
    """The arrays of an ``.npz`` file, read row by row in the order of the rows.

    Parameters
    ----------
    path : Path
        A file with ``images``, (N, H, W), (N, C, H, W) or (N, H, W, C), or (N, D) for tables,
        uint8 or floating point in [0, 1], and ``labels``, (N,), whole numbers.
    """

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path
        self.classes: tuple[str, ...] = ()
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"--data: {path} is no .npz file, or damaged") from error
        names = {name.removesuffix(".npy") for name in self._archive.namelist()}
        if not {"images", "labels"} <= names:
            raise ValueError(
                f"--data: expected arrays named images and labels in {path}, received "
                f"{', '.join(sorted(names)) or 'none'}; save them with numpy.savez(path, "
                "images=images, labels=labels)"
            )
        self.labels = self._read_labels()
        self._open()
        if self._shape[0] != len(self.labels):
            raise ValueError(
                f"--data: expected as many labels as images in {path}, received "
                f"{len(self.labels)} labels and {self._shape[0]} images"
            )
        if self._kind.kind not in "uf" or (self._kind.kind == "u" and self._kind.itemsize > 1):
            raise ValueError(
                f"--data: expected images of uint8, or floating point in [0, 1], received "
                f"{self._kind} in {path}; an attack is judged on pixels of 8 bits"
            )
        if len(self._shape) not in (2, 3, 4) or 0 in self._shape[1:]:
            raise ValueError(
                f"--data: expected images (N, H, W), (N, C, H, W) or (N, H, W, C), received "
                f"{self._shape} in {path}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        row = int(np.prod(self._shape[1:])) * self._kind.itemsize
        start = self._begin + position * row
        if start < self._rows.tell():
            self._open()  # a packed file is read forwards
        try:
            self._rows.seek(start)
            pixels = np.frombuffer(self._rows.read(row), self._kind).reshape(self._shape[1:])
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UnusableError(
                f"--data: {self._path} is damaged at position {position} ({error}); save it again"
            ) from error
        if pixels.ndim == 2:
            pixels = pixels[None]
        elif pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.shape[0] not in (1, 3):
            pixels = pixels.transpose(2, 0, 1)
        image = torch.from_numpy(pixels.astype(np.float32))
        if self._kind.kind == "u":
            image /= 255
        lowest, highest = (float(end) for end in torch.aminmax(image))
        if math.isnan(lowest):
            raise DamagedError(
                f"--data: expected numbers in {self._path}, received NaN at position {position}"
            )
        if lowest < 0 or highest > 1:
            remedy = (
                "save them before they are normalised, and give --mean and --std, or divide by "
                "255, or by what else white is in them"
            )
            if lowest >= -0.1 and highest <= 1.1:  # of rounding, or of a resampling filter
                remedy = "put what oversteps back with numpy.clip(images, 0, 1)"
            raise UnusableError(
                f"--data: expected pixels in [0, 1] in {self._path}, received [{lowest:.9g}, "
                f"{highest:.9g}] at position {position}; {remedy}"
            )
        return image, int(self.labels[position])

    def _open(self) -> None:
        self._rows = self._archive.open("images.npy")
        version = npy.read_magic(self._rows)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self._shape, by_columns, self._kind = read(self._rows)
        if by_columns and len(self._shape) > 1:
            raise ValueError(
                f"--data: expected images row by row in {self._path}, received them by columns; "
                "save numpy.ascontiguousarray(images)"
            )
        self._begin = self._rows.tell()

    def _read_labels(self) -> np.ndarray:
        with self._archive.open("labels.npy") as file:
            try:
                labels = npy.read_array(file, allow_pickle=False)
            except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise ValueError(
                    f"--data: labels in {self._path} cannot be read: {error}"
                ) from error
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"--data: expected labels (N,) of whole numbers in {self._path}, received "
                f"{labels.dtype} {labels.shape}; give one class number per image"
            )
        return labels.astype(np.int64)
