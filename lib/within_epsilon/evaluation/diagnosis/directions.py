"""Whether a gradient says what the loss does in every direction, not along itself alone.

A gradient that is lost at some pixels, rounded or moved by a pixel still points uphill, and a step
along it rises about as it says. A step of random signs tells them apart.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from within_epsilon.evaluation.diagnosis.look import Look, per_row, possible
from within_epsilon.losses import margin_loss
from within_epsilon.reports import Finding

# So many steps of random signs are compared, or at least so many where images are few; honest
# networks are 0.1 to 2% off, and where pixels are tied, as in a plain border, some are anyhow.
_MOST, _LEAST, _OFF = 16, 4, 0.1
# Pixels without a gradient move so many times as far: that they must not matter is all it says.
_FARTHER = 4
# How far a point is moved at random, so that no two pixels are tied.
_JITTER = 0.01
# A change of the loss by so much of the largest logit is more than rounding.
_MATTERS = 0.01
# No step is longer: beyond, a loss is not expected to be straight.
_LONGEST = 0.01


class _Place(NamedTuple):
    """Points (N, ...) with labels, losses, gradients, sizes of logits and pixels that may move."""

    points: Tensor
    labels: Tensor
    losses: Tensor
    gradient: Tensor
    scale: Tensor
    allowed: Tensor


def check_across(look: Look, ratio: Tensor) -> Finding | None:
    """Find a gradient that is no multiple of the loss's, by short steps of random signs.

    Parameters
    ----------
    look : Look
        What is looked at.
    ratio : Tensor of shape (N,)
        The loss's rise along the gradient, as a multiple of what the gradient predicts.

    Notes
    -----
    A suspicion is looked into elsewhere, off the image at random and with shorter and longer
    steps: at ties of pixels and at kinks an honest gradient speaks for one side alone.
    """
    if not look.steady:
        return None
    place = _here(look, ratio)
    if place is None or not _suspicious(_off(look, place, 100, seed=0), _OFF / 2):
        return None
    place = _elsewhere(look, place)
    if place is None:
        return None
    # Rounding disturbs short steps, kinks long ones.
    off = [_off(look, place, length, seed=1) for length in (30, 100, 300)]
    least = torch.stack(off).nan_to_num(0).amin(dim=0)
    if not _suspicious(least, _OFF):
        return None
    return _holes(look, place) or Finding(
        "misleading gradient",
        f"for {int((least > _OFF).sum())} of {len(least)} short steps in random directions the "
        "loss changes otherwise than the gradient predicts: it is off by "
        f"{100 * least.median().item():.0f}% (median)",
        "attacks that follow it go astray, and the robust accuracy is too high",
        "look for a backward pass of one's own, rounding of gradients or a shift of their pixels; "
        "try an attack without gradients",
    )


def check_dead(look: Look) -> Finding | None:
    """Find pixels that matter and have no gradient in any image, where the loss goes by steps.

    No short step says anything there. The next image's pixels are put in their place.
    """
    assert look.gradient is not None
    allowed = _allowed(look)
    without = (look.gradient == 0).all(dim=0) & allowed
    swapped = torch.where(without, look.images.roll(1, dims=0), look.images)
    if not look.steady or torch.equal(swapped, look.images):
        return None
    changed = look.rise(swapped, look.images)[1].abs() > _MATTERS * look.scale
    return _found_holes(without, allowed, changed) if changed.double().mean() > 0.5 else None


def _here(look: Look, ratio: Tensor) -> _Place | None:
    """Take the first examples as they are, several times where there are few."""
    n, gradient = len(look.images), look.gradient
    rows = torch.arange(min(max(n, _LEAST), _MOST), device=look.images.device) % n
    assert gradient is not None
    if look.losses_inside is None:
        return None
    true = gradient.double() * per_row(ratio, gradient)
    parts = look.inside, look.labels, look.losses_inside, true, look.scale, _allowed(look)
    return _Place(*(part[rows] for part in parts))


def _allowed(look: Look) -> Tensor:
    """Tell which pixels may move, (N, ...)."""
    allowed = torch.ones_like(look.images, dtype=torch.bool)
    return allowed if look.ball.mask is None else allowed & look.ball.mask.to(allowed.device)


def _elsewhere(look: Look, place: _Place) -> _Place | None:
    """Move points off at random, and differentiate there."""
    noise = 2 * _JITTER * (_draws(place.points, seed=3) - 0.5)
    points = (place.points + noise * place.allowed).abs()
    points = 1 - (1 - points).abs()  # what leaves the box comes back into it
    found = look.slope_and_losses(points, place.labels)
    if found is None or not found[0].isfinite().all():
        return None
    gradient, losses = found[0].double(), found[1]
    moved = place._replace(points=points, gradient=gradient, losses=losses)
    along = 300 * torch.finfo(points.dtype).eps * place.scale / gradient.flatten(1).norm(dim=1) ** 2
    ends = points.double() + gradient * per_row(along.nan_to_num(0, 0, 0), gradient)
    predicted, risen = _rises(look, moved, ends.clamp(0, 1).to(points))
    return moved._replace(gradient=gradient * per_row(risen / predicted, gradient))


def _off(look: Look, place: _Place, length: float, seed: int) -> Tensor:
    """Return how far rises differ from predictions, as a share of a step's usual rise, (N,).

    NaN where a step longer than rounding would be no short one.
    """
    far = torch.where(place.gradient == 0, _FARTHER, 1)
    change, usual = _steps(place, place.allowed * far, length, seed)
    predicted, risen = _rises(look, place, change)
    judged = (usual > 0) & possible(place.losses)
    return torch.where(judged, (risen - predicted).abs() / usual, torch.nan)


def _steps(place: _Place, weights: Tensor, length: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return points after steps of random signs, and how much the loss usually changes, (N,)."""
    share = place.allowed.double().flatten(1).mean(dim=1).sqrt()
    slope = place.gradient.flatten(1).norm(dim=1) * share
    step = length * torch.finfo(place.points.dtype).eps * place.scale / slope
    short = (slope > 0) & (step <= _LONGEST)
    signs = 2 * (_draws(place.points, seed) < 0.5).double() - 1
    step = torch.where(short, step, 0)
    ends = place.points.double() + per_row(step, signs) * signs * weights
    return ends.clamp(0, 1).to(place.points), torch.where(short, step * slope, 0)


