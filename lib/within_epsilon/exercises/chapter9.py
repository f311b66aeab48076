"""Checks for chapter 9, Strong attacks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits
from within_epsilon.exercises.registry import exercise
from within_epsilon.losses import cross_entropy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

Attack = Callable[..., Tensor]

_BALL = Ball("linf", 0.1)


class _Table(nn.Module):
    """A network that reads its three logits off the first three pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * images.flatten(1)[:, :3]


@exercise("9.1")
def worse_of(attempt: Attack) -> str | None:
    """`worse_of(model, labels, first, second)` keeps the worse candidate of every example."""
    # Rows: (first's logits, second's, which is worse); the label is 0.
    cases = [
        ((0.5, 0.4, 0.0), (0.5, 0.3, 0.0), 0, "neither fools: the larger loss is worse"),
        ((0.5, 0.3, 0.0), (0.5, 0.4, 0.0), 1, "neither fools: the larger loss is worse"),
        ((0.1, 0.9, 0.0), (0.5, 0.4, 0.0), 0, "the first fools the model and the second does not"),
        # Two rivals close behind cost more than one barely ahead.
        ((0.5, 0.49, 0.49), (0.5, 0.51, 0.0), 1, "one that fools beats one that does not"),
        ((0.5, 0.51, 0.0), (0.5, 0.49, 0.49), 0, "one that fools beats one that does not"),
        ((0.1, 0.9, 0.0), (0.2, 0.8, 0.0), 0, "both fool: the larger loss is worse"),
        ((0.2, 0.8, 0.0), (0.1, 0.9, 0.0), 1, "both fool: the larger loss is worse"),
        # Again two rivals and one, where a margin would decide the other way.
        ((0.5, 0.49, 0.49), (0.5, 0.495, 0.0), 0, "the larger cross-entropy, not margin, is worse"),
    ]
    model, labels = _Table().eval(), torch.zeros(len(cases), dtype=torch.int64)
    first, second = (
        torch.tensor([case[side] for case in cases]).view(-1, 3, 1, 1) for side in (0, 1)
    )
    found = attempt(model, labels, first.clone(), second.clone())
    if not isinstance(found, Tensor) or found.shape != first.shape:
        return "it must return images of the candidates' shape"
    for row, (_, _, worse, reason) in enumerate(cases):
        wanted = (first, second)[worse][row]
        if not torch.equal(found[row].detach(), wanted):
            if not any(torch.equal(found[row].detach(), c[row]) for c in (first, second)):
                return "an image it returned is neither of its two candidates"
            return f"it kept the wrong one of two: {reason}"
    return None


