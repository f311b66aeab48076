"""Adversarial patches: a small picture that fools a model wherever it is pasted."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within_epsilon.attacks.core.objective import Callback, Loss, input_gradient
from within_epsilon.attacks.core.registry import attack
from within_epsilon.checks import check_images
from within_epsilon.draws import draw_uniform
from within_epsilon.geometry import wider
from within_epsilon.losses import cross_entropy
from within_epsilon.runtime import example_generators


@attack("adversarial patch", "universal", norms=())
def adversarial_patch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    size: int,
    epochs: int = 20,
    batch_size: int = 32,
    step_size: float = 0.1,
    max_angle: float = 0.0,
    scales: tuple[float, float] = (1.0, 1.0),
    targeted: bool = False,
    loss: Loss = cross_entropy,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    r"""Train a patch that fools the model wherever it is pasted, on whatever image.

    .. math:: \max_{p \in [0, 1]} \; \mathbb{E}_{x, t} \; \ell\bigl(h(A(p, x, t)), y\bigr)

    where A pastes the patch at a random place t, turned and scaled at random. Stochastic
    gradient ascent, a step in the direction of the mean gradient's signs.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, C, H, W)
        Clean pixels in [0, 1], to learn from; measure the result on others.
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    size : int
        Height and width of the patch, in pixels.
    epochs : int
        Passes over the images, each with new places, >= 1.
    batch_size : int
        Images to a step, >= 1.
    step_size : float
        By how much each pixel of the patch moves in the first step, falling linearly to a
        tenth.
    max_angle, scales
        As in `apply_patch`.
    targeted : bool
        Lower the loss of the targets instead of raising that of the true classes.
    loss : callable
        (logits, labels) -> (N,), for the attack to raise.
    seed : int
        Seed of the images' order and of the places.
    callback : callable, optional
        ``callback(step, patch, losses)`` at every step, with the minibatch's losses.

    Returns
    -------
    Tensor of shape (C, size, size)
        The patch, pixels in [0, 1], detached, in the images' dtype.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), a count < 1,
        step_size not positive, or the patch does not fit into the images.

    Notes
    -----
    No norm bounds the change of a pixel: the threat model is the patch's area. Deviations
    from the paper: turns and sizes are as given, upright and full size by default; steps
    follow signs, so that no learning rate depends on the model's scale.

    References
    ----------
    Brown, Mané, Roy, Abadi, Gilmer, "Adversarial Patch", arXiv:1712.09665, 2017, equation 1.
    Athalye, Engstrom, Ilyas, Kwok, "Synthesizing Robust Adversarial Examples", ICML 2018:
    the expectation over transformations.
    """
    _check_fit(images, size, size, max_angle, scales)
    wide = wider(images.dtype)
    patch = torch.full((images.shape[1], size, size), 0.5, dtype=wide, device=images.device)
    (shuffler,) = example_generators([-1], seed)
    step, total = 0, epochs * -(-len(images) // batch_size)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=shuffler)
        for rows in order.split(batch_size):
            batch = rows.to(images.device)
            generators = example_generators(rows, seed, epoch)
            with torch.enable_grad():
                leaf = patch.clone().requires_grad_()
                pasted = _paste(images[batch], leaf, generators, max_angle, scales)
                losses, gradient = input_gradient(model, pasted.detach(), labels[batch], loss)
                # Pasting is linear in the patch: what the pixels say gathers there.
                said = (pasted * gradient).sum()
            (uphill,) = torch.autograd.grad(said, leaf)
            if callback is not None:
                callback(step, patch.to(images), losses)
            length = step_size * (1 - 0.9 * step / total) * (-1 if targeted else 1)
            patch = (patch + length * uphill.sign()).clamp(0, 1)
            step += 1
    return patch.to(images)


@torch.no_grad()
def apply_patch(
    images: Tensor,
    patch: Tensor,
    generators: Sequence[torch.Generator],
    *,
    max_angle: float = 0.0,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Paste a patch into each image, at a random place where all of it is seen.

    Parameters
    ----------
    images : Tensor of shape (N, C, H, W)
        Pixels in [0, 1].
    patch : Tensor of shape (C, h, w)
        Pixels in [0, 1].
    generators : sequence of N torch.Generator
        One per image; see `runtime.example_generators`.
    max_angle : float
        Turn the patch by up to so many degrees, either way.
    scales : pair of float
        Smallest and largest factor to scale it by.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        Images that show the patch, pixels in [0, 1]; upright and at full size it is copied
        pixel by pixel, else interpolated.

    Raises
    ------
    TypeError, ValueError
        If images or patch are unusable, or the patch does not fit into the images.
    """
    check_images(images)
    check_images(patch)
    if images.ndim != 4 or patch.ndim != 3 or patch.shape[0] != images.shape[1]:
        raise ValueError(
            f"patch: expected (C, h, w) for images (N, C, H, W), received {tuple(patch.shape)} "
            f"for {tuple(images.shape)}"
        )
    _check_fit(images, patch.shape[1], patch.shape[2], max_angle, scales)
    return _paste(images, patch, generators, max_angle, scales).clamp(0, 1)


