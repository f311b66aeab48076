"""Threat models: which changes of an image the adversary may make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "l1"]

# Slack for rounding when a norm is compared with epsilon, relative to epsilon.
_SLACK = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Ball:
    """All perturbations of norm at most epsilon, for each image of a batch.

    The first dimension of every tensor counts the images; norms run over all others.

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
        return f"{name} ε = {_readable(self.epsilon)}"

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
        return _norm(_double(delta).flatten(1), self.norm)

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
        return self.length(delta) <= self.epsilon * (1 + _SLACK[delta.dtype]) + atol

    def admits(self, images: Tensor, images_adv: Tensor) -> Tensor:
        """Tell which adversarial images the threat model allows.

        Parameters
        ----------
        images : Tensor of shape (N, ...)
            Clean pixels in [0, 1].
        images_adv : Tensor of shape (N, ...)
            Perturbed pixels, of the same dtype.

        Returns
        -------
        Tensor of shape (N,), bool
            Whether all pixels lie in [0, 1] and the change in the ball: for linf,
            exactly between the bounds x - epsilon and x + epsilon as rounded to the
            dtype; for l2 and l1, as in `contains`, on the exact difference.
        """
        if self.norm == "linf":
            lower, upper = self._bounds(images)
            return ((lower <= images_adv) & (images_adv <= upper)).flatten(1).all(dim=1)
        in_range = ((images_adv >= 0) & (images_adv <= 1)).flatten(1).all(dim=1)
        lengths = self.length(_double(images_adv) - _double(images)).to(images.device)
        return in_range & (lengths <= self.epsilon * (1 + _SLACK[images.dtype]))

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
        l1: Duchi, Shalev-Shwartz, Singer, Chandra, "Efficient Projections onto the
        l1-Ball for Learning in High Dimensions", ICML 2008, Figure 1 with equation 4;
        O(D log D) for D pixels.
        """
        if self.norm == "linf":
            return delta.clamp(-self.epsilon, self.epsilon)
        return self._project(_double(delta)).to(delta)

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
        push the norm over epsilon. Pixels that rounding has moved further than delta
        asked are therefore set back to the next float towards the clean image.
        """
        if images.shape != delta.shape:
            raise ValueError(
                f"delta: expected the images' shape {tuple(images.shape)}, "
                f"received {tuple(delta.shape)}"
            )
        if self.norm == "linf":
            lower, upper = self._bounds(images)
            return torch.clamp(images + delta.to(images), lower, upper)
        clean, change = _double(images), self._project(_double(delta))
        images_adv = (clean + change).clamp_(0, 1).to(images)
        too_far = (_double(images_adv) - clean).abs_() > change.abs_()
        return torch.where(too_far.to(images.device), _step_back(images_adv, images), images_adv)

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
        if self.norm == "linf":
            return gradient.sign()
        if self.norm == "l2":
            wide = _double(gradient)
            lengths = _norm(wide.flatten(1), "l2").view(_column(gradient))
            # 0 / tiny is 0: no direction, no step.
            return (wide / lengths.clamp(min=torch.finfo(wide.dtype).tiny)).to(gradient)
        rows = gradient.flatten(1)
        largest = rows.abs().argmax(dim=1, keepdim=True)
        step = torch.zeros_like(rows).scatter_(1, largest, rows.gather(1, largest).sign())
        return step.view_as(gradient)

    def random(self, like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw one perturbation per image, uniform inside the ball.

        Parameters
        ----------
        like : Tensor of shape (N, ...)
            Gives shape, dtype and device.
        generators : sequence of N torch.Generator
            One per image; see `runtime.example_generators`.

        Returns
        -------
        Tensor of shape (N, ...)
            Perturbations.

        References
        ----------
        l2 and l1: Barthe, Guédon, Mendelson, Naor, "A Probabilistic Approach to the
        Geometry of the l_p^n-Ball", Annals of Probability 2005, Theorem 1.
        """
        return self._draw(like, generators, inside=True)

    def random_boundary(self, like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw one perturbation per image, as large as the ball allows.

        For linf a random corner (every pixel moves by epsilon), for l2 and l1 a
        uniform point of the sphere. See `random` for parameters.
        """
        return self._draw(like, generators, inside=False)

    def _draw(self, like: Tensor, generators: Sequence[torch.Generator], *, inside: bool) -> Tensor:
        sample = {"linf": _draw_linf, "l2": _draw_l2, "l1": _draw_l1}[self.norm]
        size = like[0].numel()
        rows = [sample(size, generator, inside) for generator in generators]
        return self.project((self.epsilon * torch.stack(rows)).view(like.shape).to(like))

    def _bounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest pixels that linf allows, in the images' dtype."""
        return (images - self.epsilon).clamp_(min=0), (images + self.epsilon).clamp_(max=1)

    def _project(self, delta: Tensor) -> Tensor:
        """Project float64 perturbations onto the l2 or l1 ball."""
        lengths = _norm(delta.flatten(1), self.norm).view(_column(delta))
        outside = lengths > self.epsilon
        if self.norm == "l2":
            return delta * torch.where(outside, self.epsilon / lengths, 1.0)
        if not outside.any():
            return delta
        shrunk = delta.sign() * (delta.abs() - self._threshold(delta)).clamp_(min=0)
        return torch.where(outside, shrunk, delta)

    def _threshold(self, delta: Tensor) -> Tensor:
        """Return how much each coordinate must lose for the l1 norm to be epsilon."""
        sizes = delta.flatten(1).abs().sort(dim=1, descending=True).values
        ranks = torch.arange(1, sizes.shape[1] + 1, device=sizes.device, dtype=sizes.dtype)
        thresholds = (sizes.cumsum(dim=1) - self.epsilon) / ranks
        # The last rank whose coordinate survives its own threshold decides.
        last = (sizes > thresholds).sum(dim=1, keepdim=True).clamp_(min=1) - 1
        return thresholds.gather(1, last).view(_column(delta))


def _readable(epsilon: float) -> str:
    """Write 2/255 as "2/255", 0.1 as "0.1": the shortest form that loses nothing."""
    levels = epsilon * 255
    short = f"{epsilon:.3g}"
    if float(short) == epsilon or abs(levels * 4 - round(levels * 4)) > 1e-9 * levels:
        return short if float(short) == epsilon else f"{epsilon:.6g}"
    return f"{round(levels * 4) / 4:g}/255"


def _double(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, on the CPU if its own device has none (Apple's MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _column(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape (N, 1, ..., 1) that lets one number per image multiply it."""
    return (len(tensor), *(1 for _ in tensor.shape[1:]))


def _norm(rows: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each row of a float64 matrix."""
    if norm == "l1":
        return rows.abs().sum(dim=1)
    peaks = rows.abs().amax(dim=1)
    if norm == "linf":
        return peaks
    # Squares of very large or very small numbers leave the range of floats.
    scale = torch.where(peaks > 0, peaks, 1.0)
    return scale * torch.linalg.vector_norm(rows / scale.unsqueeze(1), dim=1)


def _step_back(images_adv: Tensor, images: Tensor) -> Tensor:
    """Move non-negative floats to the next one towards the clean image."""
    # Read as integers, non-negative floats keep their order and are one apart. (Not
    # torch.nextafter: not every device has it for every dtype.)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[images.element_size()]
    towards = (images > images_adv).to(bits) - (images < images_adv).to(bits)
    return (images_adv.view(bits) + towards).view(images.dtype)


def _draw_linf(size: int, generator: torch.Generator, inside: bool) -> Tensor:
    uniform = 2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
    return uniform if inside else uniform.sign()


def _draw_l2(size: int, generator: torch.Generator, inside: bool) -> Tensor:
    normal = torch.randn(size, generator=generator, dtype=torch.float64)
    extra = 2 * _exponential(1, generator) if inside else 0.0
    return normal / (normal.square().sum() + extra).sqrt()


def _draw_l1(size: int, generator: torch.Generator, inside: bool) -> Tensor:
    signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
    sizes = _exponential(size, generator)
    extra = _exponential(1, generator) if inside else 0.0
    return signs * sizes / (sizes.sum() + extra)


def _exponential(size: int, generator: torch.Generator) -> Tensor:
    return torch.empty(size, dtype=torch.float64).exponential_(generator=generator)
