"""Threat models: which changes of an image the adversary may make."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor

from within_epsilon import geometry
from within_epsilon.checks import check_batch, check_mask, check_shape
from within_epsilon.draws import draw_rows
from within_epsilon.geometry import Norm, double
from within_epsilon.region import SLACK, Region
from within_epsilon.wording import percent, radius


@dataclass(frozen=True, eq=False)
class Ball:
    """All perturbations of norm at most epsilon, for each image of a batch.

    The first dimension of every tensor counts the images; norms run over all others. A
    tensor without other dimensions is refused with a ValueError. ``ball[rows]`` is the ball
    of some of the images, chosen by number or by a mask.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        Largest change of a pixel, Euclidean length, or sum of all changes.
    epsilon : float
        The radius, in units of pixels that run from 0 to 1.
    mask : Tensor of shape (1, ...) or (N, ...), bool, optional
        Which pixels may change, in all images or in each; it has as many dimensions as a
        batch of images, and broadcasts against it. All pixels by default.

    Raises
    ------
    ValueError
        If the norm is unknown, or epsilon negative, not finite or, for linf, above 1.
    TypeError
        If epsilon is not a number, or the mask no bool tensor.

    Examples
    --------
    >>> print(Ball("linf", 8 / 255))
    ℓ∞ ε = 8/255
    """

    norm: Norm
    epsilon: float
    mask: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.mask is not None:
            if not isinstance(self.mask, Tensor) or self.mask.dtype != torch.bool:
                kind = getattr(self.mask, "dtype", type(self.mask).__name__)
                raise TypeError(f"mask: expected a bool tensor, received {kind}; give mask > 0")
            check_batch("mask", self.mask)
        if self.norm not in get_args(Norm):
            raise ValueError(
                f"norm: expected one of {', '.join(get_args(Norm))}, received {self.norm!r}"
            )
        try:
            object.__setattr__(self, "epsilon", float(self.epsilon))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise TypeError(
                f"epsilon: expected a number, received {self.epsilon!r}; "
                "give one radius for all images, such as 8 / 255"
            ) from None
        if not 0 <= self.epsilon <= 1e12:  # beyond, powers overflow
            raise ValueError(f"epsilon: expected a radius >= 0, received {self.epsilon}")
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"epsilon: expected at most 1, since pixels run from 0 to 1, received "
                f"{self.epsilon:g}; for {self.epsilon:g} of 255 levels give {self.epsilon:g} / 255"
            )

    def __str__(self) -> str:
        """Name the norm and the radius, in 255ths where that is the shorter way."""
        name = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}[self.norm]
        words = f"{name} ε = {radius(self.epsilon)}"
        if self.mask is not None:
            words += f" on {percent(self.mask.double().mean().item())} of the pixels"
        return words

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ball) or (self.mask is None) != (other.mask is None):
            return False
        same = (self.norm, self.epsilon) == (other.norm, other.epsilon)
        one, two = self.mask, other.mask
        return same and (one is None or two is None or torch.equal(one, two.to(one.device)))

    def __hash__(self) -> int:
        return hash((self.norm, self.epsilon))

    def __getitem__(self, rows: Tensor | slice) -> "Ball":
        """Return the ball of some of the images."""
        if self.mask is None or len(self.mask) == 1:
            return self
        try:
            return replace(self, mask=self.mask[rows])
        except IndexError as e:
            raise ValueError(f"mask: expected one for each image; {e}") from None

    def length(self, delta: Tensor) -> Tensor:
        """Measure perturbations (N, ...) in the ball's norm, free of overflow and underflow.

        Returns
        -------
        Tensor of shape (N,), float64
            Norms.
        """
        check_batch("delta", delta)
        return geometry.norm_of_rows(double(delta).flatten(1), self.norm)

    def contains(self, delta: Tensor, atol: float = 0.0) -> Tensor:
        """Tell which perturbations lie in the ball, up to rounding.

        A difference of two images carries the rounding of the subtraction: take it in
        float64, or ask `admits`, which does.

        Parameters
        ----------
        delta : Tensor of shape (N, ...)
            Perturbations.
        atol : float
            How far beyond epsilon a norm may go.

        Returns
        -------
        Tensor of shape (N,), bool
            Whether norm <= epsilon (1 + 2^-20) + atol, in every dtype, and the
            perturbation is 0 outside the mask.
        """
        inside = self.length(delta) <= self.epsilon * (1 + SLACK) + atol
        if self.mask is not None:
            inside &= (self.mask.to(delta.device) | (delta == 0)).flatten(1).all(dim=1)
        return inside

    def admits(self, images: Tensor, images_adv: Tensor, atol: float = 0.0) -> Tensor:
        """Tell which adversarial images the threat model allows.

        Parameters
        ----------
        images : Tensor of shape (N, ...)
            Clean pixels in [0, 1].
        images_adv : Tensor of shape (N, ...)
            Perturbed pixels, of the same dtype.
        atol : float
            How far beyond epsilon a change may go.

        Returns
        -------
        Tensor of shape (N,), bool
            Whether all pixels lie in [0, 1], and their exact change where `contains` says.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        check_shape("images_adv", images_adv, images)
        return self.within(images).admits(images_adv, atol)

    def within(self, images: Tensor, mask: Tensor | None = None) -> Region:
        """Prepare the points that the threat model allows around images, for many steps.

        Parameters
        ----------
        images : Tensor of shape (N, ...)
            Clean pixels in [0, 1].
        mask : Tensor of shape (1, ...) or (N, ...), bool, optional
            Which pixels may change; by default those of the ball's own mask.
        """
        check_batch("images", images)
        if mask is not None:
            return replace(self, mask=mask).within(images)
        if self.mask is not None:
            mask = self.mask.to(images.device)
            check_mask(mask, images)
        return Region(images, self.norm, self.epsilon, mask)

    def project(self, delta: Tensor) -> Tensor:
        """Return the points of the ball nearest to the given ones; see `geometry.project_rows`.

        Parameters
        ----------
        delta : Tensor of shape (N, ...)
            Perturbations of any finite size.

        Returns
        -------
        Tensor of shape (N, ...)
            The projections, rounded towards 0 in delta's dtype; a delta inside stays as it is.
        """
        check_batch("delta", delta)
        wide = double(delta)
        if self.mask is not None:
            wide = wide * self.mask.to(wide)
        rows = geometry.project_rows(wide.flatten(1), self.norm, self.epsilon).view_as(wide)
        rounded = geometry.round_towards(rows, torch.zeros_like(rows), delta.dtype)
        return rounded.to(delta.device)

    def perturb(self, images: Tensor, delta: Tensor) -> Tensor:
        """Add perturbations to images and return adversarial images that `admits` accepts.

        Parameters
        ----------
        images : Tensor of shape (N, ...)
            Clean pixels in [0, 1].
        delta : Tensor of shape (N, ...)
            Perturbations of any finite size.

        Returns
        -------
        Tensor of shape (N, ...)
            images + projected delta, clipped to [0, 1]; dtype and device of `images`.

        Notes
        -----
        Projecting comes first: as the clean pixel lies in [0, 1], clipping shrinks every
        coordinate of delta and cannot leave the ball. Pixels are rounded towards the clean
        image. For linf the result is the nearest point of ball and pixel range together; for
        l2 and l1 it need not be.
        """
        check_shape("delta", delta, images)
        return self.within(images).perturb(delta)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the unit step that raises a linear function most.

        Solves max <g, d> over norm(d) <= 1, the dual norm of g: the signs for linf, the
        normalised gradient for l2, for l1 a whole unit on the largest coordinate.

        Parameters
        ----------
        gradient : Tensor of shape (N, ...)
            Gradients.

        Returns
        -------
        Tensor of shape (N, ...)
            Steps of norm 1; zero where the gradient is zero.
        """
        check_batch("gradient", gradient)
        return geometry.steepest_rows(gradient.flatten(1), self.norm).view_as(gradient)

    def random(
        self,
        like: Tensor,
        generators: Iterable[torch.Generator],
        *,
        boundary: bool = False,
        shortened: bool = False,
    ) -> Tensor:
        """Draw one perturbation per image, uniform inside the ball; see `draws.draw_rows`.

        Parameters
        ----------
        like : Tensor of shape (N, ...)
            Gives shape, dtype and device.
        generators : iterable of N torch.Generator
            One per image; see `runtime.example_generators`.
        boundary : bool
            Draw as large ones as the ball allows instead: for linf a random corner, for l2
            and l1 a uniform point of the sphere.
        shortened : bool
            Multiply each draw by a factor uniform in [0, 1].

        Returns
        -------
        Tensor of shape (N, ...)
            Perturbations.
        """
        check_batch("like", like)
        mask = None
        if self.mask is not None:
            check_mask(self.mask, like)
            mask = self.mask.cpu().expand(len(self.mask), *like.shape[1:]).flatten(1)
        rows = draw_rows(
            self.norm,
            (len(like), like.shape[1:].numel()),
            generators,
            inside=not boundary,
            shortened=shortened,
            mask=mask,
        )
        return self.project((self.epsilon * rows).view(like.shape).to(like))


def check_ball(ball: object) -> None:
    """Require a `Ball`, and not its radius alone.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(ball, Ball):
        raise TypeError(f'ball: expected one such as Ball("linf", 8 / 255), received {ball!r}')
