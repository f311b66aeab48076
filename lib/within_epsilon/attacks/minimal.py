"""What minimal-norm attacks share: what they return, and the closest of several finds."""

from collections.abc import Iterator
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from within_epsilon.attacks.common import Aim, score, stuck
from within_epsilon.checks import check_finite_gradient, check_logits
from within_epsilon.geometry import Norm, double, norm_of_rows


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
    norm : {"linf", "l2", "l1"}
        How distance is measured.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The closest so far; the clean images to begin with.
    distances : Tensor of shape (N,)
        Their distances, in the images' dtype or float32 if that is narrower; infinite
        to begin with.
    """

    def __init__(self, images: Tensor, norm: Norm) -> None:
        self.images, self.norm = images, norm
        self.images_adv = images.clone()
        dtype = torch.promote_types(images.dtype, torch.float32)
        self.distances = torch.full((len(images),), torch.inf, dtype=dtype, device=images.device)

    def offer(self, rows: Tensor, images_adv: Tensor, reached: Tensor) -> None:
        """Take one candidate for each of the examples `rows`, where it is adversarial and closer.

        Parameters
        ----------
        rows : Tensor of shape (M,), int64
            Which examples.
        images_adv : Tensor of shape (M, ...)
            Pixels in [0, 1].
        reached : Tensor of shape (M,), bool
            Whether the model was seen to be fooled by them.
        """
        distances = self.measure(rows, images_adv)
        closer = reached & (distances < self.distances[rows])
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

    def result(self) -> Minimal:
        """Return what was kept."""
        return Minimal(self.images_adv, self.distances)


def begin(model: nn.Module, images: Tensor, aim: Aim, norm: Norm) -> tuple[Closest, Tensor]:
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
    _, reached = score(model, images, aim)
    closest.offer(everyone, images, reached)
    return closest, everyone[~reached]


def nearest_rival(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    rivals: int,
    *,
    inside: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Find the class whose border with the label's would be nearest, were the model linear.

    .. math:: \arg\min_{j \ne y} \frac{h(x)_y - h(x)_j}
              {\|\nabla h(x)_j - \nabla h(x)_y\|_*}

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Where to linearise.
    labels : Tensor of shape (N,), int64
        The classes to leave.
    norm : {"linf", "l2", "l1"}
        How distance is measured.
    rivals : int
        How many classes to consider, those of the largest logits: a gradient each.
    inside : bool
        Leave out of the gradients what points out of [0, 1].

    Returns
    -------
    logits : Tensor of shape (N, K)
        The model's outputs, detached.
    gaps : Tensor of shape (N,)
        By how much the rival's logit exceeds the label's: negative, unless the model is fooled.
    uphill : Tensor of shape (N, ...)
        The gap's gradient.
    """
    logits, _, borders = _linearise(model, images, labels, norm, rivals, inside=inside)
    chosen, uphill, nearest = next(borders)
    for gap, slope, distances in borders:
        closer = distances < nearest
        nearest = torch.where(closer, distances, nearest)
        chosen = torch.where(closer, gap, chosen)
        uphill = torch.where(per_pixel(closer, images), slope, uphill)
    return logits, chosen, uphill


def nearest_first(
    model: nn.Module, images: Tensor, labels: Tensor, norm: Norm, rivals: int
) -> Tensor:
    """Order the likeliest other classes by how far their borders would be, were the model linear.

    Parameters
    ----------
    model, images, labels, norm, rivals
        As in `nearest_rival`, which finds the first of them.

    Returns
    -------
    Tensor of shape (N, R), int64
        Classes; R is `rivals`, or K - 1 if there are no more.
    """
    _, ranking, borders = _linearise(model, images, labels, norm, rivals, inside=True)
    distances = torch.stack([distance for _, _, distance in borders], dim=1)
    return ranking.gather(1, distances.argsort(dim=1, stable=True))


