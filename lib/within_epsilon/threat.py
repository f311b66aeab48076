"""Threat models: which changes of an image the adversary may make."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from within_epsilon import geometry
from within_epsilon.geometry import Norm, double
from within_epsilon.region import Region, slack
from within_epsilon.wording import radius


@dataclass(frozen=True)
class Ball:
    """All perturbations of norm at most epsilon, for each image of a batch.

    The first dimension of every tensor counts the images; norms run over all others. A
    tensor without other dimensions is refused with a ValueError.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
        Largest change of a pixel, Euclidean length, or sum of all changes.
    epsilon : float
        The radius, in units of pixels that run from 0 to 1.

    Raises
    ------
    ValueError
        If the norm is unknown, or epsilon negative, not finite or, for linf, above 1.
    TypeError
        If epsilon is not a number.

    Examples
    --------
    >>> print(Ball("linf", 8 / 255))
    l∞ ε = 8/255
    """

    norm: Norm
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(
                f"norm: expected one of {', '.join(get_args(Norm))}, received {self.norm!r}"
            )
        try:
            object.__setattr__(self, "epsilon", float(self.epsilon))
        except (TypeError, ValueError):
            raise TypeError(
                f"epsilon: expected a number, received {self.epsilon!r}; "
                "give one radius for all images, such as 8 / 255"
            ) from None
        if not 0 <= self.epsilon < float("inf"):
            raise ValueError(f"epsilon: expected a radius >= 0, received {self.epsilon}")
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"epsilon: expected at most 1, since pixels run from 0 to 1, received "
                f"{self.epsilon:g}; for {self.epsilon:g} of 255 levels give {self.epsilon:g} / 255"
            )

    def __str__(self) -> str:
        """Name the norm and the radius, in 255ths where that is the shorter way."""
        name = {"linf": "l∞", "l2": "l2", "l1": "l1"}[self.norm]
        return f"{name} ε = {radius(self.epsilon)}"

    def length(self, delta: Tensor) -> Tensor:
        """Measure each perturbation in the ball's norm.

        Parameters
        ----------
        delta : Tensor of shape (N, ...)
            Perturbations.

        Returns
        -------
        Tensor of shape (N,), float64
            Norms, free of overflow and underflow.
        """
        _check_batch("delta", delta)
        return geometry.norm_of_rows(double(delta).flatten(1), self.norm)

    def contains(self, delta: Tensor, atol: float = 0.0) -> Tensor:
        """Tell which perturbations lie in the ball, up to rounding in their dtype.

        A difference of two images carries the rounding of its pixels, so give it
        ``atol=1e-6`` or ask `admits` instead.

        Parameters
        ----------
        delta : Tensor of shape (N, ...)
            Perturbations.
        atol : float
            How far beyond epsilon a norm may go.

        Returns
        -------
        Tensor of shape (N,), bool
            Whether norm <= epsilon (1 + 1e-6) + atol; 1e-3 in float16, 1e-2 in bfloat16.
        """
        return self.length(delta) <= self.epsilon * (1 + slack(delta.dtype)) + atol

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
            Whether all pixels lie in [0, 1] and the change in the ball: for linf,
            exactly between the bounds x - epsilon and x + epsilon as rounded to the
            dtype; for l2 and l1, as in `contains`, on the exact difference.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        _check_shape("images_adv", images_adv, images)
        return self.within(images).admits(images_adv, atol)

    def within(self, images: Tensor) -> Region:
        """Prepare the points that the threat model allows around images, for many steps.

        Parameters
        ----------
        images : Tensor of shape (N, ...)
            Clean pixels in [0, 1].

        Returns
        -------
        Region
            Whose `clip` brings points back and whose `admits` judges them.
        """
        _check_batch("images", images)
        return Region(images, self.norm, self.epsilon)

    def project(self, delta: Tensor) -> Tensor:
        """Return the points of the ball nearest to the given ones (Euclidean distance).

        Parameters
        ----------
        delta : Tensor of shape (N, ...)
            Perturbations of any finite size.

        Returns
        -------
        Tensor of shape (N, ...)
            The projections, rounded to delta's dtype; a delta inside stays as it is.

        References
        ----------
        l1: Duchi, Shalev-Shwartz, Singer, Chandra, ICML 2008; see `geometry`.
        """
        _check_batch("delta", delta)
        if self.norm == "linf":
            return delta.clamp(-self.epsilon, self.epsilon)
        return self._project(double(delta)).to(delta)

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

        Raises
        ------
        ValueError
            If the shapes differ.

        Notes
        -----
        Projecting comes first and clipping second: as the clean pixel lies in [0, 1],
        clipping shrinks every coordinate of delta and cannot leave the ball. For linf
        the result is the projection onto ball and pixel range together; for l2 and l1
        it lies in both but need not be the nearest such point.

        A pixel has fewer bits to spare than a small delta, and rounding the sum could
        push the norm over epsilon. Where it does, pixels that rounding has moved further
        than delta asked are set back to the next float towards the clean image.
        """
        _check_shape("delta", delta, images)
        return self.within(images).perturb(delta)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the unit step that raises a linear function most.

        Solves max <g, d> over norm(d) <= 1: the signs for linf, the normalised
        gradient for l2, and for l1 a whole unit on the largest coordinate (the first
        of several). The maximum is the dual norm of g.

        Parameters
        ----------
        gradient : Tensor of shape (N, ...)
            Gradients.

        Returns
        -------
        Tensor of shape (N, ...)
            Steps of norm 1; zero where the gradient is zero.
        """
        _check_batch("gradient", gradient)
        return geometry.steepest_rows(gradient.flatten(1), self.norm).view_as(gradient)

    def random(
        self,
        like: Tensor,
        generators: Iterable[torch.Generator],
        *,
        boundary: bool = False,
        shortened: bool = False,
    ) -> Tensor:
        """Draw one perturbation per image, uniform inside the ball.

        Parameters
        ----------
        like : Tensor of shape (N, ...)
            Gives shape, dtype and device.
        generators : iterable of N torch.Generator
            One per image; see `runtime.example_generators`.
        boundary : bool
            Draw perturbations as large as the ball allows instead: for linf a random
            corner, every pixel moved by epsilon; for l2 and l1 a uniform point of the
            sphere.
        shortened : bool
            Multiply each draw by a factor uniform in [0, 1].

        Returns
        -------
        Tensor of shape (N, ...)
            Perturbations.

        References
        ----------
        l2 and l1: Barthe, Guédon, Mendelson, Naor, 2005; see `geometry`.
        """
        _check_batch("like", like)
        shape = len(like), like.shape[1:].numel()
        rows = geometry.draw_rows(
            self.norm, shape, generators, inside=not boundary, shortened=shortened
        )
        return self.project((self.epsilon * rows).view(like.shape).to(like))

    def _project(self, delta: Tensor) -> Tensor:
        """Project float64 perturbations onto the l2 or l1 ball."""
        project = geometry.project_rows_l2 if self.norm == "l2" else geometry.project_rows_l1
        return project(delta.flatten(1), self.epsilon).view_as(delta)


def check_ball(ball: object) -> None:
    """Require a `Ball`, and not its radius alone.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(ball, Ball):
        raise TypeError(f'ball: expected one such as Ball("linf", 8 / 255), received {ball!r}')


def _check_batch(name: str, tensor: Tensor) -> None:
    if tensor.ndim < 2:
        raise ValueError(
            f"{name}: expected a batch of shape (N, ...), received {tuple(tensor.shape)}; add a "
            f"batch dimension to a single one with {name}.unsqueeze(0)"
        )


def _check_shape(name: str, tensor: Tensor, images: Tensor) -> None:
    if tensor.shape != images.shape:
        raise ValueError(
            f"{name}: expected the images' shape {tuple(images.shape)}, received "
            f"{tuple(tensor.shape)}; give one for each image"
        )
