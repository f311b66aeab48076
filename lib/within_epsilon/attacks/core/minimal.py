"""What minimal-norm attacks share: what they return, and the closest of several finds."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import Callback, Loss, Objective, logits_of
from within_epsilon.geometry import Norm, double, norm_of_rows, per_pixel, wider
from within_epsilon.losses import margin_loss

# How much further a find is carried that fools the model only from just inside [0, 1].
_STRETCHES = (1.001, 1.01, 1.1, 1.5)


class Minimal(NamedTuple):
    """The closest adversarial images that an attack found, and how close they are.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        Pixels in [0, 1]; the clean image where nothing was found.
    distances : Tensor of shape (N,)
        Norms of images_adv - images: upper bounds on the distances to the nearest
        adversarial images. 0 where the clean image is one already, infinite where
        nothing was found.
    """

    images_adv: Tensor
    distances: Tensor


class Closest:
    """Keeps the adversarial image closest to each clean one.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels.
    objective : Objective
        What the attack wants of them.
    norm : {"linf", "l2", "l1", "l0"}
        How distance is measured.
    callback : callable, optional
        ``callback(step, images_adv, distances)``, see `tell`.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The closest so far; the clean images to begin with.
    distances : Tensor of shape (N,)
        Their distances, in the images' dtype or float32 if that is narrower; infinite
        to begin with.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        objective: Objective,
        norm: Norm | Literal["l0"],
        callback: Callback | None = None,
    ) -> None:
        self.model, self.images, self.objective = model, images, objective
        self.norm, self.callback = norm, callback
        self.images_adv = images.clone()
        self.distances = images.new_full((len(images),), torch.inf, dtype=wider(images.dtype))

    def offer(self, rows: Tensor, images_adv: Tensor, achieved: Tensor) -> None:
        """Take one candidate for each of the examples `rows`, where it is adversarial and closer.

        Parameters
        ----------
        rows : Tensor of shape (M,), int64
            Which examples.
        images_adv : Tensor of shape (M, ...)
            Pixels in [0, 1].
        achieved : Tensor of shape (M,), bool
            Whether the model was seen to be fooled by them.
        """
        distances = self.measure(rows, images_adv)
        closer = (achieved & (distances < self.distances[rows])).nonzero().squeeze(1)
        self.images_adv[rows[closer]] = images_adv[closer]
        self.distances[rows[closer]] = distances[closer]

    def query(self, rows: Tensor, images_adv: Tensor) -> Tensor:
        """Ask the model about candidates and `offer` them; return which fool it, (M,)."""
        achieved = self.achieved(rows, images_adv)
        self.offer(rows, images_adv, achieved)
        return achieved

    def achieved(self, rows: Tensor, images_adv: Tensor) -> Tensor:
        """Tell which candidates fool the model, (M,); about none it is not asked."""
        if not len(rows):
            return torch.zeros_like(rows, dtype=torch.bool)
        return self.objective[rows].achieved(logits_of(self.model, images_adv))

    def measure(self, rows: Tensor, images_adv: Tensor) -> Tensor:
        """Return the distances of candidates from the clean images `rows`, (M,)."""
        change = double(images_adv) - double(self.images[rows])
        return norm_of_rows(change.flatten(1), self.norm).to(self.distances)

    def visit(self, step: int, rows: Tensor, images_adv: Tensor, achieved: Tensor) -> None:
        """Take candidates as `offer` does, and `tell` of them."""
        self.offer(rows, images_adv, achieved)
        self.tell(step, rows, images_adv)

    def tell(self, step: int, rows: Tensor, images_adv: Tensor) -> None:
        """Tell the callback where an attack stands: at the clean images but for `rows`."""
        if self.callback is not None:
            whole = self.images.index_copy(0, rows, images_adv)
            self.callback(step, whole, self.distances.clone())

    @property
    def found(self) -> Tensor:
        """Which examples have an adversarial image, (N,), bool."""
        return self.distances.isfinite()

    @property
    def perturbed(self) -> Tensor:
        """The examples whose adversarial image is not the clean one, (M,), int64."""
        return (self.found & (self.distances > 0)).nonzero().squeeze(1)

    def bisect(self, rows: Tensor, images_adv: Tensor, steps: int) -> None:
        """Halve the straight way from adversarial images back to the clean ones.

        Every point of that way lies in [0, 1]. It may cross the border between two classes
        several times; one of the crossings is found.

        Parameters
        ----------
        rows : Tensor of shape (M,), int64
            Which examples.
        images_adv : Tensor of shape (M, ...)
            Where the ways begin: adversarial images.
        steps : int
            Halvings, a forward pass each; what is left to gain halves with every one.
        """
        clean = self.images[rows]
        lower = torch.zeros_like(self.distances[rows])
        upper = torch.ones_like(lower)
        for _ in range(steps if len(rows) else 0):
            middle = (lower + upper) / 2
            point = torch.lerp(clean, images_adv, per_pixel(middle, clean).to(clean)).clamp_(0, 1)
            achieved = self.query(rows, point)
            upper = torch.where(achieved, middle, upper)
            lower = torch.where(achieved, lower, middle)

    def result(self) -> Minimal:
        """Return what was kept, after making sure that the model is fooled by the very images.

        What was seen to fool it from just inside [0, 1] may need to go a little further.
        """
        rows = self.perturbed
        found = self.images_adv[rows]
        lost = ~self.achieved(rows, found)
        rows, found = rows[lost], found[lost]
        self.images_adv[rows], self.distances[rows] = self.images[rows], torch.inf
        for stretch in _STRETCHES:
            self.query(rows, torch.lerp(self.images[rows], found, stretch).clamp_(0, 1))
        return Minimal(self.images_adv, self.distances)


def begin(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm | Literal["l0"],
    callback: Callback | None,
    *,
    targeted: bool,
    mask: Tensor | None,
    loss: Loss = margin_loss,
) -> tuple[Closest, Tensor]:
    """Score the clean images; return where to keep finds, and who is still to be fooled.

    Parameters
    ----------
    model, images, labels, norm, callback, targeted, mask
        As the attack was given them.
    loss : callable
        (logits, labels) -> (N,), which it raises.

    Returns
    -------
    closest : Closest
        At distance 0 where the clean image is adversarial already.
    rows : Tensor of shape (M,), int64
        The other examples.
    """
    objective = Objective(labels, loss, targeted, mask=mask)
    closest = Closest(model, images, objective, norm, callback)
    everyone = torch.arange(len(images), device=images.device)
    achieved = closest.query(everyone, images)
    return closest, everyone[~achieved]
