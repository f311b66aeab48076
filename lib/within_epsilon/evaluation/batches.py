"""Batches of labelled images, whatever they come from."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from within_epsilon.checks import Labelled, check_labels

# A split, a pair of tensors, or batches of either kind, such as a DataLoader gives.
Data: TypeAlias = Labelled | tuple[Tensor, Tensor] | Iterable[Any]


class Batches:
    """Iterate over pairs (images, labels), as many at a time as asked for or as they come.

    Parameters
    ----------
    data : Labelled, pair of Tensors, or iterable of batches
        A batch is a tuple or list that starts with images and labels, an object that has
        both, or a mapping with the keys "images" and "labels".
    batch_size : int
        Examples at a time, for a split or a pair; batches stay as they are.

    Raises
    ------
    TypeError, ValueError
        If batch_size is below 1, or a batch is unusable; see `pair`.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, received {batch_size}")
        self._batches: Iterable[Any] = data  # type: ignore[assignment]
        if isinstance(data, Labelled) or _is_pair_of_tensors(data):
            images, labels = pair(data)
            columns = (torch.split(column, batch_size) for column in (images, labels))
            self._batches = list(zip(*columns, strict=True))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return map(pair, self._batches)

    def __len__(self) -> int:
        """Return the number of batches; TypeError if they do not know it themselves."""
        return len(self._batches)  # type: ignore[arg-type]


def pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Find images and labels in a batch.

    Raises
    ------
    TypeError, ValueError
        If there are none where `Batches` looks for them, or not as many of both.
    """
    found: Any = ()
    if isinstance(batch, Labelled):
        found = batch.images, batch.labels
    elif isinstance(batch, Mapping):
        found = [batch[key] for key in ("images", "labels") if key in batch]
    elif isinstance(batch, tuple | list):
        found = batch[:2]
    if len(found) == 2 and all(isinstance(column, Tensor) for column in found):
        images, labels = found
        check_labels(labels, len(images))
        return images, labels
    words = type(batch).__name__
    if isinstance(batch, Mapping):
        words += f" with keys {list(batch)}"
    elif isinstance(batch, tuple | list):
        words += f" of {', '.join(type(part).__name__ for part in batch[:4]) or 'nothing'}"
    raise TypeError(
        "data: expected batches of the tensors images (N, ...) and labels (N,), as a pair or with "
        f'the keys "images" and "labels", received a {words}; put a data set into a DataLoader, '
        "or name the parts: ((batch['pixels'], batch['class']) for batch in loader)"
    )


def _is_pair_of_tensors(data: object) -> bool:
    return isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor)
