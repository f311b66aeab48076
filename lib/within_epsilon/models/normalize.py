"""Normalisation as a layer: what a network was trained to see, made from pixels in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Compute ``(images - mean) / std``, channel by channel.

    Parameters
    ----------
    mean, std : float or one float per channel
        For pixels in [0, 1]: means between 0 and 1, and deviations above 0, up to 2. Pixels
        in [0, 1] deviate by 0.5 at most; 1 leaves their scale alone, and 1 / 255 makes levels.

    Attributes
    ----------
    mean, std : Tensor, (C, 1, 1) or (1, 1, 1)
        Buffers that are no part of the state_dict: they are constants of the model.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If a mean or std is beyond those limits, or they are of different lengths.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: float | Sequence[float] | Tensor = 0.0,
        std: float | Sequence[float] | Tensor = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            try:
                buffer = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1).clone()
            except (TypeError, ValueError, RuntimeError):
                raise TypeError(
                    f"{name}: expected a number, or one per channel, received {value!r}"
                ) from None
            self.register_buffer(name, buffer, persistent=False)
        if len({1, len(self.mean), len(self.std)}) > 2:
            raise ValueError(
                "mean and std: expected one number each, or as many as there are channels, "
                f"received {len(self.mean)} and {len(self.std)}"
            )
        if not (self.std > 0).all():
            raise ValueError(
                f"std: expected positive numbers, received {_numbers(self.std)}; give 1 to "
                "channels that are not scaled"
            )
        self._require_pixel_units()

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (N, C, ...), whose dtype stays."""
        mean, std = self.mean, self.std
        if images.ndim != 4:  # of tables and volumes: constants along the channels all the same
            mean, std = (b.view(-1, *[1] * (images.ndim - 2)) for b in (mean, std))
        return ((images - mean) / std).to(images.dtype)

    def extra_repr(self) -> str:
        """Name the constants."""
        mean, std = (tuple(round(v, 4) for v in _numbers(b)) for b in (self.mean, self.std))
        return f"mean={mean}, std={std}"

    def _require_pixel_units(self) -> None:
        """Refuse what cannot be meant for pixels in [0, 1]: a mean outside, a std above 2."""
        if ((self.mean >= 0) & (self.mean <= 1)).all() and (self.std <= 2).all():
            return
        remedy = "the mean is subtracted, so give it without a minus sign"
        if (self.mean >= 0).all():
            remedy = (
                "divide both by 255 if they are in units of 0 to 255 (a std of 1 then becomes "
                "1 / 255), and leave out a mere division by 255: pixels are in [0, 1] already"
            )
        raise ValueError(
            "mean and std: expected those of pixels in [0, 1], means from 0 to 1 and deviations "
            f"up to 2, received {_numbers(self.mean)} and {_numbers(self.std)}; {remedy}"
        )


def _numbers(buffer: Tensor) -> list[float]:
    return [float(f"{number:.6g}") for number in buffer.flatten().tolist()]
