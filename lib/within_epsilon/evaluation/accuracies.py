"""How often a classifier is right, with and without an adversary."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from within_epsilon.attacks import describe, settings, takes
from within_epsilon.checks import (
    check_images,
    check_labels,
    check_logits,
    check_model,
    check_no_nan,
)
from within_epsilon.evaluation.batches import Batches, Data
from within_epsilon.evaluation.doubts import Doubts
from within_epsilon.evaluation.fingerprint import experiment
from within_epsilon.evaluation.record import FOOLED, RIGHT, WRONG, Record
from within_epsilon.evaluation.verdicts import require_admitted
from within_epsilon.modes import warn_if_training
from within_epsilon.reports import RobustReport
from within_epsilon.runtime import device_of, progress_bar
from within_epsilon.threat import Ball, check_ball


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> float:
    """Measure the share of images that the model classifies as labelled.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    images : Tensor of shape (N, ...)
        Pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        True classes.
    batch_size : int
        Images to classify at a time.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If images, labels or the model's outputs are unusable; see `checks`.
    """
    check_model(model)
    warn_if_training(model)
    device = device_of(model)
    hits = 0
    for batch, answers in Batches((images, labels), batch_size):
        answers = answers.to(device)
        logits = _logits(model, batch.to(device), answers)
        hits += int((logits.argmax(dim=1) == answers).sum())
    return hits / len(images)


def robust_accuracy(
    model: nn.Module,
    data: Data,
    attack: Callable[..., Tensor] | Sequence[Callable[..., Tensor]],
    ball: Ball,
    *,
    batch_size: int = 256,
    resume: str | Path | None = None,
    diagnose: bool = True,
    progress: bool = True,
) -> RobustReport:
    """Measure how often the model is right although an adversary may change the image.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, K).
    data : Labelled, pair of Tensors, or iterable of batches
        A split, ``(images, labels)``, or a DataLoader whose batches are a pair (what
        follows it is ignored) or have the keys "images" and "labels". An example's place
        keys the attack's randomness, so a loader must not shuffle if results are to
        repeat.
    attack : callable, or sequence of them
        ``attack(model, images, labels, ball)``, such as `attacks.fgsm` or
        ``functools.partial(pgd, steps=100)``; gets ``indices`` too if it takes them. Of
        several, each attacks only what the ones before it have left standing.
    ball : Ball
        The threat model.
    batch_size : int
        Images to attack at a time, which is what bounds memory; a loader brings its own.
    resume : path, optional
        A file to keep the outcomes in, written after every batch. If it is there, the
        evaluation goes on from where it ended, in batches of any size.
    diagnose : bool
        Look for what makes the result doubtful, on the first 64 attacked examples: one
        gradient and one forward pass each, and a callback in the attack if it takes one.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    RobustReport
        Accuracies, threat model, attack and sample count; an upper bound on what the
        worst perturbations leave. Only examples classified correctly are attacked; the
        others count as lost.

    Raises
    ------
    TypeError, ValueError
        If the data are unusable, an attack cannot be called that way, is targeted, or
        returns anything but images within ball and [0, 1]; if the file is damaged or
        records another experiment (other weights, settings, threat model or data), and is
        left as it is; or if what an attack holds, such as an open file, cannot be recorded.

    Warns
    -----
    DoubtfulEvaluationWarning
        Once each, if the model returns probabilities, is random, has no gradient or one
        that is zero, if one step fools more than the attack, or if the attack's loss
        falls: it then fails for another reason than robustness.
    UserWarning
        If the model is in train mode.
    """
    check_model(model)
    several = isinstance(attack, Sequence) and not isinstance(attack, str)
    attacks: list[Callable[..., Tensor]] = list(attack) if several else [attack]  # type: ignore
    _check_attacks(attacks, ball)
    names = " + ".join(map(describe, attacks))
    training = model.training
    warn_if_training(model)
    device = device_of(model)
    record = Record()
    if resume is not None:
        record = Record(experiment(model, attacks, ball), Path(resume).expanduser())
    doubts = Doubts(model, attacks, ball, record.tally)
    batches = Batches(data, batch_size)
    for images, labels in progress_bar(batches, show=progress, label="attacking", unit="batch"):
        done = record.skip(images, labels)
        if done < len(images):
            fresh = images[done:].to(device), labels[done:].to(device)
            watch = doubts if diagnose and not doubts.settled else None
            first = len(record.outcomes)
            record.add(_outcomes(model, *fresh, attacks, ball, first, watch))
        if doubts.settled:
            doubts.tell()
    record.finish()
    doubts.tell()
    if not training:
        warn_if_training(model)  # an attack has left it so, and it was judged like that
    n = len(record.outcomes)
    if n == 0:
        raise ValueError("data: expected at least one example, received none")
    robust = record.outcomes.count(RIGHT)
    clean = robust + record.outcomes.count(FOOLED)
    return RobustReport(clean / n, robust / n, ball, names, n)


def _check_attacks(attacks: list[Callable[..., Tensor]], ball: object) -> None:
    check_ball(ball)
    if not attacks:
        raise ValueError("attack: expected at least one, received none")
    for attack in attacks:
        if not callable(attack):
            raise TypeError(f"attack: expected one such as attacks.pgd, received {attack!r}")
        extra: dict[str, object] = {"indices": []} if takes(attack, "indices") else {}
        try:  # as `_run` will call it
            inspect.signature(attack).bind("model", "images", "labels", "ball", **extra)
        except TypeError as error:
            raise TypeError(
                "attack: expected one to call as attack(model, images, labels, ball), received "
                f"{describe(attack)} ({error}); give settings with functools.partial, and bring "
                "a minimal-norm attack's `.images_adv` back with ball.within(images).clip(...)"
            ) from error
    if any(settings(attack).get("targeted") for attack in attacks):
        raise ValueError(
            "attack: expected an untargeted one, received targeted=True, which would lead "
            "images to their true classes; drop it"
        )


def _outcomes(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attacks: list[Callable[..., Tensor]],
    ball: Ball,
    first: int,
    doubts: Doubts | None,
) -> str:
    """Attack a batch whose first example is number `first`; return one letter per example."""
    logits = _logits(model, images, labels)
    standing = (logits.argmax(dim=1) == labels).nonzero().squeeze(1)
    outcomes = [WRONG] * len(images)
    for index in standing.tolist():
        outcomes[index] = RIGHT
    watched = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    if doubts is not None and len(standing):
        watched[standing] = doubts.before(images[standing], labels[standing], logits[standing])
    for attack in attacks:
        if len(standing) == 0:
            break
        run = attack if doubts is None else doubts.watching(attack, watched[standing])
        chosen = images[standing], labels[standing]
        images_adv = _run(run, model, *chosen, ball, first + standing)
        fooled = _logits(model, images_adv, chosen[1]).argmax(dim=1) != chosen[1]
        for index in standing[fooled].tolist():
            outcomes[index] = FOOLED
        if doubts is not None:
            doubts.after(watched[standing] & fooled)
        standing = standing[~fooled]
    return "".join(outcomes)


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return logits (N, K), after checking them and what they are computed from."""
    check_images(images)
    check_labels(labels, len(images))
    logits = check_logits(model(images), len(images))
    check_no_nan(logits)
    check_labels(labels, *logits.shape)
    return logits


def _run(
    attack: Callable[..., Tensor],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    ball: Ball,
    indices: Tensor,
) -> Tensor:
    """Call the attack, with `indices` if it takes them, and check what it returns."""
    extra = {"indices": indices} if takes(attack, "indices") else {}
    with warnings.catch_warnings() if model.training else nullcontext():
        if model.training:  # the caller has been told
            warnings.filterwarnings("ignore", "the model is in train mode")
        # Copies, for an attack may write into what it gets, and is judged by what was there.
        images_adv = attack(model, images.clone(), labels.clone(), ball, **extra)
    require_admitted(ball, images, images_adv)
    return images_adv
