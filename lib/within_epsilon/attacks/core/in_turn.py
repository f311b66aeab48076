"""Several attacks one after the other, each only on what the ones before left standing."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.minimal import Minimal
from within_epsilon.attacks.core.objective import Objective, Strongest, logits_of
from within_epsilon.attacks.core.registry import accepted, name_of, room_for
from within_epsilon.checks import check_indices
from within_epsilon.losses import margin_loss
from within_epsilon.threat import Ball

# (what the attack is called, images_adv, standing), called after every attack.
StageCallback: TypeAlias = Callable[[str, Tensor, Tensor], None]


class Fallen(NamedTuple):
    """What became of each example.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The clean image if the model gets it wrong, else what fooled the model first, else
        the failed attempt (or the clean image) of the largest margin loss.
    fell_to : Tensor of shape (N,), int64
        Number of the attack, -1 for none was needed, and as many as there are attacks for
        an example that stands.
    """

    images_adv: Tensor
    fell_to: Tensor


def in_turn(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    attacks: Sequence[Callable[..., Tensor]],
    *,
    indices: Tensor | Sequence[int] | None = None,
    callback: StageCallback | None = None,
) -> Fallen:
    """Run attacks one after the other, each on what the ones before it have left standing.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes.
    ball : Ball
        The threat model.
    attacks : sequence of callable
        ``attack(model, images, labels, ball)``; get ``indices`` too if they take them, and
        ``at_once=N``, the images in a pass, if that is None by default.
    indices : Tensor or sequence of int, shape (N,), optional
        Positions in the data set, which key the randomness; 0 ... N - 1 by default.
    callback : callable, optional
        ``callback(name, images_adv, standing)`` after every attack: what it is called, the
        best points so far, and which examples (N,) still stand. An attack that finds nobody
        standing is passed over.

    Returns
    -------
    Fallen
        The adversarial images, and which attack each example fell to. Whether it did is
        judged by the model's answer for the very image that the attack returned.

    Raises
    ------
    TypeError, ValueError
        If images, labels or logits are unusable, or an attack returns anything but images
        within ball and [0, 1].
    """
    positions = torch.as_tensor(check_indices(indices, len(images)))
    everyone, strongest = Objective(labels, margin_loss), Strongest(images)
    rows = torch.arange(len(images), device=images.device)
    fell_to = torch.full_like(rows, len(attacks))

    def judge(number: int, rows: Tensor, images_adv: Tensor) -> None:
        logits, objective = logits_of(model, images_adv), everyone[rows]
        achieved = objective.achieved(logits)
        strongest.offer(rows, images_adv, achieved, objective.values(logits))
        fell_to[rows[achieved]] = number

    judge(-1, rows, images)
    for number, attack in enumerate(attacks):
        rows = rows[~strongest.achieved[rows]]
        if not len(rows):
            break
        extra = accepted(attack, indices=positions[rows.cpu()]) | room_for(attack, len(images))
        # Copies, for an attack may write into what it gets, and is judged by what was there.
        clean, allowed = images[rows], ball[rows]
        with warnings.catch_warnings():
            # Whoever calls several attacks has been told.
            warnings.filterwarnings("ignore", "the model is in train mode")
            images_adv = attack(model, clean.clone(), labels[rows], allowed, **extra)
        check_admitted(allowed, clean, images_adv)
        judge(number, rows, images_adv)
        if callback is not None:
            callback(name_of(attack), strongest.images_adv.clone(), ~strongest.achieved)
    return Fallen(strongest.images_adv, fell_to)


def check_admitted(ball: Ball, images: Tensor, images_adv: object) -> None:
    """Require that the threat model allows what an attack returned.

    Raises
    ------
    TypeError
        If that is no tensor of the images' dtype.
    ValueError
        If its shape or device is another, a pixel leaves [0, 1], or a change the ball by
        more than rounding.
    """
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
            raise kind(
                f"images_adv: expected the images' {what} {_plain(expected)}, received "
                f"{_plain(received)}; return one adversarial image for each, of the same kind"
            )
    # An attack of one's own, in float32, may overstep by the rounding of its pixels.
    if not ball.admits(images, images_adv, atol=_ROUNDING).all():
        lowest, highest = (extreme.item() for extreme in torch.aminmax(images_adv))
        lengths = ball.length(images_adv.double() - images.double())
        raise ValueError(
            f"images_adv: expected pixels in [0, 1] and a change within {ball}, received pixels "
            f"in [{lowest:.4g}, {highest:.4g}] and a change of norm up to "
            f"{lengths.max().item():.4g}; end the attack with ball.perturb(images, delta)"
        )


# How far an attack of one's own may overstep epsilon before its result is refused.
_ROUNDING = 1e-5


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, torch.Size) else value
