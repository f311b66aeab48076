"""A network that speaks pixels in [0, 1] and the names of its classes."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_counts, check_images
from within_epsilon.models.normalize import Normalize
from within_epsilon.models.outputs import check_one_row_each, find_logits
from within_epsilon.modes import warn_if_training
from within_epsilon.runtime import untouched
from within_epsilon.wording import with_share

_UNSQUEEZE = "add a batch dimension to a single image with images.unsqueeze(0)"


class Prediction(NamedTuple):
    """One class, what it is called, and the probability that a classifier gives it."""

    category: str
    probability: float
    index: int  # type: ignore[assignment]  # the field hides tuple.index

    def __repr__(self) -> str:
        return with_share(self.category, self.probability)


class Classifier(nn.Module):
    """A network together with its normalisation and the names of its classes.

    It computes ``body((images - mean) / std)``. Since the normalisation is inside, an
    attack works on pixels and epsilon is in units of pixels.

    Parameters
    ----------
    body : Module
        Takes normalised images (N, C, H, W), returns logits (N, k); or tabular data (N, D),
        signals (N, C, L), volumes (N, C, D, H, W). It may be compiled, parallel, TorchScript
        or quantised. Activation checkpointing needs ``use_reentrant=False``: torch refuses
        the other kind wherever a gradient in the input alone is asked for.
    mean, std : float or one float per channel
        For pixels in [0, 1], along dimension 1; see `Normalize`. Nothing is normalised by
        default, for a body that does so itself.
    categories : sequence of str, or mapping, optional
        The k classes' names, by index; a mapping from index to name (``id2label``) or from
        name to index (``class_to_idx``) has all indices from 0 to k - 1.
    output : str or int, optional
        Where the logits are if the body returns more: a key, a field or an attribute, or a
        position, negative from the end. A tensor alone is taken as it is.

    Attributes
    ----------
    mean, std : Tensor
        The normalisation's constants, (C, 1, 1) or (1, 1, 1).
    categories : tuple of str
        Empty if none were given; predictions then bear the class's index as its name.

    Raises
    ------
    TypeError
        If categories are no names, or output neither a key nor a position.
    ValueError
        If mean and std cannot be those of pixels in [0, 1] or are of different lengths, or a
        mapping's indices are not 0 to k - 1.
    """

    def __init__(
        self,
        body: nn.Module,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        categories: Iterable[str] | Mapping[Any, Any] = (),
        output: str | int | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.body = body
        self.categories = _in_order(categories)
        if output is not None and not isinstance(output, str | int):
            raise TypeError(f"output: expected a key or a position, received {output!r}")
        self.output = output

    @property
    def mean(self) -> Tensor:
        """What is subtracted, (C, 1, 1) or (1, 1, 1)."""
        return self.normalize.mean

    @mean.setter
    def mean(self, value: Tensor) -> None:
        self.normalize.mean = Normalize(value, self.std).mean.to(self.mean)

    @property
    def std(self) -> Tensor:
        """What is divided by, (C, 1, 1) or (1, 1, 1)."""
        return self.normalize.std

    @std.setter
    def std(self, value: Tensor) -> None:
        self.normalize.std = Normalize(self.mean, value).std.to(self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        images : Tensor, (N, C, H, W), or of another shape that the body takes
            Pixels, in [0, 1] but for those who step outside on purpose, with finite
            differences or Gaussian noise: attacks and `predict` check the range.

        Returns
        -------
        Tensor, (N, k)

        Raises
        ------
        ValueError
            If images or logits have the wrong shape.
        TypeError
            If images are integers, or there are no logits in what the body returns.
        """
        self._check_images(images)
        normalised = self.normalize(images)
        result = self._of_signals(normalised) if images.ndim == 3 else self.body(normalised)
        logits = find_logits(result, self.output)
        check_one_row_each(logits, len(images), len(self.categories))
        return logits

    def predict(self, images: Tensor, top: int = 5) -> list[list[Prediction]]:
        """Name the most probable classes of each image.

        Parameters
        ----------
        images : Tensor, (N, C, H, W), or of another shape that the body takes
            Pixels in [0, 1].
        top : int
            How many classes to name; all, if there are fewer.

        Returns
        -------
        list of N lists
            The most probable class first.

        Raises
        ------
        ValueError
            If a pixel is outside [0, 1], there is no image, or no class to name.

        Warns
        -----
        UserWarning
            If a part of the model is in train mode.
        """
        check_images(images)
        check_counts(top=top)
        warn_if_training(self)
        with torch.no_grad(), untouched(self):
            probabilities = self(images).cpu().double().softmax(-1)
        values, indices = probabilities.topk(min(top, probabilities.shape[1]))
        return [
            [Prediction(self._name(i), p, i) for p, i in zip(*row, strict=True)]
            for row in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def extra_repr(self) -> str:
        """Count the categories."""
        return f"{len(self.categories)} categories"

    def _name(self, index: int) -> str:
        return self.categories[index] if self.categories else str(index)

    def _check_images(self, images: Tensor) -> None:
        if images.ndim < 2:
            raise ValueError(
                f"images: expected shape (N, C, H, W), received {tuple(images.shape)}; {_UNSQUEEZE}"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images: expected floating-point pixels in [0, 1], received {images.dtype}; "
                "convert with images.float() / 255"
            )
        channels = max(len(self.mean), len(self.std))
        if channels not in (1, images.shape[1]):
            remedy = "give images as many as mean and std have"
            if images.ndim == 3:
                remedy = _UNSQUEEZE
            elif channels == images.shape[-1]:
                remedy = "move them to dimension 1 with images.movedim(-1, 1)"
            raise ValueError(
                f"images: expected {channels} channels, as many as mean and std have, received "
                f"shape {tuple(images.shape)}; {remedy}"
            )

    def _of_signals(self, signals: Tensor) -> Any:
        """Run the body on (N, C, L), which a single image might be taken for."""
        try:
            return self.body(signals)
        except (ValueError, RuntimeError, torch.jit.Error) as error:
            raise ValueError(
                f"images: expected shape (N, C, H, W), received {tuple(signals.shape)}, which the "
                f"body cannot take as signals (N, C, L); {_UNSQUEEZE}"
            ) from error


def _in_order(categories: Iterable[str] | Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names of the classes, by index."""
    if isinstance(categories, Mapping):
        items = list(categories.items())
        for pairs in (items, [(index, name) for name, index in items]):
            named = {_index(index): name for index, name in pairs if isinstance(name, str)}
            if set(named) == set(range(len(items))):
                return tuple(named[index] for index in range(len(items)))
        raise ValueError(
            "categories: expected a mapping between names and all indices from 0 to "
            f"{len(items) - 1}, received {reprlib.repr(dict(categories))}; give a name to every "
            "output of the body, or a list of names in the order of its outputs"
        )
    if isinstance(categories, set | frozenset) or not isinstance(categories, Iterable):
        raise TypeError(
            "categories: expected names in the order of the body's outputs, received a "
            f"{type(categories).__name__}; give a list, or a mapping from index to name"
        )
    names = tuple(categories)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"categories: expected names, received {reprlib.repr(names)}; make strings of them: "
            "[str(name) for name in categories]"
        )
    return tuple(map(str, names))


def _index(key: Any) -> int | str:
    """Return an index as a number, also one that JSON has made a string of."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdigit() else key
    return int(key) if isinstance(key, SupportsIndex) else repr(key)
