"""Images and labels, found in whatever they come as."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from within_epsilon.checks import Labelled, check_labels
from within_epsilon.data import Split


def pair(
    batch: Any, *, one: bool = False, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Find images and labels in a batch, or image and label of `one` example, as tensors.

    Raises
    ------
    TypeError, ValueError
        If there are none where `Examples` looks for them, or not as many of both.
    """
    found = _parts(batch)
    if len(found) == 2 and isinstance(found[0], Tensor | np.ndarray):
        images, labels = _tensor(found[0], dtype), _labels(found[1], one)
        if labels is not None:
            if not one:
                check_labels(labels, len(images))
            return images, labels
    words = type(batch).__name__
    if isinstance(batch, Mapping):
        words += f" with keys {list(batch)}"
    elif isinstance(batch, tuple | list):
        words += f" of {', '.join(type(part).__name__ for part in batch[:4]) or 'nothing'}"
    raise TypeError(
        "data: expected images (N, ...) and labels (N,) as tensors or arrays, in a pair or under "
        f'the keys "images" and "labels", received a {words}; turn pictures into tensors with '
        "torchvision.transforms.ToTensor(), put a data set of another kind into a DataLoader, or "
        "name the parts: ((batch['pixels'], batch['class']) for batch in loader)"
    )


def _parts(value: Any) -> Sequence[Any]:
    """Return images and labels where they are looked for, before they are looked at."""
    if isinstance(value, Labelled):
        return value.images, value.labels
    if isinstance(value, Mapping):
        names = "images", "image", "labels", "label"
        return [value[name] for name in names if name in value]
    return value[:2] if isinstance(value, tuple | list) else ()


def _tensor(array: Tensor | np.ndarray, dtype: torch.dtype | None) -> Tensor:
    if isinstance(array, Tensor):
        return array
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(
            f"images: expected an array of numbers that torch has, received {array.dtype}; convert "
            "with images.astype(np.float32)"
        )
    native = array.dtype.newbyteorder("=")
    tensor = torch.from_numpy(np.array(array, native))  # a copy: it may be read-only, or a file
    # NumPy computes in float64 unless asked; networks do so only if asked.
    return tensor.to(dtype) if dtype and tensor.dtype == torch.float64 else tensor


def _labels(labels: Any, one: bool) -> Tensor | None:
    if isinstance(labels, Tensor):
        return labels
    if isinstance(labels, np.ndarray | np.integer | int) or _is_list_of_numbers(labels):
        array = np.asarray(labels)
        if array.dtype.kind in "fiu" and (one or array.ndim):  # others are refused with a remedy
            return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else float))
    return None


def columns_of(data: Any) -> tuple[Any, Any] | None:
    """Return all images and all labels, if that is how the data come."""
    parts = _parts(data)
    if len(parts) != 2 or (isinstance(data, Dataset) and not isinstance(data, Split)):
        return None
    images, labels = parts
    if isinstance(data, Labelled | Mapping):
        return images, labels
    if len(data) != 2 or not (_is_array(labels, 1) or _is_list_of_numbers(labels)):
        return None
    if isinstance(images, list | tuple) and images and _is_array(images[0], 1):
        raise TypeError(
            "data: expected images (N, ...) as one tensor, received a list of them; put them "
            "together with torch.stack(images)"
        )
    return (images, labels) if _is_array(images, 2) else None


def _is_array(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim >= dimensions


def _is_number(value: Any) -> bool:
    return isinstance(value, int | np.integer) or getattr(value, "shape", None) == ()


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, int | np.integer) for part in value)


def is_readable(data: Any) -> bool:
    """Tell whether examples or batches can be had from it, one by one or in turn."""
    return isinstance(data, Iterable) or is_data_set(data)


def is_data_set(data: Any) -> bool:
    """Tell whether examples are read one by one, by their number."""
    if isinstance(data, IterableDataset | DataLoader | Mapping):
        return False
    if isinstance(data, list | tuple):
        # Examples with a number for a label; batches have an array.
        first = data[0] if data else None
        return isinstance(first, tuple | list) and len(first) >= 2 and _is_number(first[1])
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")
