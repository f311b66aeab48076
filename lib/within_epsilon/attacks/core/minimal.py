"""What minimal-norm attacks share: what they return, and the closest of several finds."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import Objective, logits_of
from within_epsilon.checks import check_labels
from within_epsilon.geometry import Norm, double, norm_of_rows, per_pixel, wider

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
    images : Tensor of shape (N, ...)
        Clean pixels.
    norm : {"linf", "l2", "l1", "l0"}
        How distance is measured.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The closest so far; the clean images to begin with.
    distances : Tensor of shape (N,)
        Their distances, in the images' dtype or float32 if that is narrower; infinite
        to begin with.
    """

    def __init__(self, images: Tensor, norm: Norm | Literal["l0"]) -> None:
        self.images, self.norm = images, norm
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

    def measure(self, rows: Tensor, images_adv: Tensor) -> Tensor:
        """Return the distances of candidates from the clean images `rows`, (M,)."""
        change = double(images_adv) - double(self.images[rows])
        return norm_of_rows(change.flatten(1), self.norm).to(self.distances)

    def visit(self, rows: Tensor, images_adv: Tensor) -> Tensor:
        """Return where an attack stands, (N, ...): at the clean images but for `rows`."""
        return self.images.index_copy(0, rows, images_adv)

    @property
    def found(self) -> Tensor:
        """Which examples have an adversarial image, (N,), bool."""
        return self.distances.isfinite()

    @property
    def movable(self) -> Tensor:
        """The examples whose adversarial image is not the clean one, (M,), int64."""
        return (self.found & (self.distances > 0)).nonzero().squeeze(1)

    def result(self, model: nn.Module, objective: Objective) -> Minimal:
        """Return what was kept, after making sure that the model is fooled by the very images.

        What was seen to fool it from just inside [0, 1] may need to go a little further.
        """
        rows = self.movable
        if not len(rows):
            return Minimal(self.images_adv, self.distances)
        found = self.images_adv[rows]
        lost = ~objective[rows].achieved(logits_of(model, found))
        rows, found = rows[lost], found[lost]
        self.images_adv[rows], self.distances[rows] = self.images[rows], torch.inf
        for stretch in _STRETCHES if len(rows) else ():
            points = torch.lerp(self.images[rows], found, stretch).clamp_(0, 1)
            self.offer(rows, points, objective[rows].achieved(logits_of(model, points)))
        return Minimal(self.images_adv, self.distances)


def begin(
    model: nn.Module, images: Tensor, objective: Objective, norm: Norm | Literal["l0"]
) -> tuple[Closest, Tensor]:
    """Score the clean images; return where to keep finds, and who is still to be fooled.

    Returns
    -------
    closest : Closest
        At distance 0 where the clean image is adversarial already.
    rows : Tensor of shape (M,), int64
        The other examples.
    """
    closest = Closest(images, norm)
    everyone = torch.arange(len(images), device=images.device)
    logits = logits_of(model, images)
    check_labels(objective.labels, *logits.shape)
    achieved = objective.achieved(logits)
    closest.offer(everyone, images, achieved)
    return closest, everyone[~achieved]


def bisect(
    model: nn.Module,
    closest: Closest,
    rows: Tensor,
    images_adv: Tensor,
    objective: Objective,
    steps: int,
) -> None:
    """Halve the straight way from adversarial images back to the clean ones.

    Every point of that way lies in [0, 1]. It may cross the border between two classes
    several times; one of the crossings is found.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    closest : Closest
        Is offered every point that is tried.
    rows : Tensor of shape (M,), int64
        Which examples.
    images_adv : Tensor of shape (M, ...)
        Where the ways begin: adversarial images.
    objective : Objective
        What the attack wants of all examples.
    steps : int
        Halvings, a forward pass each; what is left to gain halves with every one.
    """
    if not len(rows):
        return
    clean, objective = closest.images[rows], objective[rows]
    lower = torch.zeros_like(closest.distances[rows])
    upper = torch.ones_like(lower)
    for _ in range(steps):
        middle = (lower + upper) / 2
        point = torch.lerp(clean, images_adv, per_pixel(middle, clean).to(clean)).clamp_(0, 1)
        achieved = objective.achieved(logits_of(model, point))
        closest.offer(rows, point, achieved)
        upper = torch.where(achieved, middle, upper)
        lower = torch.where(achieved, lower, middle)
