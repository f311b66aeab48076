"""Examples to train on, whatever they come as."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from within_epsilon.checks import Labelled, check_images, check_labels

# A split, a pair of tensors, a data set of pairs, or minibatches of them.
Given: TypeAlias = Labelled | tuple[Tensor, Tensor] | Dataset[Any] | DataLoader[Any]


class Examples:
    """Reads images and labels, minibatch by minibatch.

    Parameters
    ----------
    given : Labelled, pair of Tensors, mapping, Dataset or DataLoader
        Tensors are checked and moved once; a mapping has the keys "images" and "labels". A
        data set, or a list of pairs, is read example by example, whatever names it has
        besides, so that its transforms count.
    device : torch.device
        Where minibatches are wanted.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or its tensors are unusable.
    """

    def __init__(self, given: Any, device: torch.device) -> None:
        self._given, self._device = given, device
        self._whole: tuple[Tensor, Tensor] | None = None
        two = isinstance(given, tuple | list) and len(given) == 2
        columns = two and any(hasattr(column, "shape") for column in given)
        if isinstance(given, DataLoader):
            return
        if not isinstance(given, Dataset) and (columns or isinstance(given, Labelled | Mapping)):
            self._whole = self._pair(given)
        elif isinstance(given, tuple) or not (
            hasattr(given, "__getitem__") and hasattr(given, "__len__")
        ):
            raise TypeError(
                "split: expected a split such as digits().train, a pair (images, labels), a data "
                f"set with a length, or a DataLoader, received a {type(given).__name__}; name "
                "one split, or put what yields examples into a DataLoader"
            )

    @property
    def numbered(self) -> bool:
        """Whether an example has a number; a loader's come in an order of its own."""
        return not isinstance(self._given, DataLoader)

    def batches(
        self, cut: Callable[[int], Iterable[Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield minibatches (images, labels, indices): those `cut` makes of n, or the loader's own.

        Indices say where in the split the examples stand, unless they are not `numbered`.

        Raises
        ------
        TypeError, ValueError
            If a minibatch is unusable, or there is none.
        """
        found: Iterator[tuple[Tensor, Tensor, Tensor | None]]
        if isinstance(self._given, DataLoader):
            found = ((*self._pair(batch), None) for batch in self._given)
        else:
            n = len(self._given if self._whole is None else self._whole[0])
            found = ((*self._read(indices), indices) for indices in (cut(n) if n else ()))
        batch = None
        for batch in found:
            yield batch
        if batch is None:
            raise ValueError("split: expected at least one example, received none")

    def fingerprint(self) -> str:
        """Describe the examples so that others are told apart: tensors by all their numbers.

        A data set is known by its class and length alone, for reading it twice may give two
        things; a loader by its data set's, and how it cuts minibatches.
        """
        if self._whole is not None:
            state = hashlib.blake2b(digest_size=16)
            for part in self._whole:
                values = part.detach().cpu().contiguous()
                state.update(f"{values.dtype} {tuple(values.shape)} ".encode())
                state.update(values.flatten().view(torch.uint8).numpy().data)
            return state.hexdigest()
        if isinstance(self._given, DataLoader):
            loader = self._given
            words = [type(loader.sampler).__qualname__, loader.batch_size, loader.drop_last]
            return f"{_size(loader.dataset)} in {words}"
        return _size(self._given)

    def _read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if self._whole is not None:
            images, labels = self._whole
            return images[indices], labels[indices]
        examples = [_kept(self._given[index]) for index in indices.tolist()]
        try:
            batch = default_collate(examples)
        except (TypeError, RuntimeError) as error:
            raise TypeError(
                "split: expected examples that are a pair of an image and its class, images all of "
                f"one shape, received {type(examples[0]).__name__}s that do not stack ({error}); "
                "make tensors of pictures with transform=torchvision.transforms.ToTensor()"
            ) from error
        return self._pair(batch)

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Find images and labels in a split, pair or mapping, check them, and move them."""
        if isinstance(batch, Labelled):
            found: Any = batch.images, batch.labels
        elif isinstance(batch, Mapping):
            found = [batch[key] for key in ("images", "labels") if key in batch]
        else:
            found = batch[:2] if isinstance(batch, tuple | list) else ()
        if len(found) != 2:
            raise TypeError(
                "split: expected images and labels, as a pair, or with these two names, received "
                f"a {type(batch).__name__}; name them in the data set's __getitem__"
            )
        images, labels = found
        check_images(images)
        check_labels(labels, len(images))
        return images.to(self._device), labels.to(self._device)


def _kept(example: Any) -> Any:
    """Copy image and label, for the next example may come in the same memory."""
    if isinstance(example, Mapping):
        return {name: _kept(part) for name, part in example.items()}
    if isinstance(example, tuple | list):
        return [_kept(part) for part in example]
    return example.clone() if isinstance(example, Tensor) else copy(example)


def _size(data: Any) -> str:
    length = len(data) if hasattr(data, "__len__") else "unknown"
    return f"{type(data).__qualname__} of {length}"
