"""Labelled pictures, wherever they lie: folders, archives, arrays, torchvision's data sets.

A source is read one example at a time, so that a data set of any size takes the same memory.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from within_epsilon.commands.inputs.arrays import Arrays
from within_epsilon.commands.inputs.pictures import SUFFIXES, Preparation

Example = tuple[Tensor, int]


class Source(Protocol):
    """Examples by position; `classes` are their names, by label, if the source has any."""

    name: str
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, position: int) -> Example:
        """Return an image (C, H, W) in [0, 1] and its label."""


class Folder:
    """A folder that has a folder of pictures for each class.

    Parameters
    ----------
    path : Path
        The folder.
    prepare : Preparation
        How pictures become tensors.
    """

    def __init__(self, path: Path, prepare: Preparation) -> None:
        self.name, self._path, self._prepare = path.name, path, prepare
        names = sorted(part.name for part in path.iterdir() if part.is_dir())
        files = [(label, file) for label, name in enumerate(names) for file in _in(path / name)]
        if not files:
            raise ValueError(
                f"--data: expected a folder of pictures for each class in {path}, received "
                f"{len(names)} folders and no picture in them; pictures end in "
                f"{', '.join(SUFFIXES[:4])} and the like"
            )
        present = sorted({label for label, _ in files})
        self.classes = tuple(names[label] for label in present)
        self._files = [(present.index(label), file) for label, file in files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> Example:
        label, path = self._files[position]
        return self._prepare(path.read_bytes(), str(path)), label


class Tar:
    """A tar archive in the manner of WebDataset, or of class folders.

    ``name.png`` and ``name.cls`` are one example's picture and label. An archive without labels
    has a folder of pictures for each class.

    Parameters
    ----------
    path : Path
        The archive, not compressed.
    prepare : Preparation
        How pictures become tensors.
    """

    def __init__(self, path: Path, prepare: Preparation) -> None:
        self.name, self._path, self._prepare = path.name, path, prepare
        pictures, labels = self._index()
        if labels:
            self.classes: tuple[str, ...] = ()
            missing = [key for key in pictures if key not in labels]
            if missing:
                raise ValueError(
                    f"--data: expected a label ({missing[0]}.cls) beside every picture in {path}, "
                    f"received none for {len(missing)} of {len(pictures)}"
                )
            self._places = [(*pictures[key], labels[key]) for key in pictures]
        else:
            folders = [Path(key).parent.name for key in pictures]
            self.classes = tuple(sorted(set(folders)))
            numbers = {name: label for label, name in enumerate(self.classes)}
            places = zip(pictures.values(), folders, strict=True)
            self._places = [(*place, numbers[folder]) for place, folder in places]
        if not self._places:
            raise ValueError(
                f"--data: expected pictures in {path}, received none; pictures end in "
                f"{', '.join(SUFFIXES[:4])} and the like"
            )
        if self.classes == ("",):
            raise ValueError(
                f"--data: expected labels in {path}, as name.cls beside name.png or as folders by "
                "class, received neither"
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> Example:
        start, size, label = self._places[position]
        with self._path.open("rb") as file:
            file.seek(start)
            return self._prepare(file.read(size), f"{self.name}, picture {position}"), label

    def _index(self) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
        """Return where each picture lies, and each label, by the part of a name before its dot."""
        pictures, labels = dict[str, tuple[int, int]](), dict[str, int]()
        try:
            with tarfile.open(self._path, "r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep all
                    folder, _, base = member.name.rpartition("/")
                    stem, _, suffix = base.partition(".")
                    key = f"{folder}/{stem}".removeprefix("./").lstrip("/")
                    suffix = f".{suffix.lower().rpartition('.')[2]}"
                    if not member.isfile() or not stem:
                        continue
                    if suffix in SUFFIXES:
                        pictures[key] = member.offset_data, member.size
                    elif suffix in (".cls", ".json"):
                        file = archive.extractfile(member)
                        label = _label(file.read() if file else b"", suffix)
                        if label is not None:
                            labels[key] = label
        except tarfile.TarError as error:
            raise ValueError(
                f"--data: {self._path} is no tar archive, is packed or damaged ({error}); unpack "
                "it first if it ends in .gz"
            ) from error
        return pictures, labels


class Torchvision:
    """A data set of torchvision's that is on disk already.

    Parameters
    ----------
    name : str
        Such as ``CIFAR10``.
    root : Path
        The folder that has it.
    prepare : Preparation
        How pictures become tensors.
    part : {"test", "train", "validation"}
        Which; most have no validation part.
    """

    def __init__(self, name: str, root: Path, prepare: Preparation, part: str = "test") -> None:
        from torchvision import datasets

        self.name, self._prepare = name, prepare
        kind = getattr(datasets, name, None)
        if not (isinstance(kind, type) and name in datasets.__all__):
            raise ValueError(
                f"--data: torchvision has no data set {name!r}; such as MNIST, CIFAR10, SVHN, "
                "STL10, or a file or folder that exists"
            )
        *others, last = _asked(kind, part)
        try:
            for options in others:
                with suppress(ValueError):
                    self._data: Any = kind(root, **options)
                    break
            else:
                self._data = kind(root, **last)
        except (RuntimeError, OSError, TypeError, ValueError) as error:
            raise ValueError(
                f"--data: torchvision's {name} cannot be read in {root} ({error}); nothing is "
                "downloaded here: give --root the folder that has it"
            ) from error
        self.classes = tuple(map(str, getattr(self._data, "classes", ())))

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, position: int) -> Example:
        picture, label = self._data[position]
        return self._prepare.of_image(picture), int(label)


class Split:
    """A part of the digits that come with scikit-learn.

    Parameters
    ----------
    part : {"train", "validation", "test"}
        Which.
    """

    def __init__(self, part: str) -> None:
        from within_epsilon.data import digits

        split = getattr(digits(), part)
        self.name, self.classes = f"digits {part}", tuple("0123456789")
        self._images, self._labels = split.images, split.labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, position: int) -> Example:
        return self._images[position], int(self._labels[position])


def open_source(
    given: str, prepare: Preparation, *, root: str | None = None, part: str = "test"
) -> Source:
    """Open what a user named.

    Parameters
    ----------
    given : str
        A folder, an ``.npz`` or ``.tar`` file, "digits", or a data set of torchvision's.
    prepare : Preparation
        How pictures become tensors.
    root : str, optional
        The folder that has a data set of torchvision's.
    part : {"test", "train", "validation"}
        Which part of "digits" or of torchvision's, of which few have a "validation".

    Raises
    ------
    ValueError, OSError
        If there is none, or it is of another kind.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return Folder(path, prepare)
    if path.is_file():
        if path.suffix == ".npz":
            return Arrays(path)
        if path.suffix == ".tar":
            return Tar(path, prepare)
        raise ValueError(
            f"--data: expected a folder with a folder for each class, an .npz or a .tar file, "
            f"received {path}"
        )
    if given == "digits":
        return Split(part)
    if re.fullmatch(r"[A-Z]\w+", given):
        return Torchvision(given, Path(root or "."), prepare, part)
    raise FileNotFoundError(f"--data: there is no file or folder {given}; look at its name")


def _asked(kind: Any, part: str) -> list[dict[str, Any]]:
    """Return how a data set of torchvision's may be asked for a part of it, one way or another."""
    takes = signature(kind).parameters
    if "train" in takes and part != "validation":
        return [{"train": part == "train", "download": False}]
    if "split" in takes:
        return [{"split": name} for name in (("val", "valid") if part == "validation" else (part,))]
    raise ValueError(
        f"--data: torchvision's {kind.__name__} has no {part} part; save the examples that are "
        "meant as class folders or .npz"
    )


def _in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)


def _label(content: bytes, suffix: str) -> int | None:
    text = content.decode("utf-8", "replace").strip()
    if suffix == ".cls":
        if not text.isdigit():
            raise ValueError(f"--data: expected a class number in a .cls file, received {text!r}")
        return int(text)
    try:
        given = json.loads(text)
    except ValueError:
        return None
    label = given.get("label", given.get("cls")) if isinstance(given, dict) else None
    return label if isinstance(label, int) else None
