"""What a model thinks of an image, recorded along a direction: no widget in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from within_epsilon.attacks import input_gradient
from within_epsilon.checks import check_images, check_logits
from within_epsilon.losses import softmax
from within_epsilon.runtime import device_of, example_generators, progress_bar
from within_epsilon.threat import Ball

# One stop of a curve: (class index, probability), the most probable first.
Stop = list[tuple[int, float]]

_SIGNS = Ball("linf", 1.0)


class Direction(NamedTuple):
    """A way away from the image: every pixel up, down or left alone."""

    key: str
    label: str  # what the reader chooses
    attack: str  # what the verdict calls it
    signs: Tensor  # (1, C, H, W) in {-1, 0, 1}


class InFloat32(nn.Module):
    """A model of another precision that takes float32 images and returns float32 logits.

    Its mode, and its gradients' way to the pixels, are the model's.

    Parameters
    ----------
    model : nn.Module
        Takes images of `dtype`.
    dtype : torch.dtype
        What it computes in.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.training = model.training  # train() would set the model's parts too
        self.categories = getattr(model, "categories", ())

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, k), float32, for images (N, C, H, W)."""
        return check_logits(self.model(images.to(self.dtype)), len(images)).float()


def in_float32(model: nn.Module) -> nn.Module:
    """Return a model for float32 images: itself, or its like if it computes in another dtype."""
    if isinstance(model, InFloat32):
        return model
    numbers = (t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point())
    dtype = next(numbers, torch.float32)
    return model if dtype == torch.float32 else InFloat32(model, dtype)


def check_one_image(images: Tensor) -> None:
    """Require one grey or colour image in [0, 1], as a batch (1, C, H, W)."""
    check_images(images)
    if images.ndim != 4 or images.shape[0] != 1 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images: expected one image as a batch (1, C, H, W) with C = 1 or 3, received "
            f"{tuple(images.shape)}; take one with images[:1]"
        )


def gradient_signs(
    model: nn.Module, images: Tensor, label: int, *, targeted: bool = False
) -> Tensor:
    """Return FGSM's direction, the sign of the cross-entropy's gradient in the input.

    Parameters
    ----------
    model : takes images in [0, 1], returns logits (1, k)
    images : Tensor of shape (1, C, H, W)
    label : the true class, to be left; the target class, to be approached, if `targeted`
    targeted : whether `label` is the target

    Returns
    -------
    Tensor of shape (1, C, H, W) in {-1, 0, 1}, on the images' device
    """
    labels = torch.tensor([label], device=images.device)
    _, gradient = input_gradient(model, images, labels)
    signs = _SIGNS.steepest(gradient)
    return -signs if targeted else signs


def random_signs(images: Tensor, seed: int = 0) -> Tensor:
    """Return the signs that `attacks.random_noise` draws for the same image and seed."""
    return _SIGNS.random(images, example_generators([0], seed), boundary=True)


@torch.no_grad()
def record_curve(
    model: nn.Module,
    images: Tensor,
    signs: Tensor,
    epsilons: Sequence[float],
    *,
    watch: Sequence[int] = (),
    top: int = 5,
    batch_size: int = 8,
    label: str = "recording",
) -> list[Stop]:
    """Record the model's probabilities for clip(image + epsilon * signs), epsilon by epsilon.

    Parameters
    ----------
    model : takes images in [0, 1], returns logits (N, k)
    images : Tensor of shape (1, C, H, W), pixels in [0, 1]
    signs : Tensor of shape (1, C, H, W) in {-1, 0, 1}
    epsilons : stops, pixel units
    watch : classes to record at every stop, probable or not
    top : how many of the most probable classes to record
    batch_size : stops to compute at a time
    label : what the progress bar says

    Returns
    -------
    One list per epsilon of top + len(watch) pairs (class index, probability), or of all k classes
    if there are fewer: the watched and the most probable ones, in falling order
    """
    images_adv = torch.cat(
        [Ball("linf", epsilon).perturb(images, epsilon * signs) for epsilon in epsilons]
    )
    stops: list[Stop] = []
    batches = torch.split(images_adv, batch_size)
    for batch in progress_bar(batches, show=True, label=label, unit="batch"):
        logits = check_logits(model(batch.to(device_of(model))), len(batch))
        stops += [_strongest(row, watch, top) for row in softmax(logits.cpu().double())]
    return stops


def _strongest(probabilities: Tensor, watch: Sequence[int], top: int) -> Stop:
    """Return the watched classes and enough of the most probable ones, in falling order."""
    order = [int(i) for i in probabilities.argsort(descending=True, stable=True)]
    kept = {*watch, *[i for i in order if i not in watch][:top]}
    # Seven digits are more than a bar shows and all that float32 knows.
    return [(i, float(f"{probabilities[i]:.7g}")) for i in order if i in kept]


def directions_from(
    model: nn.Module, images: Tensor, true: int, goal: int | None, names: list[str], seed: int
) -> list[Direction]:
    """Return the directions to choose from: away, towards the goal if there is one, random."""
    away = gradient_signs(model, images, true)
    ways = [Direction("away", "anything else", "FGSM", away)]
    if goal is not None:
        signs = gradient_signs(model, images, goal, targeted=True)
        towards = f"towards {names[goal]}"
        ways.append(Direction("towards", towards, f"FGSM {towards}", signs))
    noise = random_signs(images, seed)
    return [*ways, Direction("random", "random signs", "random signs", noise)]


@torch.no_grad()
def guess(model: nn.Module, images: Tensor) -> int:
    """Return the class that the model sees in the first image."""
    return int(check_logits(model(images), 1).argmax())


@torch.no_grad()
def class_names(model: nn.Module, images: Tensor) -> list[str]:
    """Return the model's class names, or the indices where it has none."""
    categories = getattr(model, "categories", None)
    return list(categories or map(str, range(check_logits(model(images), 1).shape[1])))


def class_index(what: str, value: int | str, names: list[str]) -> int:
    """Return the index of a class given by name or index; `what` names the argument in errors."""
    if isinstance(value, str):
        if value not in names:
            raise ValueError(f"{what}: expected a name from model.categories, received {value!r}")
        return names.index(value)
    if not 0 <= int(value) < len(names):
        raise ValueError(f"{what}: expected a class from 0 to {len(names) - 1}, received {value}")
    return int(value)
