"""What is attacked: networks, examples, and the sizes of balls that leave some standing."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from within_epsilon.attacks import pgd
from within_epsilon.data import DataUnavailableError, digits, photo
from within_epsilon.models import Classifier, digits_classifier, photo_classifier, small_cnn
from within_epsilon.threat import Ball
from within_epsilon.training import minibatches

PHOTOS, PIXELS = ("chelsea", "coffee", "pig"), 128


@dataclass(frozen=True)
class Subject:
    """A network and examples that it classifies as labelled.

    Parameters
    ----------
    name : str
        What tables call it.
    model : nn.Module
        In eval mode; takes pixels in [0, 1].
    images : Tensor of shape (N, C, H, W)
        Pixels.
    labels : Tensor of shape (N,), int64
        Their classes.
    misclassified : int
        How many of the original examples were left out because the network errs on them.
    epsilons : dict
        Norm to radius.
    seeds : int
        How often to repeat a random attack.
    skipped : tuple of str
        Attacks that would take too long here, or "attack, library" for one library's.
    """

    name: str
    model: nn.Module
    images: Tensor
    labels: Tensor
    misclassified: int
    epsilons: dict[str, float]
    seeds: int = 3
    skipped: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of examples, those left out included."""
        return len(self.images) + self.misclassified

    def skips(self, attack: str, library: str) -> bool:
        """Tell whether a contestant is left out."""
        return attack in self.skipped or f"{attack}, {library}" in self.skipped

    def balls(self) -> list[Ball]:
        """Return the threat models."""
        return [Ball(norm, epsilon) for norm, epsilon in self.epsilons.items()]


def keep_right(
    name: str, model: nn.Module, images: Tensor, labels: Tensor, epsilons: dict[str, float]
) -> Subject:
    """Leave out what the network gets wrong without an attack."""
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    wrong = int((~right).sum())
    return Subject(name, model, images[right], labels[right], wrong, epsilons)


def standard_digits(n: int | None = None) -> Subject:
    """Return the shipped digits network with the first n test examples, or all 400."""
    test = digits().test
    epsilons = {"linf": 0.1, "l2": 0.5, "l1": 2.0}
    return keep_right("digits", digits_classifier(), test.images[:n], test.labels[:n], epsilons)


def robust_digits(n: int | None = None, epochs: int = 30) -> Subject:
    """Return a digits network trained here against PGD, in seconds."""
    train, _, test = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(small_cnn()).eval()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        for batch in minibatches(len(train), 64, generator):
            images, labels = train.images[batch], train.labels[batch]
            ball = Ball("linf", 0.15)
            images_adv = pgd(model, images, labels, ball, steps=5, seed=epoch, indices=batch)
            optimizer.zero_grad()
            F.cross_entropy(model(images_adv), labels).backward()
            optimizer.step()
    epsilons = {"linf": 0.2, "l2": 1.0, "l1": 3.0}
    return keep_right("robust digits", model, test.images[:n], test.labels[:n], epsilons)


def photos(names: tuple[str, ...] = PHOTOS, pixels: int = PIXELS) -> Subject | None:
    """Return SqueezeNet with a few photos and their mirror images; None without its files.

    With 128 pixels a side instead of 224 everything is 3 times as fast. The network's own
    answers are the labels. Attacks that take thousands of passes are left out.
    """
    try:
        model = photo_classifier()
        originals = [photo(name, size=pixels) for name in names]
    except DataUnavailableError:
        return None
    images = torch.cat([view for image in originals for view in (image, image.flip(3))])
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    epsilons = {"linf": 0.15 / 255, "l2": 0.08, "l1": 8.0}
    skipped = ("PGD, clean start", "APGD-DLR", "APGD-T", "Square", "AutoAttack")
    skipped += ("C&W", "HopSkipJump", "FAB", "σ-zero")
    # These ask for the gradients of all 1,000 classes, in every step.
    greedy = ("torchattacks", "adversarial-robustness-toolbox", "adv-lib")
    skipped += tuple(f"DeepFool, {library}" for library in greedy)
    return Subject("photos", model, images, labels, 0, epsilons, seeds=1, skipped=skipped)
