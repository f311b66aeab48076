"""A network that speaks pixels in [0, 1] and the names of its classes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """One class, what it is called, and the probability that a classifier gives it."""

    category: str
    probability: float
    index: int  # type: ignore[assignment]  # the field hides tuple.index

    def __repr__(self) -> str:
        return f"{self.category} {self.probability:.0%}"


class Classifier(nn.Module):
    """
    A network together with its normalisation and the names of its classes.

    It computes ``body((images - mean) / std)``. Since the normalisation is inside, an
    attack works on pixels and epsilon is in units of pixels.

    Parameters
    ----------
    body : Module
        Takes normalised images (N, C, H, W), returns logits (N, K).
    mean, std : float or one float per channel
        Nothing is normalised by default, for a body that does so itself.
    categories : sequence of str, optional
        The K classes' names, by index.
    output : str or int, optional
        Where the logits are, if the body returns a dictionary or a tuple.

    Attributes
    ----------
    categories : tuple of str
        Empty if none were given; predictions then bear the class's index as its name.

    Raises
    ------
    ValueError
        If a std is not positive, or mean and std are of different lengths.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        categories: Sequence[str] = (),
        output: str | int | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.categories = tuple(categories)
        self.output = output
        # Constants of the model, so not part of its state_dict; they move with it.
        for name, value in (("mean", mean), ("std", std)):
            buffer = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1).clone()
            self.register_buffer(name, buffer, persistent=False)
        if len({1, len(self.mean), len(self.std)}) > 2:
            raise ValueError(f"mean has {len(self.mean)} channels and std has {len(self.std)}.")
        if not (self.std > 0).all():
            raise ValueError(f"std must be positive, got {std}.")

    def forward(self, images: Tensor) -> Tensor:
        """
        Compute logits.

        Parameters
        ----------
        images : Tensor, (N, C, H, W)
            Pixels in [0, 1]; the range is not checked here, in the inner loop of every
            attack, but by whoever takes images from outside.

        Returns
        -------
        Tensor, (N, K)

        Raises
        ------
        ValueError
            If images or logits have the wrong shape.
        TypeError
            If images are integers, or the body returns something else than a tensor.
        """
        self._check_images(images)
        result = self.body((images - self.mean) / self.std)
        logits = result if self.output is None else result[self.output]
        return self._check_logits(logits)

    def predict(self, images: Tensor, top: int = 5) -> list[list[Prediction]]:
        """
        Name the most probable classes of each image.

        Parameters
        ----------
        images : Tensor, (N, C, H, W)
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
            If a pixel is outside [0, 1].
        """
        if images.numel() and not (images.amin() >= 0 and images.amax() <= 1):
            raise ValueError(
                f"Pixels must lie in [0, 1], got [{images.amin():.3g}, {images.amax():.3g}]. "
                "Divide bytes by 255, and leave normalisation to the classifier."
            )
        with torch.no_grad():
            probabilities = self(images).cpu().double().softmax(-1)
        values, indices = probabilities.topk(min(top, probabilities.shape[1]))
        return [
            [Prediction(self._name(i), p, i) for p, i in zip(*row, strict=True)]
            for row in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def extra_repr(self) -> str:
        """Name what the body does not."""
        mean, std = (
            tuple(round(v, 4) for v in b.flatten().tolist()) for b in (self.mean, self.std)
        )
        return f"mean={mean}, std={std}, {len(self.categories)} categories"

    def _name(self, index: int) -> str:
        return self.categories[index] if self.categories else str(index)

    def _check_images(self, images: Tensor) -> None:
        if images.ndim != 4:
            raise ValueError(
                f"Expected images (N, C, H, W), got {tuple(images.shape)}; "
                "a single image becomes a batch by image[None]."
            )
        if not images.is_floating_point():
            raise TypeError(f"Expected pixels in [0, 1], got {images.dtype}; divide bytes by 255.")
        channels = max(len(self.mean), len(self.std))
        if channels not in (1, images.shape[1]):
            raise ValueError(
                f"The classifier's mean and std are for {channels} channels, images "
                f"{tuple(images.shape)} have {images.shape[1]}."
            )

    def _check_logits(self, logits: Any) -> Tensor:
        if not isinstance(logits, Tensor):
            keys = f" with keys {list(logits)}" if isinstance(logits, dict) else ""
            raise TypeError(
                f"The body returned a {type(logits).__name__}{keys} instead of logits; "
                "pass Classifier(..., output=<key or position of the logits>)."
            )
        if logits.ndim != 2 or (self.categories and logits.shape[1] != len(self.categories)):
            expected = f"(N, {len(self.categories) or 'K'})"
            raise ValueError(f"Expected logits {expected}, got {tuple(logits.shape)}.")
        return logits
