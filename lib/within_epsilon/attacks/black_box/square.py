"""Square Attack: random search that asks the model for scores alone."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import Callback, Loss, Objective, logits_of
from within_epsilon.attacks.core.registry import attack
from within_epsilon.checks import check_indices
from within_epsilon.draws import draw_uniform
from within_epsilon.geometry import divisor, norm_of_rows, wider
from within_epsilon.losses import margin_loss
from within_epsilon.region import Region
from within_epsilon.runtime import example_generators
from within_epsilon.threat import Ball

# Of 10,000 queries, those after which the squares' share of the image halves.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# The l2 and l1 searches start from a chessboard of this many tiles a side.
_TILES = 5
# Queries for which an example's random numbers are drawn at a time.
_BLOCK = 100


@attack("Square", "black box")
def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    queries: int = 5000,
    p_init: float = 0.8,
    rescale_schedule: bool = True,
    targeted: bool = False,
    loss: Loss = margin_loss,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Attack with squares: change one at random, keep the change if the loss rises.

    .. math:: x_{t+1} = \begin{cases} c_t & \ell(h(c_t), y) > \ell(h(x_t), y) \\
              x_t & \text{otherwise} \end{cases}, \quad
              c_t = x_t \text{ but for a random square, } \|c_t - x\| \le \epsilon

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k). Only asked for them: it need not
        be differentiable.
    images : Tensor of shape (N, ..., H, W) or (N, W)
        Clean pixels in [0, 1]. The last two dimensions are rows and columns, those
        before them channels.
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    ball : Ball
        The threat model.
    queries : int
        Most forward passes spent on an example, >= 1. An example that fools the model
        is asked about no more.
    p_init : float
        Share of the pixels in the first square, in (0, 1].
    rescale_schedule : bool
        Let squares shrink on a schedule that stretches with `queries`; else it is that of
        10,000 queries, whatever their number.
    targeted : bool
        Lower the loss of the target instead of raising that of the true class.
    loss : callable
        (logits, labels) -> (N,), for the attack to raise.
    seed : int
        Seed of the experiment.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(query, images_adv, losses)`` after every query, from 0, with the best
        points so far.

    Returns
    -------
    Tensor of shape (N, ...)
        Adversarial images within ball and [0, 1], detached: the first that fools the
        model, else the one of the largest loss (smallest, if targeted) that was visited.
        A heuristic: a lower bound on the worst loss.

    Raises
    ------
    TypeError, ValueError
        If images, labels or logits are unusable (see `checks`), queries < 1, or p_init
        outside (0, 1].

    Notes
    -----
    Deviations from the paper. A linf candidate equal to the present point is not drawn
    again but mirrored, which always differs. Where an image is lower than its square,
    the square becomes a rectangle of the same area. The l2 squares have two pixels a
    side at least. The paper has no l1: here it is the l2 search with sums of sizes in
    place of sums of squares, as in Croce and Hein, "Mind the Box", ICML 2021, whose hills
    are steeper and who project onto ball and pixel range together, where this one clips.
    On images of a single pixel the l2 and l1 searches have no second place to move
    anything to.

    References
    ----------
    Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a Query-Efficient Black-Box
    Adversarial Attack via Random Search", ECCV 2020, Algorithms 1 to 3; schedule of
    section 5.
    """
    if not 0 < p_init <= 1:
        raise ValueError(f"p_init: expected a share in (0, 1], received {p_init}")
    grid, mask = _as_grid(images), ball.mask
    if mask is not None:
        mask = _as_grid(mask.expand(len(mask), *images.shape[1:]))
    generators = example_generators(check_indices(indices, len(images)), seed)
    region, objective = ball.within(grid, mask), Objective(labels, loss, targeted)
    rows = torch.arange(len(images), device=images.device)
    best = _start(region, generators)
    present, losses = best.clone(), torch.full_like(best[:, 0, 0, 0], torch.nan)
    for query in range(queries):
        candidates = present
        if query > 0:
            if query % _BLOCK == 1:
                # Many at a time: a call per example and query would cost more than the model.
                going = [generators[row] for row in rows.tolist()]
                numbers = draw_uniform(going, _BLOCK, 5 + grid.shape[1])
            progress = query / queries if rescale_schedule else query / 10_000
            draws = numbers[:, (query - 1) % _BLOCK].to(images.device)
            halvings = sum(progress > place / 10_000 for place in _HALVINGS)
            candidates = _move(region, present, p_init * 0.5**halvings, draws)
        logits = logits_of(model, candidates.view(-1, *images.shape[1:]))
        proposed, achieved = objective.losses(logits).to(losses), objective.achieved(logits)
        rise = objective.sign * (proposed - losses[rows])
        better = achieved | (rise > 0) | (query == 0)
        present = torch.where(better[:, None, None, None], candidates, present)
        losses[rows] = torch.where(better, proposed, losses[rows])
        if callback is not None:
            callback(query, best.index_copy(0, rows, present).view_as(images), losses.clone())
        if achieved.any():
            best[rows[achieved]] = present[achieved]
            rows, present, region = rows[~achieved], present[~achieved], region[~achieved]
            objective = objective[~achieved]
            numbers = numbers[~achieved.cpu()] if query > 0 else torch.empty(0)
            if not len(rows):
                break
    best[rows] = present
    return best.view_as(images)


def _as_grid(images: Tensor) -> Tensor:
    """View images as channels, rows and columns, (N, C, H, W)."""
    if images.ndim < 4:
        return images.view(len(images), 1, -1, images.shape[-1])
    return images.flatten(1, -3)


