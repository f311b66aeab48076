"""The images that a threat model allows: a ball around each clean image, cut to [0, 1]."""

import math

import torch
from torch import Tensor

from within_epsilon import geometry
from within_epsilon.geometry import Norm, double

# By how much rounding may lengthen a perturbation, relative to epsilon; else by 1e-6.
_SLACK = {torch.float16: 1e-3, torch.bfloat16: 1e-2}


def slack(dtype: torch.dtype) -> float:
    """Return by how much rounding to a dtype may lengthen a perturbation, relative to epsilon."""
    return _SLACK.get(dtype, 1e-6)


class Region:
    """Ball and pixel range around a batch of images, prepared once for many steps.

    Made by `threat.Ball.within`.

    Parameters
    ----------
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    norm : {"linf", "l2", "l1"}
        The norm.
    epsilon : float
        The radius.
    """

    def __init__(self, images: Tensor, norm: Norm, epsilon: float) -> None:
        self.images, self.norm, self.epsilon = images, norm, epsilon
        if norm == "linf":
            # In the images' own dtype: what the contract compares with, bit for bit.
            self.lower = (images - epsilon).clamp_(min=0)
            self.upper = (images + epsilon).clamp_(max=1)
        else:
            self._clean = double(images)
            # Shortest length that rounding is no excuse for.
            self._limit = epsilon * (1 + slack(images.dtype))
            # Rounding moves a pixel by half of its last place at most.
            half_place = torch.finfo(images.dtype).eps / 4
            number = images[:1].numel()
            farthest = half_place * (number if norm == "l1" else math.sqrt(number))
            self._rounds_safely = farthest < 0.99 * (self._limit - epsilon)

    def __getitem__(self, rows: Tensor) -> "Region":
        """Return the region of some of the images, chosen by number or by a mask."""
        return Region(self.images[rows], self.norm, self.epsilon)

    def admits(self, images_adv: Tensor, atol: float = 0.0) -> Tensor:
        """Tell which points lie in the region; see `threat.Ball.admits`."""
        fine = (images_adv >= 0) & (images_adv <= 1)
        if self.norm == "linf":
            fine &= (self.lower - atol <= images_adv) & (images_adv <= self.upper + atol)
            return fine.flatten(1).all(dim=1)
        rows = (double(images_adv) - self._clean).flatten(1)
        lengths = geometry.norm_of_rows(rows, self.norm).to(images_adv.device)
        return fine.flatten(1).all(dim=1) & (lengths <= self._limit + atol)

    def clip(self, points: Tensor) -> Tensor:
        """Bring points back: first into the ball, then into [0, 1].

        Parameters
        ----------
        points : Tensor of shape (N, ...)
            Any finite numbers.

        Returns
        -------
        Tensor of shape (N, ...)
            Points that `admits` accepts, in the images' dtype. For linf the nearest such
            points; for l2 and l1 `nearest` may be nearer.
        """
        if self.norm == "linf":
            return torch.clamp(points, self.lower, self.upper)
        return self.perturb(double(points) - self._clean)

    def perturb(self, delta: Tensor) -> Tensor:
        """Add perturbations to the images and `clip`; see `threat.Ball.perturb`."""
        if self.norm == "linf":
            return torch.clamp(self.images + delta.to(self.images), self.lower, self.upper)
        project = geometry.project_rows_l2 if self.norm == "l2" else geometry.project_rows_l1
        change = project(double(delta).flatten(1), self.epsilon).view_as(self._clean)
        return self._rounded((self._clean + change).clamp_(0, 1), change)

    def steepest(self, points: Tensor, uphill: Tensor, length: float) -> Tensor:
        """Return the step of that length, in the ball's norm, that raises a linear function most.

        Parameters
        ----------
        points : Tensor of shape (N, ...)
            Where the steps begin, with pixels in [0, 1].
        uphill : Tensor of shape (N, ...)
            Gradients of what is to rise.
        length : float
            Norm of the steps, in pixel units, >= 0.

        Returns
        -------
        Tensor of shape (N, ...)
            `length` times `threat.Ball.steepest`; what leaves [0, 1] is for `clip` to bring
            back. For l1, whose best step moves a single pixel, a pixel goes no further than 0
            or 1, and what is left of the length goes to the next best.
        """
        rows = uphill.flatten(1)
        if self.norm == "l1":
            room = torch.where(uphill < 0, points, 1 - points).flatten(1)
            step = geometry.steepest_rows_l1(rows, length, room.to(rows))
        else:
            step = geometry.steepest_rows(rows, self.norm).mul_(length)
        return step.view_as(uphill).to(points)

    def step(self, points: Tensor, uphill: Tensor, length: float) -> Tensor:
        """Take the step of `steepest`, then come back by `clip`.

        Parameters
        ----------
        points : Tensor of shape (N, ...)
            Points of the region.
        uphill, length
            As in `steepest`.

        Returns
        -------
        Tensor of shape (N, ...)
            Points that `admits` accepts, in the images' dtype.
        """
        if self.norm == "l2":
            # Without a detour through the dtype of the images.
            delta = double(points) - self._clean
            rows = geometry.step_rows_l2(delta.flatten(1), uphill.flatten(1), length)
            return self.perturb(rows.view_as(delta))
        if self.norm == "linf":
            return self.clip(torch.add(points, uphill.sign().to(points), alpha=length))
        return self.clip(points + self.steepest(points, uphill, length))

    def nearest(self, points: Tensor) -> Tensor:
        """Return the nearest points of the region (Euclidean distance), for linf and l1.

        Parameters
        ----------
        points : Tensor of shape (N, ...)
            Any finite numbers.

        Returns
        -------
        Tensor of shape (N, ...)
            Points that `admits` accepts, in the images' dtype.

        References
        ----------
        l1: Croce, Hein, "Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image
        Classifiers", ICML 2021, Proposition 2.1.
        """
        if self.norm == "linf":
            return self.clip(points)
        if self.norm == "l2":
            raise ValueError("norm: expected linf or l1, received l2; use clip")
        change = double(points) - self._clean
        rows = change.flatten(1)
        room = torch.where(change > 0, 1 - self._clean, self._clean).flatten(1)
        change = geometry.project_rows_l1(rows, self.epsilon, room).view_as(change)
        return self._rounded(self._clean + change, change)

    def _rounded(self, points: Tensor, change: Tensor) -> Tensor:
        """Round float64 points to the images' dtype without leaving the ball.

        A pixel has fewer bits to spare than a small change. In images that rounding has
        carried out of the ball, each pixel that went further than its change asked is
        set back to the next float towards the clean image.
        """
        images_adv = points.to(self.images)
        if self._rounds_safely:
            return images_adv
        moved = double(images_adv) - self._clean
        order = 2 if self.norm == "l2" else 1
        outside = torch.linalg.vector_norm(moved.flatten(1), order, dim=1) > self._limit
        if not outside.any():
            return images_adv
        outside = outside.view(-1, *[1] * (moved.ndim - 1))
        too_far = (moved.abs() > change.abs()) & outside
        return geometry.step_back(images_adv, moved.sign_().mul_(too_far))
