"""A zoo of defences that look convincing and hold little: to be broken, not to be used.

Each is a few lines around a network, in the manner of a published one. Its docstring says what
it claims, who proposed its kind, what makes it look robust and which tool shows what is left.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within_epsilon.checks import check_counts


class Quantised(nn.Module):
    """A network behind a quantiser: pixels are rounded to a few levels.

    Claims that a small change is rounded away. The stairs' gradient is zero, so that attacks
    which follow it do not move; most images are one stair away from others all the same.
    `attacks.BackwardAs` breaks it, and so does an attack without gradients.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    levels : int
        Values that a pixel may have, >= 2, equally spaced from 0 to 1.

    Raises
    ------
    ValueError
        If there are fewer than two levels.

    References
    ----------
    Xu, Evans, Qi, "Feature Squeezing", NDSS 2018; Guo et al., "Countering Adversarial Images
    using Input Transformations", ICLR 2018. Broken: Athalye, Carlini, Wagner, ICML 2018.
    """

    def __init__(self, model: nn.Module, levels: int = 8) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels: expected at least 2, such as 8, received {levels}")
        self.model, self.levels = model, levels

    def quantise(self, images: Tensor) -> Tensor:
        """Round pixels, (N, ...) of any shape, to the levels."""
        steps = self.levels - 1
        return (steps * images).round() / steps

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the rounded images, (N, k)."""
        result: Tensor = self.model(self.quantise(images))
        return result


class Saturated(nn.Module):
    """A network at a low temperature: its logits are divided by a small number.

    Claims that an attack finds no direction in which the loss rises. That is true of the
    cross-entropy, whose gradient is rounded to zero at margins of hundreds, though no answer
    differs from the network's own. A loss of differences of logits, `losses.margin_loss` or
    `losses.dlr`, breaks it.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    temperature : float
        What the logits are divided by, > 0.

    Raises
    ------
    ValueError
        If the temperature is not positive.

    References
    ----------
    Papernot et al., "Distillation as a Defense", IEEE S&P 2016, whose network is trained at a
    high temperature and used at 1, to the same effect. Broken: Carlini, Wagner, IEEE S&P 2017.
    """

    def __init__(self, model: nn.Module, temperature: float = 1e-3) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number > 0, received {temperature}")
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits divided by the temperature, (N, k)."""
        result: Tensor = self.model(images) / self.temperature
        return result


class RandomlyTransformed(nn.Module):
    """A network behind a random turn, shift and zoom, another for every image at every call.

    Claims that nobody can aim at a target that moves. One draw's gradient, or one draw's
    scores, say little of the next. The mean over draws, `attacks.Averaged`, breaks it.

    Parameters
    ----------
    model : nn.Module
        Takes images (N, C, H, W) in [0, 1], returns logits (N, k); best trained behind the
        same transformation.
    degrees : float
        Largest turn, either way.
    shift : float
        Largest shift along each axis, as a share of half the image.
    zoom : float
        Largest relative change of size.

    References
    ----------
    Xie, Wang, Zhang, Ren, Yuille, "Mitigating Adversarial Effects Through Randomization", ICLR
    2018. Broken: Athalye, Carlini, Wagner, ICML 2018.
    """

    def __init__(
        self, model: nn.Module, degrees: float = 15.0, shift: float = 0.2, zoom: float = 0.1
    ) -> None:
        super().__init__()
        self.model, self.degrees, self.shift, self.zoom = model, degrees, shift, zoom

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of freshly transformed images, (N, k)."""
        draws = (2 * torch.rand(4, len(images)) - 1).to(images)
        angle, scale = math.radians(self.degrees) * draws[0], 1 + self.zoom * draws[1]
        sine, cosine, (right, down) = (
            scale * angle.sin(),
            scale * angle.cos(),
            self.shift * draws[2:],
        )
        rows = [torch.stack(row, 1) for row in ((cosine, -sine, right), (sine, cosine, down))]
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        result: Tensor = self.model(F.grid_sample(images, grid, align_corners=False))
        return result


