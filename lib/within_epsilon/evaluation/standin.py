"""Stand-in until the attacks' own loop arrives: the same contract, to be deleted then."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.attacks import Minimal, takes
from within_epsilon.checks import check_images, check_labels, check_logits
from within_epsilon.losses import margin_loss
from within_epsilon.threat import Ball


class BadExampleError(ValueError):
    """The model cannot be judged on some examples."""


class Fallen(NamedTuple):
    """Images, and which stage each example fell to."""

    images_adv: Tensor
    fell_to: Tensor


def stages_of(attack: Callable[..., Tensor], _ball: Ball) -> tuple[Callable[..., Tensor], ...]:
    """Return the attack alone."""
    return (attack,)


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return checked logits of a copy."""
    logits = check_logits(model(images.clone()), len(images))
    if logits.isnan().any():
        bad = int(logits.isnan().any(dim=1).sum())
        raise BadExampleError(f"logits: expected numbers, received NaN for {bad} of {len(images)}")
    check_labels(labels, *logits.shape)
    return logits


def in_turn(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    attacks: Sequence[Callable[..., Tensor]],
    *,
    indices: Tensor | Sequence[int] | None = None,
    callback: object = None,  # noqa: ARG001
) -> Fallen:
    """Run attacks one after the other."""
    check_images(images)
    check_labels(labels, len(images))
    positions = torch.arange(len(images)) if indices is None else torch.as_tensor(indices)
    logits = logits_of(model, images, labels)
    images_adv, best = images.clone(), margin_loss(logits, labels)
    fell_to = torch.full_like(labels, -1)
    rows = (logits.argmax(dim=1) == labels).nonzero().squeeze(1)
    fell_to[rows] = len(attacks)
    for number, attack in enumerate(attacks):
        if not len(rows):
            break
        extra: dict[str, Any] = (
            {"indices": positions[rows.cpu()]} if takes(attack, "indices") else {}
        )
        clean, answers = images[rows], labels[rows]
        try:
            found = attack(model, clean.clone(), answers.clone(), ball, **extra)
        except ValueError as error:
            if "infinities or NaN" in str(error):
                raise BadExampleError(str(error)) from error
            raise
        check_admitted(ball, clean, found)
        logits = logits_of(model, found, answers)
        fooled, losses = logits.argmax(dim=1) != answers, margin_loss(logits, answers)
        better = fooled | (losses > best[rows])
        images_adv[rows[better]], best[rows[better]] = found[better], losses[better]
        fell_to[rows[fooled]] = number
        rows = rows[~fooled]
    return Fallen(images_adv, fell_to)


_ROUNDING = 1e-5


def check_admitted(ball: Ball, images: Tensor, images_adv: object) -> None:
    """Require that the threat model allows what an attack returned."""
    if not isinstance(images_adv, Tensor):
        remedy = "return the adversarial images"
        if isinstance(images_adv, Minimal):
            remedy = "return its `.images_adv`, brought back with ball.within(images).clip(...)"
        raise TypeError(
            f"images_adv: expected a torch.Tensor, received {type(images_adv).__name__}; {remedy}"
        )
    for what in ("dtype", "shape", "device"):
        expected, received = getattr(images, what), getattr(images_adv, what)
        if expected != received:
            kind = TypeError if what == "dtype" else ValueError
            raise kind(f"images_adv: expected the images' {what} {expected}, received {received}")
    if not ball.admits(images, images_adv, atol=_ROUNDING).all():
        lowest, highest = (extreme.item() for extreme in torch.aminmax(images_adv))
        raise ValueError(
            f"images_adv: expected pixels in [0, 1] and a change within {ball}, received pixels "
            f"in [{lowest:.4g}, {highest:.4g}] and a change of norm up to "
            f"{ball.length(images_adv - images).max().item():.4g}"
        )
