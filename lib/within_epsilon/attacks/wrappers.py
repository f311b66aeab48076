"""Models made fit for gradient attacks: random ones averaged, stairs given a slope.

Both are defences whose gradient misleads an attack though the model is none the stronger for it.
The attack is given the wrapped model; its success is judged on the model itself.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_counts, check_logits

Transform = Callable[[Tensor], Tensor]


class Averaged(nn.Module):
    r"""A random model's mean over several draws, for attacks: expectation over transformation.

    .. math:: z_k = \log \frac1S \sum_{s=1}^S \mathrm{softmax}(h_s(x))_k

    One draw's gradient points where that draw would be fooled, and the next draw is another.
    The gradient of the mean points where all of them are fooled a little more.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k), others at every call.
    samples : int
        Draws, S >= 1; a forward pass each, and with a gradient a backward pass each.

    Raises
    ------
    ValueError
        If there is less than one sample.

    Notes
    -----
    Probabilities are averaged, not logits. They are what a random model answers: the mean over
    draws is the chance of each class, and every draw has one vote, where a single draw of large
    logits would outweigh all others. The logarithm of their mean is taken stably and is itself a
    set of logits, so that every loss and attack takes it. Its cross-entropy weighs the draws by
    how likely they still make the label: the attack turns to those that it has not fooled yet.

    The draws are made one after the other and not on copies of the batch, since a model may draw
    once a call. Their graphs are held together: a gradient takes S times the memory.

    References
    ----------
    Athalye, Engstrom, Ilyas, Kwok, "Synthesizing Robust Adversarial Examples", ICML 2018. As an
    attack on random defences: Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False
    Sense of Security", ICML 2018, section 4.2.
    """

    def __init__(self, model: nn.Module, samples: int = 10) -> None:
        super().__init__()
        check_counts(samples=samples)
        self.model, self.samples = model, samples
        self.training = model.training  # so that the mode that attacks warn of is the model's

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithms of the mean probabilities, (N, k)."""
        draws = [check_logits(self.model(images), len(images)) for _ in range(self.samples)]
        return torch.stack(draws).log_softmax(dim=2).logsumexp(dim=0) - math.log(self.samples)


class BackwardAs(nn.Module):
    """A function as it is, with another one's gradient: backward pass differentiable approximation.

    A stair is flat: rounding pixels to eight levels, say, has gradient zero nearly everywhere,
    yet an image that fools the model must only move them to another stair. On the way back, the
    stair is taken for the slope that it follows.

    Parameters
    ----------
    forward : callable or nn.Module
        The function whose values count, of images to images, say; it need not be differentiable.
    backward : callable or nn.Module, optional
        What is differentiated in its place, at the same point; the identity by default, which
        is known as the straight-through estimator.

    Examples
    --------
    A model behind a quantiser:

    >>> quantise = BackwardAs(lambda images: (7 * images).round() / 7)
    >>> defended = nn.Sequential(quantise, model)  # doctest: +SKIP

    References
    ----------
    Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018,
    section 4.1. Straight-through: Bengio, Léonard, Courville, 2013.
    """

    def __init__(self, forward: Transform, backward: Transform | None = None) -> None:
        super().__init__()
        self.function, self.substitute = forward, backward

    def forward(self, images: Tensor) -> Tensor:
        """Return the function's values, bit for bit.

        Raises
        ------
        ValueError
            If the substitute's values have another shape.
        """
        with torch.no_grad():
            values = self.function(images)
        substitute = images if self.substitute is None else self.substitute(images)
        if values.shape != substitute.shape:
            raise ValueError(
                f"backward: expected values of the shape of forward's, {tuple(values.shape)}, "
                f"received {tuple(substitute.shape)}; give a function that ends in the same shape"
            )
        result: Tensor = _ValueAndSlope.apply(values, substitute)
        return result


class _ValueAndSlope(torch.autograd.Function):
    """Returns its first argument; its gradient goes to the second.

    Exactly so, where substitute + (value - substitute).detach() would round.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, substitute: Tensor) -> Tensor:  # noqa: ARG004
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004
        return None, gradient
