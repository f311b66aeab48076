"""Small networks for digits, to train or to load trained."""

from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from within_epsilon.data import shipped
from within_epsilon.models.classifier import Classifier


def mlp(*sizes: int) -> nn.Sequential:
    """Build a multi-layer perceptron with ReLU between its layers.

    Parameters
    ----------
    *sizes : int
        Numbers of inputs, of hidden units layer by layer, and of classes:
        ``mlp(64, 100, 10)``.

    Raises
    ------
    ValueError
        If fewer than two sizes are given.
    """
    if len(sizes) < 2:
        raise ValueError(
            f"sizes: expected at least inputs and classes, as in mlp(64, 10), received {sizes}"
        )
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def small_cnn() -> nn.Sequential:
    """Build the book's convolutional network for digits: 1 x 8 x 8 in, 10 logits out."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


def digits_classifier(robust: Literal["linf", "l2", "certified"] | None = None) -> Classifier:
    """Load a digits network that ships with the library; the cards are data/digits_cnn*.md.

    Parameters
    ----------
    robust : {"linf", "l2", "certified"}, optional
        The one trained against PGD within linf of radius 0.2, or within l2 of radius 0.5; or
        the one trained on interval bounds within linf of radius 0.1; by default the one that no
        adversary has trained.

    Returns
    -------
    Classifier
        `small_cnn` trained on ``digits().train``, in evaluation mode.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    from safetensors.torch import load_file

    if robust not in (None, "linf", "l2", "certified"):
        raise ValueError(
            "robust: expected linf, l2, certified or None for the standard network, received "
            f"{robust!r}"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, cost no seed
        body = small_cnn()
    name = f"digits_cnn_{robust}" if robust else "digits_cnn"
    body.load_state_dict(load_file(shipped(f"{name}.safetensors")))
    return Classifier(body, categories="0123456789").eval()
