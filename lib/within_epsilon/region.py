"""The images that a threat model allows: a ball around each clean image, cut to [0, 1]."""

import torch
from torch import Tensor

from within_epsilon import geometry
from within_epsilon.geometry import Norm, double, per_pixel

# By how much rounding may lengthen a perturbation, relative to epsilon, in every dtype.
SLACK = 2.0**-20


class Region:
    """Ball, mask and pixel range around a batch of images, prepared once for many steps.

    Made by `threat.Ball.within`.

    Parameters
    ----------
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    norm : {"linf", "l2", "l1"}
        The norm.
    epsilon : float or Tensor of shape (N,)
        The radius: one for all images, or one for each.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default.
    """

    def __init__(
        self,
        images: Tensor,
        norm: Norm,
        epsilon: float | Tensor,
        mask: Tensor | None = None,
    ) -> None:
        self.images, self.norm, self.epsilon, self.mask = images, norm, epsilon, mask
        self._clean = double(images)
        self._radius: float | Tensor = epsilon
        if isinstance(epsilon, Tensor):
            self._radius = double(epsilon).unsqueeze(1)
        if norm == "linf":
            self.lower, self.upper = self._bounds()
            return
        # Rounding moves a pixel by half of its last place at most, a quarter of eps.
        number = images[:1].numel()
        farthest = torch.finfo(images.dtype).eps / 4 * (number if norm == "l1" else number**0.5)
        smallest = epsilon if not isinstance(epsilon, Tensor) else epsilon.min().item()
        self._rounds_safely = len(images) > 0 and farthest < 0.99 * SLACK * smallest
        # There is no dtype to round float64 from: leave room for its rounding.
        self._spare = 0.0 if self._rounds_safely or images.dtype.itemsize < 8 else 2 * farthest

    def __getitem__(self, rows: Tensor) -> "Region":
        """Return the region of some of the images, chosen by number or by a mask."""
        epsilon, mask = self.epsilon, self.mask
        if isinstance(epsilon, Tensor):
            epsilon = epsilon[rows]
        if mask is not None and len(mask) == len(self.images) > 1:
            mask = mask[rows]
        return Region(self.images[rows], self.norm, epsilon, mask)

    def admits(self, images_adv: Tensor, atol: float = 0.0) -> Tensor:
        """Tell which points lie in the region; see `threat.Ball.admits`."""
        fine = (images_adv >= 0) & (images_adv <= 1)
        if self.mask is not None:
            fine &= self.mask | (images_adv == self.images)
        rows = (double(images_adv) - self._clean).flatten(1)
        limit = self._radius * (1 + SLACK) + atol
        short = geometry.norm_of_rows(rows, self.norm).unsqueeze(1) <= limit
        return fine.flatten(1).all(dim=1) & short.squeeze(1).to(fine.device)

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
        rows = self.masked(double(delta)).flatten(1)
        change = geometry.project_rows(rows, self.norm, self._inner).view_as(self._clean)
        return self._rounded((self._clean + change).clamp_(0, 1))

    def step(self, points: Tensor, uphill: Tensor, length: float) -> Tensor:
        """Take the step that raises a linear function most, then come back by `clip`.

        Parameters
        ----------
        points : Tensor of shape (N, ...)
            Points of the region.
        uphill : Tensor of shape (N, ...)
            Gradients of what is to rise.
        length : float
            Norm of the step, in pixel units, >= 0.

        Returns
        -------
        Tensor of shape (N, ...)
            Points that `admits` accepts, in the images' dtype.

        Notes
        -----
        For linf and l2 this is `length` times `threat.Ball.steepest`. For l1, whose best step
        moves a single pixel, a pixel goes no further than 0 or 1, and what is left of the
        length goes to the next best; see `geometry.steepest_rows_l1`.
        """
        if self.norm == "linf":
            return self.clip(torch.add(points, uphill.sign().to(points), alpha=length))
        rows = self.masked(uphill).flatten(1)
        if self.norm == "l2":
            # Without a detour through the dtype of the images.
            delta = double(points) - self._clean
            moved = geometry.step_rows_l2(delta.flatten(1), rows, length)
            return self.perturb(moved.view_as(delta))
        room = torch.where(uphill < 0, points, 1 - points).flatten(1).to(rows)
        step = geometry.steepest_rows_l1(rows, length, room).view_as(uphill)
        return self.clip(points + step.to(points))

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
        room = self.masked(torch.where(change > 0, 1 - self._clean, self._clean))
        rows = geometry.project_rows(change.flatten(1), "l1", self._inner, room.flatten(1))
        return self._rounded(self._clean + rows.view_as(change))

    @property
    def _inner(self) -> float | Tensor:
        """The radius that is projected onto."""
        if isinstance(self._radius, Tensor):
            return (self._radius - self._spare).clamp(min=0)
        return max(self._radius - self._spare, 0.0)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest pixels that linf allows, rounded inwards."""
        radius = self._radius
        if isinstance(radius, Tensor):
            radius = per_pixel(radius, self.images)
        if self.mask is not None:
            radius = radius * self.mask.to(self._clean)
        # Both ends in one tensor: on small images it is the number of calls that costs.
        ends = self._clean.new_empty(2, *self._clean.shape)
        torch.sub(self._clean, radius, out=ends[0]).clamp_(min=0)
        torch.add(self._clean, radius, out=ends[1]).clamp_(max=1)
        if self.images.dtype == torch.float64:  # no rounding follows: undo what went outwards
            outside = (ends - self._clean).abs() > radius
            ends = torch.where(outside, torch.nextafter(ends, self._clean), ends)
        ends = geometry.round_towards(ends, self._clean, self.images.dtype)
        lower, upper = ends.to(self.images.device)
        return lower, upper

    def masked(self, change: Tensor) -> Tensor:
        """Set to zero what a change (N, ...) does outside the mask."""
        return change if self.mask is None else change * self.mask.to(change)

    def _rounded(self, points: Tensor) -> Tensor:
        """Round float64 points to the images' dtype without leaving the ball."""
        rounded = points.to(self.images)
        if self._rounds_safely:
            return rounded
        # A pixel has fewer bits to spare than a small change of it.
        rows = (double(rounded) - self._clean).flatten(1)
        beyond = geometry.norm_of_rows(rows, self.norm).unsqueeze(1) > self._radius * (1 + SLACK)
        if not beyond.any():
            return rounded
        inside = geometry.round_towards(points, self._clean, self.images.dtype).to(rounded)
        return torch.where(per_pixel(beyond.to(rounded.device), rounded), inside, rounded)
