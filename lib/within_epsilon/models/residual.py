"""A block with a shortcut."""

from typing import cast

from torch import Tensor, nn


class Residual(nn.Module):
    """Add a body's output to its input, or to what a shortcut makes of the input.

    Parameters
    ----------
    body : Module
        Any module.
    shortcut : Module, optional
        Brings the input to the shape of the body's output, where they differ; by default the
        input goes past the body as it is.

    References
    ----------
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, equation 2.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, images: Tensor) -> Tensor:
        """Compute ``body(images) + shortcut(images)``."""
        return cast(Tensor, self.body(images) + self.shortcut(images))
