"""Checks for chapter 7, Threat models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from within_epsilon.exercises.answers import entries, tensor_like, truth
from within_epsilon.exercises.registry import exercise
from within_epsilon.exercises.variants import variant
from within_epsilon.exercises.watch import Window
from within_epsilon.geometry import Norm
from within_epsilon.threat import Ball

NORMS: tuple[Norm, ...] = ("l2", "linf", "l1")
Project = Callable[[Tensor], Tensor]

# What a pixel may move, in levels, and ε; the last two are written with ten decimals.
ALLOWED = [(2.0, 2 / 255), (1.6, 1.6 / 255), (0.9, 0.9 / 255), (8.0, 8 / 255), (3.5, 3.5 / 255),
           (2.0, 0.0078431372), (7.0, 0.0274509803)]  # fmt: skip


# What an adversary does, whether linf with ε = 8/255 allows it (white box, any wrong answer), why.
CLAIMS: dict[str, tuple[bool, str]] = {
    "every pixel 5/255 brighter, clipped": (True, "no pixel moves by more than 8/255"),
    "every pixel ± 8/255, clipped": (True, "the border belongs to the ball"),
    "one black pixel made white": (False, "that pixel moves by 1, which is 255/255"),
    "the photo shifted by one pixel": (False, "along an edge pixels change by far more than 8/255"),
    "a printed sticker on the object": (False, "its pixels change by as much as the printer likes"),
    "reads the network's weights": (True, "in most of this book it knows the whole network"),
    "is content with any wrong answer": (True, "it wants any wrong answer, no certain one"),
    "adds pictures to the training set": (False, "it changes the picture that is to be read"),
    "a black pixel 5/255 darker, unclipped": (False, "no such pixel: x + δ stays in [0, 1]"),
    "saves the result as 8-bit PNG": (True, "8/255 are whole levels; rounding stays in this ball"),
}


@exercise("7.1")
def allowed_changes(attempt: Mapping[str, object]) -> str | None:
    """Judge `allowed`: for each item, whether the threat model lets the adversary do it."""
    said = dict(zip(CLAIMS, map(truth, entries(attempt, list(CLAIMS))), strict=True))
    wrong = [text for text, (right, _) in CLAIMS.items() if said[text] is not right]
    if not wrong:
        return None
    right, reason = CLAIMS[wrong[0]]
    more = f" ({len(wrong) - 1} more are wrong)" if wrong[1:] else ""
    return f'"{wrong[0]}" is {"" if right else "not "}allowed: {reason}{more}'


class _Colours(nn.Module):
    """Two classes told apart by a fixed pattern of weights; nothing is normalised inside."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(variant(1))
        weights = torch.randn(shape, generator=generator)
        # Not so small that rounding could turn a sign, nor so large that the loss saturates.
        self.weights = nn.Parameter(0.05 * (weights + 0.1 * weights.sign()))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        rival = -(images * self.weights).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(rival), rival], dim=1)


@exercise("7.2")
def fgsm_normalised(attempt: Callable[..., Tensor]) -> str | None:
    """`fgsm_normalised(network, normalised, labels, epsilon, mean, std)` counts pixels."""
    generator = torch.Generator().manual_seed(variant(0))
    mean = torch.tensor([0.5, 0.4, 0.3]).view(-1, 1, 1)
    std = torch.tensor([0.25, 0.2, 0.4]).view(-1, 1, 1)
    pixels = torch.rand(4, 3, 5, 5, generator=generator).mul(1.6).sub(0.3).clamp(0, 1)
    network, epsilon = _Colours((3, 5, 5)), 0.05
    normalised, labels = (pixels - mean) / std, torch.tensor([0, 1, 0, 1])
    answer = attempt(network, normalised, labels, epsilon, mean, std)
    changed = tensor_like(answer, pixels, "pictures")
    if not changed.isfinite().all():
        return "some of its values are no numbers (NaN or infinite)"
    # Up the loss: away from the class's own pattern.
    signs = torch.where(labels.view(-1, 1, 1, 1) == 0, -1.0, 1.0) * network.weights.detach().sign()
    best = (pixels + epsilon * signs).clamp(0, 1)
    if torch.allclose(changed, best, atol=1e-5):
        return "it returns pixels, and the network that comes next expects normalised images"
    uphill = signs.sign() * epsilon / std
    clamped = [(normalised + step).clamp(0, 1) for step in (uphill, epsilon * signs.sign())]
    if any(torch.allclose(changed, wrong, atol=1e-5) for wrong in clamped):
        return "it clips *normalised* values to [0, 1], and 0 is not black there, but the mean"
    back = changed * std + mean
    if torch.allclose(back, (pixels - epsilon * signs).clamp(0, 1), atol=1e-5):
        return "it walks down the loss"
    return _judge_pixels(pixels, back, best, epsilon, std)


