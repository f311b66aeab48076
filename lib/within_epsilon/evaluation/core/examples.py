"""Labelled images one batch at a time, whatever they come from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from within_epsilon.checks import Labelled, check_labels
from within_epsilon.evaluation.core.forms import columns_of, is_data_set, is_readable, pair

# A split, a pair of tensors or arrays, a data set, or batches such as a DataLoader gives.
Data: TypeAlias = Labelled | Sequence[Any] | Dataset[Any] | Iterable[Any]

# By default as many examples at a time as have this many pixel values, and no more than these:
# 27 photos of 224 x 224, whose gradient takes a ResNet-50 less than 3 GB.
_MOST_NUMBERS, _MOST_EXAMPLES = 2**22, 256


class Batch(NamedTuple):
    """Images (N, ...), labels (N,), and their positions in the data set, (N,) int64.

    An example that its data set could not give is a batch of its own, without pixels, which says
    why.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    unreadable: str = ""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with images, labels and positions changed alike."""
        return Batch(
            change(self.images), change(self.labels), change(self.indices), self.unreadable
        )

    def rows(self, chosen: Tensor) -> "Batch":
        """Return the examples chosen by a mask (N,) or by their numbers."""
        return self.map(lambda column: column[chosen.to(column.device)])


class Examples:
    """Iterate over batches.

    Parameters
    ----------
    data : Data
        See `evaluation.robust_accuracy`.
    batch_size : int, optional
        Most examples at a time; by default what a photo network holds in 4 GB.
    indices : sequence of int, optional
        Positions in the whole data set, one per example; 0, 1, 2 ... by default.
    dtype : torch.dtype, optional
        What NumPy's float64, its default, is turned into.

    Raises
    ------
    TypeError, ValueError
        If batch_size is below 1, indices repeat, are negative or not as many as there are
        examples, or data are unusable; while iterating.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int | None = None,
        indices: Sequence[int] | Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
            raise ValueError(f"batch_size: expected at least 1, received {batch_size!r}")
        self._data, self._size, self._columns = data, batch_size, columns_of(data)
        if (isinstance(data, Mapping) and self._columns is None) or not is_readable(data):
            pair(data)  # which says what was expected
        if self._columns is not None and isinstance(self._columns[1], Tensor):
            check_labels(self._columns[1], len(self._columns[0]))
        elif self._columns is not None and len(self._columns[0]) != len(self._columns[1]):
            raise ValueError(
                f"labels: expected as many as images, {len(self._columns[0])}, received "
                f"{len(self._columns[1])}; give one class number per example"
            )
        self._dtype = dtype
        self._places: range | list[int] | None = None
        if indices is not None:
            listed = indices if isinstance(indices, range) else list(map(int, indices))
            if len(set(listed)) != len(listed) or min(listed, default=0) < 0:
                raise ValueError(
                    "indices: expected different positions >= 0, received some twice or below 0; "
                    "give each example's position in the whole data set"
                )
            self._places = listed
        self._items = self._numbered()

    def __len__(self) -> int:
        """Return the number of batches; TypeError if nobody knows it."""
        if self._columns is not None:
            images = self._columns[0]
            size = self._size or default_batch_size(images[0] if len(images) else images)
            return -(-len(images) // size)
        if is_data_set(self._data):
            raise TypeError("the size of a data set's batches depends on its images")
        return len(self._data)  # type: ignore[arg-type]

    def ahead(self, most: int) -> list[Batch]:
        """Return the first batches, up to so many examples, which iterating still yields."""
        taken, number = list[Batch](), 0
        while number < most and (batch := next(self._items, None)) is not None:
            if self._columns is None:  # the next one may come in the same memory
                batch = batch.map(Tensor.clone)
            taken.append(batch)
            number += 0 if batch.unreadable else len(batch.labels)
        self._items = chain(taken, self._items)
        return [batch for batch in taken if not batch.unreadable]

    def __iter__(self) -> Iterator[Batch]:
        return self._items

    def _numbered(self) -> Iterator[Batch]:
        places = count() if self._places is None else iter(self._places)
        for images, labels, *reason in self._blocks():
            indices = list(islice(places, len(labels)))
            if len(indices) < len(labels):
                self._complain("more")
            yield Batch(images, labels, torch.tensor(indices), *reason)
        if self._places is not None and next(places, None) is not None:
            self._complain("fewer")

    def _complain(self, word: str) -> None:
        raise ValueError(
            f"indices: expected one position per example, received {len(self._places or ())} for "
            f"{word} examples; give the positions of exactly these examples in the data set"
        )

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor] | tuple[Tensor, Tensor, str]]:
        """Yield images and labels, and why there are none where they could not be read."""
        if self._columns is not None:
            images, labels = self._columns
            for part in self._parts(images, labels):
                yield self._pair(part)
        elif is_data_set(self._data):
            yield from self._read(self._data)
        else:
            for batch in self._data:  # type: ignore[union-attr]
                yield from self._parts(*self._pair(batch))

    def _pair(self, batch: Any, *, one: bool = False) -> tuple[Tensor, Tensor]:
        return pair(batch, one=one, dtype=self._dtype)

    def _parts(self, images: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
        size = self._size or default_batch_size(images[0] if len(images) else images)
        for start in range(0, max(len(images), 1), size):
            yield images[start : start + size], labels[start : start + size]

    def _read(self, data: Any) -> Iterator[tuple[Tensor, Tensor] | tuple[Tensor, Tensor, str]]:
        """Read a data set example by example; those of one shape that follow make a batch."""
        waiting: list[tuple[Tensor, Tensor]] = []
        for number in range(len(data)):
            try:
                item = data[number]
            except Exception as error:
                if waiting:
                    yield _stacked(waiting)
                    waiting = []
                reason = f"unreadable: {type(error).__name__}: {error}"
                yield torch.empty(1, 0), torch.tensor([-1]), reason
                continue
            # Copies: the next example may come in the same memory.
            image, label = (part.clone() for part in self._pair(item, one=True))
            if waiting and (
                image.shape != waiting[0][0].shape
                or len(waiting) >= (self._size or default_batch_size(image))
            ):
                yield _stacked(waiting)
                waiting = []
            waiting.append((image, label))
        if waiting:
            yield _stacked(waiting)


def default_batch_size(image: Tensor | np.ndarray) -> int:
    """Return how many such images a photo network holds in 4 GB with what a gradient needs."""
    numbers = max(int(np.prod(image.shape)), 1)
    return max(1, min(_MOST_EXAMPLES, _MOST_NUMBERS // numbers))


def model_dtype(model: nn.Module) -> torch.dtype | None:
    """Return the dtype that the model computes in, if its parameters tell."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def require_some(n: int, bad: Mapping[int, str]) -> None:
    """Require at least one example, and of several one that can be judged."""
    if n == 0:
        raise ValueError("data: expected at least one example, received none")
    if n == len(bad) > 1:
        raise ValueError(
            f"data: expected examples that can be judged, received {n} that cannot; the first, at "
            f"position {min(bad)}: {bad[min(bad)]}"
        )


def _stacked(examples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*examples, strict=True)
    return torch.stack(images), torch.stack(labels)