class Detector(nn.Module):
    """A network beside a second one that looks for attacks, and then answers "none of these".

    Claims that perturbations leave traces. They do, as long as the attack does not know that
    it is looked for: one that raises another class above *both* the true one and the alarm
    leaves none. `attacks.unnoticed` with `attacks.unnoticed_margin` breaks it.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    alarm : nn.Module
        Takes the same images, returns logits (N, 2): of clean ones and of attacked ones.

    Attributes
    ----------
    reject : int
        The class that means "none of these": -1, the last.

    References
    ----------
    Metzen, Genewein, Fischer, Bischoff, "On Detecting Adversarial Perturbations", ICLR 2017.
    Joined to one network of k + 1 classes, and broken: Carlini, Wagner, "Adversarial Examples
    Are Not Easily Detected", AISec 2017, section 3.
    """

    reject = -1

    def __init__(self, model: nn.Module, alarm: nn.Module) -> None:
        super().__init__()
        self.model, self.alarm = model, alarm

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, k + 1); the last is the largest where the alarm is raised."""
        logits, alarm = self.model(images), self.alarm(images)
        raised = (alarm[:, 1] - alarm[:, 0]).unsqueeze(1)
        return torch.cat([logits, logits.amax(dim=1, keepdim=True) + raised], dim=1)


class Voting(nn.Module):
    """Several networks that vote: each gives a class its probability, rounded to 0 or 1.

    Claims that an adversary must fool most of the networks at once. Rounding has no gradient,
    so that it cannot try; what fools the mean of the networks, before they round, fools the
    vote. An attack on that mean, or on a network of one's own, transfers.

    Parameters
    ----------
    *models : nn.Module
        Take images in [0, 1], return logits (N, k).

    Raises
    ------
    ValueError
        If there is none.

    References
    ----------
    Rounded networks that vote: Sen, Ravindran, Raghunathan, "EMPIR", ICLR 2020. Broken: Tramèr,
    Carlini, Brendel, Mądry, "On Adaptive Attacks to Adversarial Example Defenses", NeurIPS 2020.
    """

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        check_counts(models=len(models))
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        """Return the votes for each class, (N, k); ties go to the first of their classes."""
        votes = [model(images).softmax(dim=1).round() for model in self.models]
        return torch.stack(votes).sum(dim=0)


class KWinners(nn.Module):
    """An activation that lets the k largest of a layer pass and makes all others zero.

    Claims that the loss, which jumps whenever a winner changes, has no gradient to follow. An
    attack that takes no gradient, such as `attacks.square`, minds no jumps.

    Parameters
    ----------
    winners : int
        How many of each example's values pass, k >= 1.

    Raises
    ------
    ValueError
        If there is none.

    References
    ----------
    Xiao, Zhong, Zheng, "Enhancing Adversarial Defense by k-Winners-Take-All", ICLR 2020. Broken:
    Tramèr et al., NeurIPS 2020, section 5.
    """

    def __init__(self, winners: int) -> None:
        super().__init__()
        check_counts(winners=winners)
        self.winners = winners

    def forward(self, values: Tensor) -> Tensor:
        """Return values (N, D) with all but the k largest of each row set to zero."""
        least = values.topk(min(self.winners, values.shape[1]), dim=1).values[:, -1:]
        return values * (values >= least)


def k_winners_mlp(*sizes: int, share: float = 0.05) -> nn.Sequential:
    """Build a multi-layer perceptron with `KWinners` between its layers.

    Parameters
    ----------
    *sizes : int
        As for `models.mlp`: inputs, hidden units layer by layer, classes.
    share : float
        Of each hidden layer's units, how many win.
    """
    return _mlp(sizes, lambda width: [KWinners(max(1, round(share * width)))])


def dropout_mlp(*sizes: int, rate: float = 0.3) -> nn.Sequential:
    """Build a multi-layer perceptron with ReLU and dropout between its layers.

    Left in train mode, it gives every image another answer at every call. That may be claimed
    as a defence, or simply be forgotten; `eval()` ends it, and `attacks.Averaged` breaks it.

    Parameters
    ----------
    *sizes : int
        As for `models.mlp`: inputs, hidden units layer by layer, classes.
    rate : float
        The chance that a unit is dropped.

    References
    ----------
    As a defence: Dhillon et al., "Stochastic Activation Pruning for Robust Adversarial Defense",
    ICLR 2018. Broken: Athalye, Carlini, Wagner, ICML 2018. Forgotten: bethgelab/foolbox#74.
    """
    return _mlp(sizes, lambda _: [nn.ReLU(), nn.Dropout(rate)])


def _mlp(sizes: tuple[int, ...], between: Callable[[int], list[nn.Module]]) -> nn.Sequential:
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected two at least, as in (64, 100, 10), received {sizes}")
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), *between(outputs)]
    # Behind the last layer, the classes' own, nothing follows.
    return nn.Sequential(*layers[: -len(between(1))])