def _judge_pixels(
    pixels: Tensor, back: Tensor, best: Tensor, epsilon: float, std: Tensor
) -> str | None:
    """Say what is wrong with an FGSM step of epsilon, seen in pixels, if anything is."""
    inner = ((pixels > epsilon) & (pixels < 1 - epsilon)).all(dim=0)
    moves = [(back - pixels)[:, c][:, inner[c]].abs() for c in range(3)]
    if all(m.numel() and torch.allclose(m, torch.zeros_like(m), atol=1e-6) for m in moves):
        return "no pixel moved"
    scaled = [float(m.median()) / (epsilon * float(s)) for m, s in zip(moves, std, strict=True)]
    if all(abs(ratio - 1) < 0.02 for ratio in scaled):
        return (
            f"red pixels moved by {float(moves[0].median()):.4f} where ε = {epsilon}: it was added "
            "to normalised values; what is ε in the units of each channel?"
        )
    ratios = [float(m.median()) / epsilon for m in moves]
    if max(ratios) - min(ratios) > 0.02:
        return (
            "pixels moved by {:.2f} ε (red), {:.2f} ε (green) and {:.2f} ε (blue): each channel "
            "has a σ of its own".format(*ratios)
        )
    if back.min() < -1e-5 or back.max() > 1 + 1e-5:
        return (
            f"transformed back, pixels run from {float(back.min()):.2f} to {float(back.max()):.2f}"
            ": what are 0 and 1 after normalising?"
        )
    if torch.allclose(back, best, atol=1e-5):
        return None
    if (back - pixels).abs().max() > epsilon + 1e-5:
        return f"some pixels moved by {float((back - pixels).abs().max()):.3f}, more than ε"
    return "some pixels did not move as far as they might, up the loss and within ε and [0, 1]"


@exercise("7.3")
def to_file(attempt: Callable[[Tensor, Tensor, float], Tensor]) -> str | None:
    """`to_file(images, images_adv, epsilon)` rounds to levels without leaving the ball."""
    generator = torch.Generator().manual_seed(variant(0))
    levels = torch.randint(0, 256, (2, 3, 6, 6), generator=generator)
    levels[0, 0, 0, :3], levels[1, 0, 0, :3] = 0, 255
    images = levels / 255
    for allowed, epsilon in ALLOWED:
        noise = torch.rand(images.shape, generator=generator).mul(2).sub(1)
        images_adv = Ball("linf", epsilon).perturb(images, (1.5 * epsilon * noise))
        file = tensor_like(attempt(images, images_adv, epsilon), images, "pictures").double()
        if not file.isfinite().all():
            return "some of its pixels are no numbers"
        if file.max() > 1.01:
            return "it must return pixels from 0 to 1, not levels"
        file = file * 255
        if (file - file.round()).abs().max() > 1e-3:
            return "some of its pixels lie between two levels, which no file can store"
        if file.min() < 0 or file.round().max() > 255:
            return "some pixels left [0, 1]"
        moved = (file.round() - levels).abs().max().item()
        if moved > allowed:
            return (
                f"at ε = {allowed:g}/255 a pixel of the file has moved by {moved:.0f} levels: "
                "round into the ball"
            )
        whole = int(allowed)
        wanted = images_adv.double() * 255
        best = wanted.round().clamp(min=levels - whole, max=levels + whole).clamp(0, 255)
        excess = (file - wanted).abs() - (best - wanted).abs()
        if excess.max() > 1e-3:
            return (
                f"at ε = {epsilon:.10g}, {allowed:g}/255, a pixel lies "
                f"{float((file - wanted).abs().max()):.2f} levels from where the attack wants it, "
                "and an allowed level is nearer: is a half cut off, or a whole level that floats "
                "put at 1.9999999?"
            )
    return None


