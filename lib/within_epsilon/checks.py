"""Checks of what users hand in: what was expected, what came, what to do."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, SupportsIndex, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class BadExampleError(ValueError):
    """The model cannot be judged on some examples: NaN logits, or a gradient that is not finite.

    Without them, the same call succeeds.
    """


@runtime_checkable
class Labelled(Protocol):
    """Anything with images (N, ...) in [0, 1] and labels (N,), such as a `data.Split`."""

    @property
    def images(self) -> Tensor:
        """Pixels in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """Classes, counted from 0."""


def check_images(images: Tensor) -> None:
    """Require a non-empty batch of floating-point images with pixels in [0, 1].

    Raises
    ------
    TypeError
        If `images` is no floating-point tensor.
    ValueError
        If there is no batch dimension, no image, or a pixel outside [0, 1].
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images: expected a torch.Tensor, received {type(images).__name__}; "
            "convert with torch.as_tensor"
        )
    if not images.is_floating_point():
        raise TypeError(
            f"images: expected floating-point pixels in [0, 1], received {images.dtype}; "
            f"convert with images.float(){'' if images.dtype == torch.bool else ' / 255'}"
        )
    if images.ndim < 2:
        raise ValueError(
            f"images: expected a batch of shape (N, ...), received {tuple(images.shape)}; "
            "add a batch dimension to a single image with images.unsqueeze(0)"
        )
    if images.numel() == 0:
        raise ValueError(
            f"images: expected at least one image with pixels, received {tuple(images.shape)}; "
            "look at what selected them, and pass over empty batches"
        )
    lowest, highest = (extreme.item() for extreme in torch.aminmax(images.detach()))
    if lowest >= 0 and highest <= 1:
        return
    remedy = "give pixels in [0, 1] and let the model normalise (models.Classifier does)"
    if math.isnan(lowest):
        remedy = "remove the NaN"
    elif lowest >= -0.1 and highest <= 1.1:  # of rounding, or of a resampling filter
        remedy = "put what oversteps back with images.clamp(0, 1)"
    elif lowest >= 0 and highest <= 255:
        remedy = "divide by 255, or by what else white is in them"
    raise ValueError(
        f"images: expected pixels in [0, 1], received [{lowest:.9g}, {highest:.9g}]; {remedy}"
    )


def check_labels(labels: Tensor, n: int, classes: int | None = None) -> None:
    """Require one class number per example, counted from 0.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        The class numbers.
    n : int
        Number of examples, N.
    classes : int, optional
        Number of classes, k, once it is known.

    Raises
    ------
    TypeError
        If `labels` is no int64 tensor.
    ValueError
        If the shape is not (N,) or a label lies outside 0 ... k - 1.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"labels: expected a torch.Tensor, received {type(labels).__name__}; "
            "convert with torch.as_tensor"
        )
    if labels.dtype != torch.int64:
        raise TypeError(
            f"labels: expected class numbers of dtype torch.int64, received {labels.dtype}; "
            "convert with labels.long(), or one-hot rows with labels.argmax(dim=1)"
        )
    if labels.shape != (n,):
        remedy = "give one class number per example"
        if labels.ndim == 0:
            remedy = "give batches: a batch_size to a DataLoader, a length to a data set"
        raise ValueError(f"labels: expected shape ({n},), received {tuple(labels.shape)}; {remedy}")
    if n == 0:
        return
    lowest, highest = (int(extreme) for extreme in torch.aminmax(labels))
    if lowest < 0 or (classes is not None and highest >= classes):
        last = "k - 1" if classes is None else classes - 1
        raise ValueError(
            f"labels: expected classes 0 to {last}, received {lowest} to {highest}; "
            "classes are counted from 0: subtract 1 if yours start at 1"
        )


