"""A network that speaks pixels in [0, 1] and the names of its classes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_images
from within_epsilon.wording import percent


class Prediction(NamedTuple):
    """One class, what it is called, and the probability that a classifier gives it."""

    category: str
    probability: float
    index: int  # type: ignore[assignment]  # the field hides tuple.index

    def __repr__(self) -> str:
        return f"{self.category} {percent(self.probability)}"


class Classifier(nn.Module):
    """A network together with its normalisation and the names of its classes.

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
            raise ValueError(
                "mean and std: expected one number each, or as many as there are channels, "
                f"received {len(self.mean)} and {len(self.std)}"
            )
        if not (self.std > 0).all():
            raise ValueError(f"std: expected positive numbers, received {std}")

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        images : Tensor, (N, C, H, W)
            Pixels, in [0, 1] but for those who step outside on purpose, with finite
            differences or Gaussian noise: attacks and `predict` check the range.

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
        return self._logits(self.body((images - self.mean) / self.std))

    def predict(self, images: Tensor, top: int = 5) -> list[list[Prediction]]:
        """Name the most probable classes of each image.

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
            If a pixel is outside [0, 1], or there is no image.
        """
        check_images(images)
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
                f"images: expected shape (N, C, H, W), received {tuple(images.shape)}; "
                "add a batch dimension to a single image with images.unsqueeze(0)"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images: expected floating-point pixels in [0, 1], received {images.dtype}; "
                "convert with images.float() / 255"
            )
        channels = max(len(self.mean), len(self.std))
        if channels not in (1, images.shape[1]):
            raise ValueError(
                f"images: expected {channels} channels, as many as mean and std have, received "
                f"shape {tuple(images.shape)}"
            )

    def _logits(self, result: Any) -> Tensor:
        """Find the logits in what the body returned, and check their shape."""
        logits = result
        if self.output is not None:
            parts = result if isinstance(result, Mapping) else dict(enumerate(result))
            logits = parts.get(self.output)
        if not isinstance(logits, Tensor):
            keys = f" with keys {list(result)}" if isinstance(result, Mapping) else ""
            raise TypeError(
                f"body: expected logits, received a {type(result).__name__}{keys}, and "
                f"output={self.output!r}; set output to the key or position of the logits"
            )
        if logits.ndim != 2 or (self.categories and logits.shape[1] != len(self.categories)):
            raise ValueError(
                f"logits: expected shape (N, {len(self.categories) or 'K'}), one per category, "
                f"received {tuple(logits.shape)}; give the body's own categories, or none"
            )
        return logits
