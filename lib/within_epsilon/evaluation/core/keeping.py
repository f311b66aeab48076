"""Adversarial images on disk: as numbers, or as 8-bit pictures with their true norms."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from torch import Tensor

from within_epsilon.evaluation.core.examples import Batch
from within_epsilon.reports import RobustReport
from within_epsilon.reports.outcomes import place_of
from within_epsilon.threat import Ball

_HEADER = 128  # bytes, enough for any shape, so that it can be written anew


class Keeper:
    """Keeps nothing; its children keep images, in the order of the data."""

    def add(self, item: Batch, fresh: Batch, images_adv: Tensor) -> None:
        """Keep the adversarial images of the examples of a batch that are not on record."""

    def close(self, report: RobustReport) -> None:
        """Finish the files."""


def keeper(path: str | Path | None, ball: Ball, done: int) -> Keeper:
    """Choose by the path: ``.npy``, ``.npz``, or a folder of PNG files.

    Parameters
    ----------
    path : path, optional
        Where to keep images; None for nowhere.
    ball : Ball
        In whose norm changes are measured.
    done : int
        How many images an interrupted evaluation has kept there already.
    """
    if path is None:
        return Keeper()
    path = Path(path).expanduser()
    if path.suffix == ".npy":
        return _Array(path, done)
    if path.suffix == ".npz":
        return _Archive(path, done)
    if path.suffix:
        raise ValueError(
            f"keep: expected a path ending in .npy or .npz, or a folder, received {path}; "
            "adversarial images do not survive other formats"
        )
    return _Pictures(path, ball, done)


class _Array(Keeper):
    """Rows appended to a ``.npy`` file, which is whole after every batch."""

    def __init__(self, path: Path, done: int) -> None:
        self._path, self._n, self._order = path, done, list[int]()
        if not done:
            path.unlink(missing_ok=True)
            path.touch()  # a path that cannot be written fails before the work, not after
            return
        _require_kept(len(np.load(path, mmap_mode="r")) if path.exists() else 0, done, path)

    def add(self, item: Batch, fresh: Batch, images_adv: Tensor) -> None:  # noqa: ARG002
        self._order += item.indices.tolist()
        if not len(images_adv):
            return
        rows = images_adv.detach().cpu()
        # NumPy knows no bfloat16.
        array = rows.to(torch.float32 if rows.dtype == torch.bfloat16 else rows.dtype).numpy()
        if self._path.stat().st_size:
            kept = np.load(self._path, mmap_mode="r")
            if kept.shape[1:] != array.shape[1:] or kept.dtype != array.dtype:
                raise ValueError(
                    f"keep: expected images of one shape, {kept.shape[1:]}, received "
                    f"{array.shape[1:]}; give a folder for pictures of several shapes"
                )
        row = array[0].nbytes
        with self._path.open("r+b") as file:
            file.write(_header(array.dtype, (self._n + len(array), *array.shape[1:])))
            file.seek(_HEADER + self._n * row)
            file.truncate()
            file.write(np.ascontiguousarray(array).data)
        self._n += len(array)


def _require_kept(found: int, done: int, path: Path) -> None:
    """Require the images of all examples that are on record."""
    if found < done:
        raise ValueError(
            f"keep: expected the {done} images that were kept before the interruption, found "
            f"{found} in {path}; give the same path, or evaluate anew"
        )


def _listed(table: Path) -> list[str]:
    """Return the names of the pictures that a table of norms lists, such as 000007.png."""
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file) if row.get("file")]
    return [name for name in names if Path(name).name == name]


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    words = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text = repr(words).encode().ljust(_HEADER - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + (len(text)).to_bytes(2, "little") + text


class _Archive(_Array):
    """The same, with positions and outcomes beside it in an uncompressed archive."""

    def __init__(self, path: Path, done: int) -> None:
        self._archive = path
        rows = path.with_suffix(".npz.npy")
        super().__init__(rows, 0 if path.exists() and not rows.exists() else done)

    def close(self, report: RobustReport) -> None:
        if not self._path.stat().st_size:  # all was on record, and is in the archive
            self._path.unlink()
            return
        letters = [report.outcomes[place_of(report.positions, index) or 0] for index in self._order]
        columns = {"indices": np.asarray(self._order), "outcomes": np.array(letters)}
        with zipfile.ZipFile(self._archive, "w") as archive:
            archive.write(self._path, "images_adv.npy")
            for name, column in columns.items():
                buffer = io.BytesIO()
                np.save(buffer, column)
                archive.writestr(f"{name}.npy", buffer.getvalue())
        self._path.unlink()


class _Pictures(Keeper):
    """PNG files named by position, and ``norms.csv``: what 8 bits make of each change."""

    def __init__(self, folder: Path, ball: Ball, done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._ball = folder, ball
        self._table = folder / "norms.csv"
        names = _listed(self._table)
        if done:
            _require_kept(len(names), done, folder)
            return
        for name in names:  # of an evaluation before this one
            (folder / name).unlink(missing_ok=True)
        with self._table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(("position", "file", "norm", "norm_of_file"))

    def add(self, item: Batch, fresh: Batch, images_adv: Tensor) -> None:  # noqa: ARG002
        if not len(images_adv):
            return
        levels = (images_adv.detach().double().cpu() * 255).round()
        clean = fresh.images.detach().double().cpu()
        norms = self._ball.length(images_adv.detach().double().cpu() - clean)
        true = self._ball.length(levels / 255 - clean)
        with self._table.open("a", newline="", encoding="utf-8") as file:
            for row, index in enumerate(fresh.indices.tolist()):
                name = f"{index:06d}.png"
                _picture(levels[row]).save(self._folder / name)
                csv.writer(file).writerow((index, name, norms[row].item(), true[row].item()))


def _picture(levels: Tensor) -> Image.Image:
    pixels = levels.to(torch.uint8).numpy()
    if pixels.ndim != 3 or len(pixels) not in (1, 3, 4):
        raise ValueError(
            f"keep: expected pictures of 1, 3 or 4 channels, (C, H, W), received {pixels.shape}; "
            "keep these as numbers, in a path ending in .npz"
        )
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