def _impostors(ball: Ball) -> list[tuple[Project, str]]:
    """Return functions that are no projections, each with what gives it away."""

    def rescaled(delta: Tensor, norm: Norm) -> Tensor:
        length = Ball(norm, 1).length(delta).to(delta)
        return delta * (ball.epsilon / length.clamp(min=ball.epsilon)).unsqueeze(1)

    def to_the_border(delta: Tensor) -> Tensor:
        return ball.epsilon * delta / ball.length(delta).clamp(min=1e-9).to(delta).unsqueeze(1)

    def together(delta: Tensor) -> Tensor:
        longest = ball.length(delta).max().to(delta)
        return delta * (ball.epsilon / longest).clamp(max=1)

    far, near = Ball(ball.norm, 1.2 * ball.epsilon), Ball(ball.norm, 0.9 * ball.epsilon)
    fakes: list[tuple[Project, str]] = [
        (lambda delta: delta, "one that changes nothing, and leaves points outside"),
        (torch.zeros_like, "one that sends every point to 0: allowed, but not the nearest"),
        (to_the_border, "one that moves points of the inside to the border"),
        (together, "one that shortens all rows by the same factor"),
        (far.project, "the projection onto a larger ball"),
        (near.project, "the projection onto a smaller ball, from which others are nearer"),
        (lambda delta: ball.project(-delta), "one that turns every sign"),
        (lambda delta: ball.project(delta.abs()), "one that makes every coordinate positive"),
    ]
    for norm in NORMS:
        if norm != ball.norm:
            other = Ball(norm, ball.epsilon)
            fakes.append((other.project, f"the projection onto the {norm} ball"))
    if ball.norm != "l2":
        fakes.append(
            (lambda delta: rescaled(delta, ball.norm), "one that shortens points by a factor")
        )
    return fakes


@exercise("7.4")
def is_projection(attempt: Callable[[Project, Ball], bool]) -> str | None:
    """`is_projection(project, ball)` tells projections of the plane from impostors."""
    for norm, epsilon in zip(NORMS, (0.5, 0.3, 1.0), strict=True):
        ball = Ball(norm, epsilon)
        seen = cast(Ball, Window(ball, "contains", "length", "epsilon"))
        if not truth(attempt(ball.project, seen)):
            return f"it says that the projection onto {ball} is none"
        for fake, description in _impostors(ball):
            if truth(attempt(fake, seen)):
                return f"for {ball} it accepts {description}"
    return None