def _sides(share: float, height: int, width: int, least: int) -> tuple[int, int]:
    """Return rows and columns of a square of that share of the pixels."""
    pixels = share * height * width
    side = max(round(math.sqrt(pixels)), least)
    if side > height:
        return height, min(round(pixels / height), width)
    if side > width:
        return min(round(pixels / width), height), width
    return side, side


def _start(region: Region, generators: Sequence[torch.Generator]) -> Tensor:
    """Return where the search begins: vertical stripes for linf, else a chessboard."""
    images = region.images
    _, channels, height, width = images.shape
    if region.norm == "linf":
        signs = _signs(draw_uniform(generators, channels, 1, width)).to(images)
        return torch.where(signs > 0, region.upper, region.lower)
    tiles = min(_TILES, height), min(_TILES, width)
    tile = _bump(height // tiles[0], width // tiles[1])
    board = torch.kron(_signs(draw_uniform(generators, channels, *tiles)), tile)
    top, left = (height - board.shape[2]) // 2, (width - board.shape[3]) // 2
    delta = torch.zeros(images.shape, dtype=torch.float32)
    delta[:, :, top : top + board.shape[2], left : left + board.shape[3]] = board
    lengths = norm_of_rows(delta.double().flatten(1), region.norm).view(-1, 1, 1, 1)
    return region.perturb((delta * (region.epsilon / lengths)).to(images.device))


def _move(region: Region, present: Tensor, share: float, numbers: Tensor) -> Tensor:
    """Propose a neighbour of each present point."""
    height, width = present.shape[2:]
    # A hill beside a hollow takes two pixels.
    change, least = (_flip, 1) if region.norm == "linf" else (_gather, 2)
    sides = _sides(share, height, width, least)
    places, signs = numbers[:, :5], _signs(numbers[:, 5:])[:, :, None, None]
    return change(region, present, sides, places, signs)


def _flip(
    region: Region, present: Tensor, sides: tuple[int, int], places: Tensor, signs: Tensor
) -> Tensor:
    """Move all pixels of a square by epsilon, a channel in one direction (linf)."""
    inside, *_ = _window(places[:, :2], sides, present)

    def moved(signs: Tensor) -> Tensor:
        return torch.where(inside, torch.where(signs > 0, region.upper, region.lower), present)

    same = (moved(signs) == present).flatten(1).all(dim=1).view(-1, 1, 1, 1)
    return moved(torch.where(same, -signs, signs))


def _gather(
    region: Region, present: Tensor, sides: tuple[int, int], places: Tensor, signs: Tensor
) -> Tensor:
    """Take a square's share of the budget to another, as a bump and its opposite (l2, l1)."""
    order = 2 if region.norm == "l2" else 1
    delta = (present - region.images).to(wider(present.dtype))
    inside, rows, columns = _window(places[:, :2], sides, present)
    emptied, *_ = _window(places[:, 2:4], sides, present)
    # What the two squares hold, and each channel's part of what nobody uses.
    powers = delta.abs() ** order
    held = (powers * (inside | emptied)).sum(dim=(2, 3), keepdim=True)
    total = powers.sum(dim=(1, 2, 3), keepdim=True)
    unused = (region.epsilon**order - total).clamp_(min=0) / delta.shape[1]
    budget = (held + unused) ** (1 / order)
    examples = torch.arange(len(delta), device=delta.device)[:, None, None]
    here = (examples, slice(None), rows[:, :, None], columns[:, None, :])
    # Indexed like this, channels come last.
    chosen = delta[here].movedim(-1, 1)
    upright, lying = (_pattern(*sides).to(delta), _pattern(*sides[::-1]).T.to(delta))
    pattern = torch.where(places[:, 4].view(-1, 1, 1, 1) < 0.5, upright, lying)
    chosen = signs.to(delta) * _unit(pattern, order) + _unit(chosen, order)
    delta = delta.masked_fill(emptied, 0.0)
    delta[here] = (_unit(chosen, order) * budget).movedim(1, -1)
    return region.perturb(delta)


def _window(
    places: Tensor, sides: tuple[int, int], images: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Place one window per example; return its mask (N, 1, H, W), rows and columns."""
    inside, positions = [], []
    for place, side, size in zip(places.T, sides, images.shape[2:], strict=True):
        first = (place * (size - side + 1)).long()[:, None]
        pixels = torch.arange(size, device=images.device)
        inside.append((pixels >= first) & (pixels < first + side))
        positions.append(first + torch.arange(side, device=images.device))
    return (inside[0][:, None, :, None] & inside[1][:, None, None, :], *positions)


def _bump(height: int, width: int) -> Tensor:
    """Return a hill that falls off from its middle in rings, (H, W), float64."""
    middle = max(height, width) // 2
    down, right = ((torch.arange(size) - size // 2).abs() for size in (height, width))
    ring = torch.maximum(down[:, None], right[None, :])
    # The m-th ring is 1 / (m + 1)^2 + ... + 1 / (middle + 1)^2 high.
    steps = 1 / torch.arange(1, middle + 2, dtype=torch.float64) ** 2
    return steps.flip(0).cumsum(0).flip(0)[ring]


@functools.lru_cache(maxsize=8)
def _pattern(height: int, width: int) -> Tensor:
    """Return a hill beside a hollow, (H, W), float64."""
    half = width // 2
    return torch.cat([_bump(height, half), -_bump(height, width - half)], dim=1)


def _unit(delta: Tensor, order: int) -> Tensor:
    """Scale every channel to norm 1; zeros stay zeros."""
    return delta / divisor(torch.linalg.vector_norm(delta, order, dim=(2, 3), keepdim=True))


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, -1.0, 1.0).to(numbers)