def _check_fit(
    images: Tensor, height: int, width: int, max_angle: float, scales: tuple[float, float]
) -> None:
    """Require images with rows and columns enough for the patch, however it is turned."""
    if images.ndim != 4:
        raise ValueError(f"images: expected shape (N, C, H, W), received {tuple(images.shape)}")
    if max_angle < 0 or not 0 < scales[0] <= scales[1]:
        raise ValueError(
            f"max_angle, scales: expected an angle >= 0 and 0 < smallest <= largest, received "
            f"{max_angle} and {scales}"
        )
    room = min(images.shape[2:])
    needed = scales[1] * (max(height, width) if max_angle == 0 else math.hypot(height, width))
    if needed > room:
        raise ValueError(
            f"size: expected a patch that fits into {room} pixels, received one that takes up to "
            f"{needed:.3g}; give a smaller one, or smaller scales or max_angle"
        )


def _paste(
    images: Tensor,
    patch: Tensor,
    generators: Sequence[torch.Generator],
    max_angle: float,
    scales: tuple[float, float],
) -> Tensor:
    """Paste without checks; linear in the patch, so interpolation may leave [0, 1] by rounding."""
    # No clamp: where it acts it has no gradient, and pixels at 0 and 1 would never move again.
    wide = wider(images.dtype)
    draws = draw_uniform(generators, 4).to(images.device, wide)[:, :, None, None]
    angle = (2 * draws[:, 0] - 1) * math.radians(max_angle)
    scale = scales[0] + (scales[1] - scales[0]) * draws[:, 1]
    cosine, sine = angle.cos(), angle.sin()
    sizes = patch.shape[1], patch.shape[2]
    # How high and wide the turned patch is decides where its middle may be.
    spans = [scale * (near * cosine.abs() + far * sine.abs()) for near, far in (sizes, sizes[::-1])]
    offsets = []
    for span, room, draw in zip(spans, images.shape[2:], draws[:, 2:].unbind(dim=1), strict=True):
        pixels = torch.arange(room, device=images.device, dtype=wide) + 0.5
        first = (draw * (room - span.ceil() + 1)).floor()
        offsets.append(pixels - (first + span / 2))
    down, right = offsets[0].mT, offsets[1]
    # Turned back and scaled back, -1 ... 1 is the patch.
    across = (cosine * right + sine * down) / scale * (2 / sizes[1])
    along = (cosine * down - sine * right) / scale * (2 / sizes[0])
    covered = ((across.abs() < 1) & (along.abs() < 1)).unsqueeze(1)
    grid = torch.stack([across, along], dim=3)
    many = patch.to(wide).expand(len(images), *patch.shape)
    shown = F.grid_sample(many, grid, padding_mode="border", align_corners=False)
    return torch.where(covered, shown.to(images), images)
