"""Evaluation: how often a classifier is right, with and without an adversary."""

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_labels, check_logits
from within_epsilon.runtime import device_of


@torch.no_grad()
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
    """
    check_labels(labels, len(images))
    device = device_of(model)
    hits = 0
    for batch, answers in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = check_logits(model(batch.to(device)), len(batch))
        hits += int((logits.argmax(dim=1) == answers.to(device)).sum())
    return hits / len(images)
