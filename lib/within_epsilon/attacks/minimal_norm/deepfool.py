"""DeepFool: walk to the nearest border of the model's linear approximation, again and again."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from within_epsilon.attacks.core.linear import dual_norm, nearest_border
from within_epsilon.attacks.core.minimal import Minimal, begin
from within_epsilon.attacks.core.objective import Callback
from within_epsilon.attacks.core.registry import attack
from within_epsilon.geometry import per_pixel, steepest_rows

# Halvings of the way back from where the walk ended.
_HALVINGS = 10
# By how much, in pixel units, a step is longer than it need be: without, they get ever shorter.
_NUDGE = 1e-4


@attack("DeepFool", "minimal norm", norms=("l2", "linf"))
def deepfool(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Literal["l2", "linf"] = "l2",
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    rivals: int = 9,
    targeted: bool = False,
    mask: Tensor | None = None,
    seed: int = 0,  # noqa: ARG001 - all attacks are called alike
    indices: Tensor | Sequence[int] | None = None,  # noqa: ARG001
    callback: Callback | None = None,
) -> Minimal:
    r"""Look for the nearest adversarial images with DeepFool.

    .. math:: x_{t+1} = x_0 + (1 + \eta) \sum_{s \le t} r_s, \quad
              r_t = \frac{h(x_t)_y - h(x_t)_j}{\|w_j\|_*}\, d_j, \quad
              w_j = \nabla h(x_t)_j - \nabla h(x_t)_y

    with the class j whose border :math:`(h(x_t)_y - h(x_t)_j) / \|w_j\|_*` is nearest and
    :math:`d_j` the direction of length 1 that is steepest along :math:`w_j`.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    labels : Tensor of shape (N,), int64
        The true classes, or the target classes if `targeted`.
    norm : {"l2", "linf"}
        How distance is measured.
    steps : int
        Steps at most, >= 1. An example that fools the model takes no more.
    overshoot : float
        eta: by which share of its length the sum of all steps is stretched, >= 0.
    rivals : int
        How many other classes to consider, the likeliest at every step: a gradient each.
    targeted : bool
        Look for images that the model takes for the labels: each step heads for the border
        between the label and the likeliest other class.
    mask : Tensor of shape (N, ...) or (1, ...), bool, optional
        Which pixels may change; all by default.
    seed, indices
        Without effect: nothing here is random. All attacks take them.
    callback : callable, optional
        ``callback(step, images_adv, distances)`` at every point visited: the clean images
        as step 0, then 1, 2, ...; with the shortest distances so far.

    Returns
    -------
    Minimal
        The adversarial images found and their distances in `norm`: 0 where the clean image
        is adversarial, infinite (and the clean image) where nothing was found.

    Raises
    ------
    TypeError, ValueError
        If images, labels, logits or gradient are unusable (see `checks`), the norm is
        neither l2 nor linf, steps or rivals < 1, or overshoot < 0.

    Notes
    -----
    Deviations from the paper: the sum is stretched after every step, not once the steps
    suffice without it; every step is 1e-4 longer than it need be, or the last ones would get
    ever shorter; pixels are clipped to [0, 1]; at the end the straight way back to the clean
    image is halved ten times, so that the overshoot does not lengthen the result.

    Pixels at the edge of [0, 1] take part in the steps, although they cannot follow. So an
    image that is mostly black moves less far than its border, and looks again more often:
    it takes two or three times as many steps as with those pixels left out, but ends closer.

    References
    ----------
    Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: a Simple and Accurate Method to Fool Deep
    Neural Networks", CVPR 2016, Algorithm 2; equations 10 and 11 for other norms.
    """
    if overshoot < 0:
        raise ValueError(f"overshoot: expected a share >= 0, received {overshoot}")
    closest, rows = begin(model, images, labels, norm, callback, targeted=targeted, mask=mask)
    # Wide enough that half-precision pixels do not round short steps away.
    nudge = max(_NUDGE, torch.finfo(images.dtype).eps)
    position, everyone = images.clone(), torch.arange(len(images), device=images.device)
    total = torch.zeros_like(images, dtype=closest.distances.dtype)
    closest.tell(0, everyone, position)
    for step in range(1, steps + 1):
        if not len(rows):
            break
        here = position[rows]
        gaps, uphill = nearest_border(model, here, closest.objective[rows], norm, rivals)
        lengths = (gaps.abs() / dual_norm(uphill, norm) + nudge).clamp(max=here[0].numel())
        direction = steepest_rows(uphill.flatten(1).to(total), norm).view_as(here)
        total[rows] += direction * per_pixel(lengths, here)
        stretched = images[rows].to(total) + (1 + overshoot) * total[rows]
        position[rows] = images_adv = stretched.clamp_(0, 1).to(images)
        achieved = closest.query(rows, images_adv)
        closest.tell(step, everyone, position)
        rows = rows[~achieved]
    rows = closest.perturbed
    closest.bisect(rows, closest.images_adv[rows], _HALVINGS)
    return closest.result()