def check_logits(logits: object, n: int | None = None) -> Tensor:
    """Require the logits of N examples and k >= 2 classes; return them.

    Raises
    ------
    TypeError
        If the model returned something else than a floating-point tensor.
    ValueError
        If the shape is not (N, k) with k >= 2.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        received = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(
            f"logits: expected a floating-point tensor (N, k), received {received}; wrap the "
            "model in models.Classifier, with output= where the logits are among what it returns"
        )
    if logits.ndim != 2 or logits.shape[1] < 2 or n not in (None, logits.shape[0]):
        raise ValueError(
            f"logits: expected shape ({'N' if n is None else n}, k) with k >= 2, received "
            f"{tuple(logits.shape)}; flatten what the model returns, and give a two-class "
            "model two outputs"
        )
    return logits


def check_no_nan(logits: Tensor) -> None:
    """Require logits without NaN, which would pass for a fooled model.

    Raises
    ------
    BadExampleError
        If a logit is NaN.
    """
    # A sum is a number unless a term is NaN, or both infinities occur: then look again.
    if not math.isnan(logits.sum().item()):
        return
    bad = int(torch.isnan(logits).any(dim=1).sum())
    if bad:
        raise BadExampleError(
            f"logits: expected numbers, received NaN for {bad} of {len(logits)} examples; look "
            "at the model's weights and its normalisation"
        )


def check_losses(losses: Tensor, n: int) -> None:
    """Require one loss per example, of shape (N,)."""
    if not isinstance(losses, Tensor):
        raise TypeError(f"loss: expected a tensor ({n},), received {type(losses).__name__}")
    if losses.shape != (n,):
        raise ValueError(
            f"loss: expected one value per example, shape ({n},), received "
            f'{tuple(losses.shape)}; do not average (in torch: reduction="none")'
        )


def check_counts(**counts: int) -> None:
    """Require a whole number of each, at least 1, such as ``steps=steps``."""
    for name, number in counts.items():
        if not isinstance(number, SupportsIndex):
            raise TypeError(f"{name}: expected a whole number, received {number!r}")
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, received {number}")


def check_indices(indices: Tensor | Sequence[int] | None, n: int) -> list[int]:
    """Return the examples' positions in their data set as a list; 0 ... N - 1 if None."""
    if indices is None:
        return list(range(n))
    positions = indices.tolist() if isinstance(indices, Tensor) else list(indices)
    if len(positions) != n or not all(int(index) == index for index in positions):
        raise ValueError(
            f"indices: expected {n} whole numbers, one per example, received {indices}; "
            "give each example's position in its data set"
        )
    return [int(index) for index in positions]


def check_finite(gradient: Tensor, outputs: Tensor) -> None:
    """Require a gradient without infinities and NaN, and outputs without NaN.

    Parameters
    ----------
    gradient : Tensor of shape (N, ...)
        The gradient.
    outputs : Tensor of shape (N,) or (N, k)
        The losses or logits that it is of.

    Raises
    ------
    BadExampleError
        If an entry of the gradient is infinite or NaN, or an output NaN.
    """
    # A sum is finite only if all its terms are; one that overflows is looked at again.
    if math.isfinite((gradient.sum() + outputs.sum()).item()):
        return
    check_no_nan(outputs.view(len(outputs), -1))
    bad = int((~torch.isfinite(gradient)).flatten(1).any(dim=1).sum())
    if bad:
        raise BadExampleError(
            f"gradient: expected finite numbers, received infinities or NaN for {bad} of "
            f"{len(gradient)} examples; look for a logarithm of 0, a division by 0 or an "
            "overflowing exponential in the model or the loss"
        )


def check_model(model: object) -> None:
    """Require an nn.Module, which has a mode and, as a rule, parameters.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it has parameters without values.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: expected a torch.nn.Module, received {type(model).__name__}; call yours in "
            "the forward method of one"
        )
    if any(theta.is_meta or is_lazy(theta) for theta in model.parameters()):
        raise ValueError(
            "model: expected one with weights, received parameters without values (of a lazy "
            "module, or on the device meta); run the model on a batch once, or load its weights"
        )


@contextmanager
def dtype_explained(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Say what is wrong where torch refuses images of another dtype than the model's weights.

    Raises
    ------
    TypeError
        If that is why a RuntimeError was raised inside.
    """
    try:
        yield
    except RuntimeError as error:
        wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
        if wanted == images.dtype or "type" not in str(error):
            raise
        raise TypeError(
            f"images: expected {wanted}, as the model's weights are, received {images.dtype}; "
            f"convert with images.to({wanted})"
        ) from error


def check_batch(name: str, tensor: Tensor) -> None:
    """Require a batch dimension before others."""
    if tensor.ndim < 2:
        raise ValueError(
            f"{name}: expected a batch of shape (N, ...), received {tuple(tensor.shape)}; add a "
            f"batch dimension to a single one with {name}.unsqueeze(0)"
        )


def check_shape(name: str, tensor: Tensor, images: Tensor) -> None:
    """Require one for each image, of its shape."""
    if tensor.shape != images.shape:
        raise ValueError(
            f"{name}: expected the images' shape {tuple(images.shape)}, received "
            f"{tuple(tensor.shape)}; give one for each image"
        )


def check_mask(mask: Tensor, images: Tensor) -> None:
    """Require a mask for all images, or one for each."""
    try:
        fits = torch.broadcast_shapes(mask.shape, images.shape) == images.shape
    except RuntimeError:
        fits = False
    if not fits or mask.ndim != images.ndim:
        raise ValueError(
            f"mask: expected shape {(1, *images.shape[1:])} for all images or "
            f"{tuple(images.shape)}, one for each, received {tuple(mask.shape)}; give a mask of "
            "all the images that you attack, and ball[rows] for some of them"
        )
