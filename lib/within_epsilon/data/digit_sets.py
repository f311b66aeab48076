"""Handwritten digits in fixed splits: scikit-learn's 1,797, and MNIST."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from within_epsilon.data.files import OFFLINE, DataUnavailableError, cache_folder, patience


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels.

    ``split[index]`` is a pair (images, labels) for any index that tensors take, so a
    Split is a PyTorch data set too: ``DataLoader(digits().train, batch_size=32)``.

    Parameters
    ----------
    images : Tensor, (N, C, H, W), float32
        Pixels in [0, 1].
    labels : Tensor, (N,), int64
        Classes, from 0.

    Raises
    ------
    ValueError
        If there are not as many labels as images.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                "images and labels: expected shapes (N, C, H, W) and (N,), received "
                f"{tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __repr__(self) -> str:
        return f"Split({len(self):,} images of shape {tuple(self.images.shape[1:])})"


class Digits(NamedTuple):
    """One data set, divided once and for all.

    ``train`` fits parameters and ``validation`` chooses among models; ``test`` is for
    the final number and must choose nothing.
    """

    train: Split
    validation: Split
    test: Split


def digits() -> Digits:
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8 pixels; needs no network.

    Returns
    -------
    Digits
        Splits of 1,197, 200 and 400 images (N, 1, 8, 8). The file's values 0 to 16 are
        divided by 16.

    Notes
    -----
    With the examples sorted by class, in file order within each, every ninth goes to
    validation and two of every nine to test. No random numbers are involved, so
    the splits are the same with every version of every library, and all classes have
    their share of each. Within a split, file order is kept. The same 13 people wrote
    the digits of all three splits: the test error speaks of new digits by known hands.

    References
    ----------
    E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998, doi:10.24432/C50P49 (its test set).
    """
    levels, classes = _raw_digits()
    images = torch.from_numpy(levels / 16).float().view(-1, 1, 8, 8)
    labels = torch.from_numpy(classes).long()
    fold = np.empty(len(labels), dtype=int)
    fold[np.argsort(classes, kind="stable")] = np.arange(len(labels)) % 9
    chosen = (fold > 2, fold == 2, fold < 2)
    return Digits(*(Split(images[mask], labels[mask]) for mask in map(torch.from_numpy, chosen)))


def _raw_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the file's values 0 to 16, (1797, 64), and classes (1797,).

    From scikit-learn's file itself: to import scikit-learn takes a hundred times as long.
    """
    spec = find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # which says what is missing, or knows another place

    raw = load_digits()
    return raw.data, raw.target.astype(np.int64)


def mnist(root: str | Path | None = None) -> Digits:
    """Load MNIST through torchvision, downloading its 11 MB the first time.

    Parameters
    ----------
    root : path, optional
        Folder that has, or will get, torchvision's ``MNIST/raw``; the library's cache
        folder by default.

    Returns
    -------
    Digits
        Images (N, 1, 28, 28). The last twelfth of the training images, 5,000 of 60,000,
        is the validation split; the test split is MNIST's own.

    Raises
    ------
    DataUnavailableError
        If the files are not there and cannot be downloaded.
    """
    from torchvision.datasets import MNIST

    folder = cache_folder() if root is None else Path(root)
    try:
        with patience():
            parts = [MNIST(folder, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError, ValueError) as error:
        raise DataUnavailableError(
            f"MNIST cannot be had: {error}\nPut its four files (train-images-idx3-ubyte and so on) "
            f"into {folder / 'MNIST' / 'raw'}, or pass the root that has them.\n{OFFLINE}"
        ) from error
    rest, test = (Split(part.data.unsqueeze(1).float() / 255, part.targets) for part in parts)
    kept = len(rest) - len(rest) // 12
    return Digits(Split(*rest[:kept]), Split(*rest[kept:]), test)