def _rises(look: Look, place: _Place, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the loss rises to the ends, as predicted and as it does, (N,)."""
    change = ends.double() - place.points.double()
    predicted = (place.gradient * change).flatten(1).sum(dim=1)
    return predicted, margin_loss(look.answers(ends).double(), place.labels) - place.losses


def _suspicious(off: Tensor, allowed: float) -> bool:
    """Tell whether more than half of those that can be judged are off by more than is allowed."""
    judged = off[~off.isnan()]
    return len(judged) > 0 and 2 * int((judged > allowed).sum()) > len(judged)


def _holes(look: Look, place: _Place) -> Finding | None:
    """Move the pixels without a gradient alone: the loss must not change."""
    without = (place.gradient == 0) & place.allowed
    ends, usual = _steps(place, _FARTHER * without, 100, seed=2)
    _, risen = _rises(look, place, ends)
    judged = usual > 0
    changed = judged & (risen.abs() > _OFF * usual) & without.flatten(1).any(dim=1)
    if 2 * int(changed.sum()) <= int(judged.sum()):
        return None
    return _found_holes(without, place.allowed, changed)


def _found_holes(without: Tensor, allowed: Tensor, changed: Tensor) -> Finding:
    share = without.double().mean().item() / allowed.double().mean().item()
    return Finding(
        "gradient with holes",
        f"at {100 * share:.0f}% of the pixels the gradient is exactly zero, and yet the loss "
        f"changes when these alone move, for {int(changed.sum())} of {len(changed)} points",
        "attacks that follow it never use these pixels, and the robust accuracy is too high",
        "look for a detach(), a mask or rounding in the way back to the pixels; try an attack "
        "without gradients",
    )


def _draws(like: Tensor, seed: int) -> Tensor:
    """Return uniform numbers in [0, 1) of that shape, on its device, in every run the same."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(like.shape, generator=generator, dtype=torch.float32).to(like.device)