def _linearise(
    model: nn.Module, images: Tensor, labels: Tensor, norm: Norm, rivals: int, *, inside: bool
) -> tuple[Tensor, Tensor, Iterator[tuple[Tensor, Tensor, Tensor]]]:
    """Return logits, the likeliest other classes, (N, R), and what the model is like at each.

    That is, one class after the other: by how much its logit exceeds the label's, (N,), the
    gradient of this gap, (N, ...), and the distance at which it would vanish, (N,).
    """
    images = images.detach()
    with torch.enable_grad():
        pixels = images.clone().requires_grad_()
        logits = check_logits(model(pixels), len(images))
        others = logits.detach().scatter(1, labels.unsqueeze(1), -torch.inf)
        ranking = others.argsort(dim=1, descending=True)[:, : min(rivals, logits.shape[1] - 1)]
        gaps = (logits.gather(1, ranking) - logits.gather(1, labels.unsqueeze(1))).unbind(dim=1)

    def borders() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rank, gap in enumerate(gaps):
            slope = _slope(gap, pixels, more=rank + 1 < len(gaps))
            slope = free(slope, images) if inside else slope
            yield gap.detach(), slope, gap.detach().abs() / dual_norm(slope, norm)

    return logits.detach(), ranking, borders()


def _slope(values: Tensor, images: Tensor, *, more: bool) -> Tensor:
    """Differentiate one value per example in its pixels; keep the graph if more are to come."""
    gradient = None
    if values.requires_grad:
        ones = torch.ones_like(values)
        (gradient,) = torch.autograd.grad(
            values, images, ones, retain_graph=more, allow_unused=True
        )
    if gradient is None:
        raise ValueError(
            "model: expected logits that depend on the pixels, received some without gradient in "
            "them; look for inference_mode() around the attack, and for detach(), no_grad(), "
            "argmax or NumPy in the model, or use an attack that needs no gradient"
        )
    check_finite_gradient(gradient)
    return gradient


def check_norm(norm: str, *known: str) -> None:
    """Require one of the norms that an attack knows.

    Raises
    ------
    ValueError
        If it is another.
    """
    if norm not in known:
        raise ValueError(
            f"norm: expected {' or '.join(known)}, received {norm!r}"
            + ("; use attacks.fmn for other norms" if norm in get_args(Norm) else "")
        )


def bisect(
    model: nn.Module, closest: Closest, rows: Tensor, images_adv: Tensor, aim: Aim, steps: int
) -> None:
    """Halve the straight way from adversarial images back to the clean ones.

    Every point of that way lies in [0, 1]. It may cross the border between two classes
    several times; one of the crossings is found.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    closest : Closest
        Is offered every point that is tried.
    rows : Tensor of shape (M,), int64
        Which examples.
    images_adv : Tensor of shape (M, ...)
        Where the ways begin: adversarial images.
    aim : Aim
        What the attack wants of all examples.
    steps : int
        Halvings, a forward pass each; what is left to gain halves with every one.
    """
    if not len(rows):
        return
    clean, aim = closest.images[rows], aim[rows]
    lower = torch.zeros_like(closest.distances[rows])
    upper = torch.ones_like(lower)
    for _ in range(steps):
        middle = (lower + upper) / 2
        point = torch.lerp(clean, images_adv, per_pixel(middle, clean).to(clean)).clamp_(0, 1)
        _, reached = score(model, point, aim)
        closest.offer(rows, point, reached)
        upper = torch.where(reached, middle, upper)
        lower = torch.where(reached, lower, middle)


def free(gradient: Tensor, images_adv: Tensor) -> Tensor:
    """Set to zero what points out of [0, 1] at a pixel that is at its edge already.

    What remains is the steepest direction of those that can be taken. Half of a digit's
    pixels are black: without this, an attack measures its steps by pixels that do not move.
    """
    return gradient.masked_fill(stuck(images_adv, gradient), 0.0)


def dual_norm(gradient: Tensor, norm: Norm) -> Tensor:
    """Return by how much a linear function rises on a way of length 1, (N,), above 0.

    Parameters
    ----------
    gradient : Tensor of shape (N, ...)
        Its gradients.
    norm : {"linf", "l2", "l1"}
        How ways are measured.
    """
    dual: Norm = {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]  # type: ignore[assignment]
    slopes = norm_of_rows(double(gradient).flatten(1), dual)
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    return slopes.to(gradient.device, dtype).clamp_(min=torch.finfo(dtype).tiny)


def per_pixel(values: Tensor, images: Tensor) -> Tensor:
    """View one value per example, (N,), so that it applies to each of its pixels."""
    return values.view(-1, *[1] * (images.ndim - 1))