@exercise("7.5")
def best_l1_step(attempt: Callable[[Tensor, Tensor, float], Tensor]) -> str | None:
    """`best_l1_step(gradient, images, epsilon)` fills the best pixels first."""
    generator = torch.Generator().manual_seed(variant(0))
    gradient = torch.randn(6, 1, 4, 4, generator=generator)
    images = torch.rand(gradient.shape, generator=generator).mul(1.6).sub(0.3).clamp(0, 1)
    gradient[5] = 0
    for epsilon in (3.0, 0.2, 40.0):
        delta = tensor_like(attempt(gradient, images, epsilon), gradient, "a δ")
        if not delta.isfinite().all():
            return "some of its entries are no numbers"
        total = float(Ball("l1", 1).length(delta).max())
        if total > epsilon * (1 + 1e-5):
            return f"it spends {total:.2f} where the budget is {epsilon:g}"
        reached = images + delta
        if reached.min() < -1e-5 or reached.max() > 1 + 1e-5:
            return "x + δ leaves [0, 1]: a pixel has only so much room"
        gains = (gradient * delta).flatten(1).sum(dim=1)
        best = _most(gradient.flatten(1), images.flatten(1), epsilon)
        if (gains < best - 1e-4).any():
            worst = int((best - gains).argmax())
            return (
                f"at ε = {epsilon:g} an image gains {float(gains[worst]):.3f}, and "
                f"{float(best[worst]):.3f} is possible: fill the steepest pixel, then the next"
            )
    return None


def _most(gradient: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Return the most that <g, delta> can reach in l1 ball and pixel range, for each row."""
    room = torch.where(gradient > 0, 1 - images, images)
    sizes, order = gradient.abs().sort(dim=1, descending=True)
    spent = room.gather(1, order).cumsum(dim=1).clamp(max=epsilon)
    return (sizes * spent.diff(dim=1, prepend=torch.zeros_like(spent[:, :1]))).sum(dim=1)


@exercise("7.6")
def nearest_allowed(attempt: Callable[[Tensor, Tensor, str, float], Tensor]) -> str | None:
    """`nearest_allowed(delta, images, norm, epsilon)` projects onto ball and pixels together."""
    generator = torch.Generator().manual_seed(variant(0))
    images = torch.rand(8, 1, 3, 3, generator=generator).mul(1.8).sub(0.4).clamp(0, 1)
    delta = torch.randn(images.shape, generator=generator)
    delta[0] *= 0.01  # stays, but for the pixels' ends
    delta[1] = 0
    for norm, epsilon in itertools.product(NORMS[::2], (0.5, 1.5)):
        ball = Ball(norm, epsilon)
        found = tensor_like(attempt(delta, images, norm, epsilon), delta, "a δ")
        longest = float(ball.length(found).max())
        if not longest <= epsilon * (1 + 1e-4):
            return f"for {ball} it returns a δ of norm {longest:.3f}"
        if (images + found).min() < -1e-5 or (images + found).max() > 1 + 1e-5:
            return "x + δ leaves [0, 1]"
        ours = (found.double() - delta.double()).flatten(1).norm(dim=1)
        best = _nearest(delta, images, norm, epsilon)
        naive = images.double() + ball.project(delta.double())
        naive = naive.clamp(0, 1) - images.double()
        if torch.allclose(found.double(), naive, atol=1e-4):
            return "it projects and then clips, which is allowed, but not the nearest"
        if (ours > best + 1e-3).any():
            worst = int((ours - best).argmax())
            return (
                f"for {ball} it returns a point {float(ours[worst]):.3f} away, and an allowed one "
                f"is only {float(best[worst]):.3f} away"
            )
    return None


def _nearest(delta: Tensor, images: Tensor, norm: str, epsilon: float) -> Tensor:
    """Return each row's distance to the nearest allowed point, by trying many strengths."""
    rows, clean = delta.double().flatten(1), images.double().flatten(1)
    strengths = torch.linspace(0, 1, 20_001, dtype=torch.float64).view(-1, 1)
    distances = []
    for row, pixels in zip(rows, clean, strict=True):
        if norm == "l2":
            shrunk = row * (1 - strengths)
        else:
            shrunk = row.sign() * (row.abs() - strengths * row.abs().max()).clamp(min=0)
        shrunk = (pixels + shrunk).clamp(0, 1) - pixels
        fits = shrunk.norm(2 if norm == "l2" else 1, dim=1) <= epsilon * (1 + 1e-9)
        distances.append((shrunk[fits] - row).norm(dim=1).min())
    return torch.stack(distances)