@exercise("9.2")
def is_flat(attempt: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """`is_flat(logits, labels)` says where the cross-entropy's gradient is exactly zero."""
    # Rows: logits, the true class, whether it is flat, why. Between gaps of 87 and 104 processors
    # may round differently.
    cases = [
        ((10.0, 0.0, -5.0), 0, False, "a gap of 10 leaves a p_j of 0.00005: small is not zero"),
        ((5.0, 120.0, 0.0), 1, True, "every gap is beyond 104, so that every p_j rounds to 0"),
        ((-300.0, 0.0, 85.0), 2, False, "one rival within reach is enough for a slope"),
        ((85.0, 0.0, 85.0), 2, False, "one rival within reach is enough for a slope"),
        ((0.0, 200.0, -50.0), 0, False, "where the network is wrong, z_y has slope p_y - 1 = -1"),
        ((0.0, 200.0, 400.0), 1, False, "where the network is wrong, z_y has slope p_y - 1 = -1"),
        ((-250.0, -220.0, -100.0), 2, True, "gaps count, wherever the logits are"),
        ((400.0, 399.0, 0.0), 0, False, "gaps count, wherever the logits are"),
    ]
    logits = torch.tensor([case[0] for case in cases])
    labels = torch.tensor([case[1] for case in cases])
    found = attempt(logits.clone(), labels.clone())
    if not isinstance(found, Tensor) or found.shape != labels.shape:
        return f"it must return a tensor of shape {tuple(labels.shape)}, one boolean for each image"
    for (row, label, flat, reason), said in zip(cases, found.tolist(), strict=True):
        if bool(said) != flat:
            shown = ", ".join(f"{logit:g}" for logit in row)
            state = "flat" if flat else "not flat"
            return f"logits ({shown}) with label {label} are {state}: {reason}"
    return None


class _Slope(nn.Module):
    """Two classes; the second gains `scale` times <w, x - 1/2>, a straight line."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(1, 1, 4, 4, generator=generator)
        self.scale = scale
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        gain = self.scale * (self.weights * (images - 0.5)).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(gain), gain], dim=1)


class _Summit(nn.Module):
    """Two classes; the loss of the first is highest where all pixels are at `top`."""

    top = 0.53

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        height = 5 - 50 * ((images - self.top) ** 2).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(height), height], dim=1)


def _reach(attempt: Attack, scale: float, **options: object) -> float:
    """Return how far an attack on a slope goes, as a share of the ball: 1 is its best corner."""
    model = _Slope(scale)
    grey = torch.full((4, 1, 4, 4), 0.5)
    labels = torch.full((4,), 1 if options.get("targeted") else 0)
    changed = attempt(model, grey, labels, _BALL, **options)
    return float(((changed - grey) * model.weights.sign()).mean() / _BALL.epsilon)


def _still_in(attempt: Attack) -> list[str]:
    """Name by its effect every planted bug that an attack still has."""
    found = []
    labels, grey = torch.zeros(4, dtype=torch.int64), torch.full((4, 1, 4, 4), 0.5)
    if _reach(attempt, 1e-6, steps=10) < 0.9 < _reach(attempt, 1e3, steps=10):
        found.append(
            "on flat ground it hardly moves, on steep ground it does: the gradient's length "
            "decides how long a step is"
        )
    leap = attempt(_Slope(1e3), grey, labels, _BALL, steps=1, step_size=0.45) - grey
    # Steep enough for raw gradients to get somewhere; gentle enough not to be flat at any start.
    drift = torch.cat(
        [attempt(_Slope(scale), grey, labels, _BALL, steps=40) - grey for scale in (1e3, 20.0)]
    )
    if leap.abs().max() > 2.1 * _BALL.epsilon:
        found.append("one long step leaves the ball: nothing brings it back")
    elif drift.abs().max() > _BALL.epsilon + 1e-5:
        found.append(
            "it leaves the ball little by little: each step is held within ε of the point before "
            "it, not of the clean image"
        )
    ends = (grey.sign() - 0.5).mul(torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)) + 0.5
    changed = attempt(_Slope(1e3), ends, labels, _BALL, steps=10)
    if changed.min() < -1e-6 or changed.max() > 1 + 1e-6:
        found.append("black pixels become darker, or white ones brighter: it leaves [0, 1]")
    summit = torch.full((4, 1, 2, 2), 0.5)
    climbed = attempt(_Summit(), summit, labels, _BALL, steps=40, step_size=0.01)
    if (climbed - _Summit.top).abs().max() > 0.03:
        found.append(
            "it runs past the top of a hill and never turns: its gradient is not that of the "
            "point where it stands"
        )
    if _reach(attempt, 20.0, steps=10, targeted=True) < 0:
        found.append("with targeted=True it moves away from the target")
    return found


@exercise("9.3")
def repaired(attempt: Attack) -> str | None:
    """`repaired(model, images, labels, ball, *, steps, step_size, targeted, seed)` is PGD."""
    grey, labels = torch.full((4, 1, 4, 4), 0.5), torch.zeros(4, dtype=torch.int64)
    tried = attempt(_Slope(20.0), grey, labels, _BALL)
    if not isinstance(tried, Tensor) or tried.shape != (4, 1, 4, 4):
        return "it must return a tensor of the images' shape"
    if tried.requires_grad:
        return "what it returns still hangs on the graph: detach it"
    if _reach(attempt, 20.0, steps=10) < -0.5:
        return "on a straight slope it goes downhill: an attack raises the loss of the true class"
    found = _still_in(attempt)
    if found:
        count = "one of the five bugs is" if len(found) == 1 else f"{len(found)} of the five are"
        return f"{count} still in: " + "; ".join(found)
    reach = _reach(attempt, 20.0, steps=10)
    if reach < 0.9:
        return (
            f"the five bugs are out, but on a straight slope it covers {reach:.0%} of the way to "
            "the best corner: every pixel needs steps of one length, together at least 2ε"
        )
    if _reach(attempt, 20.0, steps=10, step_size=0.001) > 0.5:
        return "the five bugs are out, but its steps have the same length whatever `step_size` says"
    model, (images, labels) = digits_classifier(), digits().validation[:100]
    losses = []
    for attack in (attempt, pgd):
        changed = attack(model, images.clone(), labels, _BALL, steps=20)
        with torch.no_grad():
            losses.append(cross_entropy(model(changed), labels).mean().item())
    if losses[0] < 0.9 * losses[1]:
        return (
            f"the five bugs are out, but on digits it reaches a mean loss of {losses[0]:.2f}, "
            f"the library's pgd {losses[1]:.2f}"
        )
    return None


@exercise("9.4")
def error_at(attempt: Callable[[Tensor, float], float]) -> str | None:
    """`error_at(distances, epsilon)` reads an error off minimal distances."""
    distances = torch.tensor([0.0, 0.0, 0.05, 0.1, 0.2, torch.inf], dtype=torch.float64)
    for epsilon, share, reason in [
        (0.04, 2 / 6, "a distance of 0 means wrong without any attack, which is an error too"),
        (0.1, 4 / 6, "a ball contains its border: distance ≤ ε is an error"),
        (0.5, 5 / 6, "an infinite distance means that nothing was found, at any ε"),
        (0.0, 2 / 6, "at ε = 0 it is the clean error"),
    ]:
        found = float(attempt(distances.clone(), epsilon))
        if abs(found - share) < 1e-6:
            continue
        if abs(found - 100 * share) < 1e-4:
            return "a share is asked for, from 0 to 1, not a percentage"
        if abs(found - (1 - share)) < 1e-6:
            return "that is the robust accuracy; the error is what is left"
        return f"at ε = {epsilon:g} it says {found:.3f}, expected {share:.3f}: {reason}"
    return None


class _Mute(nn.Module):
    """A network that answers and has no gradient; it counts how many images it was shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.shown = model, 0
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        self.shown += len(images)
        logits: Tensor = self.model(images)
        return logits


@exercise("9.5")
def search(attempt: Attack) -> str | None:
    """`search(model, images, labels, ball, queries)` fools at least as many digits as FGSM."""
    model, queries = digits_classifier(), 800
    images, labels = digits().validation[:60]
    asked = _Mute(model)
    changed = attempt(asked, images.clone(), labels, _BALL, queries)
    if not isinstance(changed, Tensor) or changed.shape != images.shape:
        return f"it must return a tensor of shape {tuple(images.shape)}, like its images"
    if asked.shown > queries * len(images):
        return (
            f"it asked the model {asked.shown / len(images):.0f} times about an image, "
            f"{queries} times are allowed"
        )
    if not _BALL.admits(images, changed.detach(), atol=1e-6).all():
        return "what it returns leaves the ball or [0, 1]: end with ball.perturb(images, delta)"
    with torch.no_grad():
        one_step = fgsm(model, images, labels, _BALL)
        ours, theirs = (int((model(x).argmax(dim=1) != labels).sum()) for x in (changed, one_step))
    if ours < theirs:
        return (
            f"it fools {ours} of 60 digits, FGSM {theirs}: keep every change that lowers an "
            "image's margin, drop the others, and spend all your queries"
        )
    return None
