"""Randomized smoothing: certificates from votes under Gaussian noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor, nn

from within_epsilon.checks import (
    check_counts,
    check_images,
    check_indices,
    check_logits,
    check_model,
    dtype_explained,
)
from within_epsilon.modes import warn_if_training
from within_epsilon.runtime import device_of, streams, untouched

ABSTAINED = -1


@dataclass(frozen=True)
class Smoothed:
    """What the votes on one image certify.

    Parameters
    ----------
    category : int
        The class that the smoothed classifier gives, with the stated confidence; -1 where it
        abstains, which counts as a wrong answer and is never to be left out.
    radius : float
        No change of l2 norm below this alters that class; 0 where it abstains.
    probability : float
        The lower bound of the class's share of votes.
    votes : int
        Its votes, of `n`.
    n : int
        How many votes were counted.
    alpha : float
        The chance that the statement is wrong, over the draws of the noise.
    """

    category: int
    radius: float
    probability: float
    votes: int
    n: int
    alpha: float

    @property
    def abstained(self) -> bool:
        """Whether there is no answer."""
        return self.category == ABSTAINED


def clopper_pearson_lower(successes: int, n: int, alpha: float) -> float:
    """Bound a probability from below, given how often its event happened.

    Parameters
    ----------
    successes, n : int
        Events among n independent trials.
    alpha : float
        The chance that the bound is above the probability, at most; in (0, 1).

    Returns
    -------
    float
        0 for no success; for n of n alpha^(1/n), which is below 1.

    Raises
    ------
    ValueError
        If the counts are impossible or alpha is not in (0, 1).

    Notes
    -----
    One-sided. A two-sided interval of confidence 1 - alpha spends half of alpha above, and one
    by the normal approximation (the default of a popular function) is the point 1 for n of n,
    which certifies an infinite radius.

    References
    ----------
    Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial", Biometrika 1934.
    """
    if not (0 <= successes <= n and n > 0 and 0 < alpha < 1):
        raise ValueError(
            f"expected 0 <= successes <= n, n > 0 and 0 < alpha < 1, received "
            f"successes={successes}, n={n}, alpha={alpha}"
        )
    if successes == 0:
        return 0.0
    # (Imported here: who asks for other proofs need not wait for it.)
    from scipy.special import betaincinv

    # The last factor pays for the rounding of the quantile.
    return float(betaincinv(successes, n - successes + 1, alpha)) * (1 - 2.0**-40)


def radius_of(probability: float, sigma: float) -> float:
    """Return the radius that a lower bound of the winner's probability certifies.

    Parameters
    ----------
    probability : float
        Lower bound of the probability, under noise, of the class that wins; in [0, 1).
    sigma : float
        Standard deviation of the noise, in units of pixels.

    Returns
    -------
    float
        sigma times the normal quantile; 0 for a probability of 1/2 or less.

    References
    ----------
    Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
    ICML 2019, theorem 1 with the runner-up's probability bounded by the rest.
    """
    if not (0 <= probability < 1 and sigma > 0):
        raise ValueError(
            f"expected a probability in [0, 1) and sigma > 0, received {probability} and {sigma}; "
            "a bound of 1 is no bound: use clopper_pearson_lower"
        )
    return sigma * NormalDist().inv_cdf(probability) if probability > 0.5 else 0.0


@torch.no_grad()
def count_votes(
    model: nn.Module,
    image: Tensor,
    sigma: float,
    n: int,
    *,
    batch: int = 500,
    generator: torch.Generator,
) -> Tensor:
    """Count which classes a network gives one image under Gaussian noise.

    Parameters
    ----------
    model : nn.Module
        Takes (N, ...), returns logits (N, k). Noisy pixels leave [0, 1], as the theorem wants.
    image : Tensor of shape (...)
        Clean pixels.
    sigma : float
        Standard deviation of the noise, in units of pixels.
    n : int
        Votes.
    batch : int
        Votes at a time; memory grows with it, and not with n.
    generator : torch.Generator
        Where the noise is drawn from: the CPU's, or of the model's device.

    Returns
    -------
    Tensor of shape (k,), int64
        Votes, n in all. A NaN among the logits is a vote for no class, and raises.
    """
    counts: Tensor | None = None
    device = device_of(model)
    clean = image.to(device)
    # One buffer for all batches: new memory each time costs more than the noise does.
    noise = torch.empty(min(n, batch), *image.shape, device=generator.device, dtype=image.dtype)
    for size in _sizes(n, batch):
        drawn = noise[:size].normal_(0.0, sigma, generator=generator)
        with dtype_explained(model, image):
            logits = check_logits(model(drawn.to(device).add_(clean)), size)
        largest, answers = logits.max(dim=1)
        # A maximum is NaN if anything is, and a sum too: one pass over a column, in most cases.
        if math.isnan(largest.sum().item()) and bool(largest.isnan().any()):
            raise ValueError("logits: expected numbers, received NaN; look at the model's weights")
        if counts is None:
            counts = answers.new_zeros(logits.shape[1])
        # In place, and where the answers are: nothing is brought back from a GPU before the end.
        counts.index_add_(0, answers, torch.ones_like(answers))
    assert counts is not None
    return counts.cpu()


def certify_smoothed(
    model: nn.Module,
    images: Tensor,
    sigma: float,
    *,
    n: int = 10_000,
    n_selection: int = 100,
    alpha: float = 0.001,
    batch: int = 500,
    seed: int = 0,
    indices: Tensor | Sequence[int] | None = None,
) -> list[Smoothed]:
    """Certify images of the classifier that takes the most voted class under noise.

    Parameters
    ----------
    model : nn.Module
        Takes images (N, ...), returns logits (N, k).
    images : Tensor of shape (N, ...)
        Clean pixels in [0, 1].
    sigma : float
        Standard deviation of the noise, in units of pixels.
    n : int
        Votes that are counted; the largest radius that they can certify grows with it.
    n_selection : int
        Votes before that, which choose the class: the same votes may not choose and judge.
    alpha : float
        The chance that a statement is wrong, for each image.
    batch : int
        Votes at a time.
    seed : int
        Of the noise.
    indices : sequence of N int, optional
        The images' positions in their data set, which the noise depends on; 0 to N - 1 by
        default.

    Returns
    -------
    list of N Smoothed
        One for each image, abstentions included.

    Raises
    ------
    TypeError, ValueError
        If images are no pixels in [0, 1], counts are below 1, or sigma or alpha impossible.

    Warns
    -----
    UserWarning
        If a part of the model is in train mode, where votes depend on each other.

    Notes
    -----
    The guarantee is about the smoothed classifier, and with probability 1 - alpha over the
    noise; it is one of real arithmetic. Noise and images are floats, and for votes cast in
    floats the theorem does not hold to the letter (Voráček, Hein, ICLR 2023).

    References
    ----------
    Cohen, Rosenfeld, Kolter, ICML 2019, algorithm CERTIFY.
    """
    check_model(model)
    check_images(images)
    check_counts(n=n, n_selection=n_selection, batch=batch)
    radius_of(0.5, sigma)
    warn_if_training(model)
    found = []
    generators = streams(check_indices(indices, len(images)), seed)
    with untouched(model, seed):
        for image, generator in zip(images, generators, strict=True):
            few = count_votes(model, image, sigma, n_selection, batch=batch, generator=generator)
            winner = int(few.argmax())
            votes = count_votes(model, image, sigma, n, batch=batch, generator=generator)
            found.append(judge(int(votes[winner]), n, winner, sigma, alpha))
    return found


def judge(votes: int, n: int, category: int, sigma: float, alpha: float) -> Smoothed:
    """Say what votes for a class chosen beforehand certify; see `Smoothed`.

    Parameters
    ----------
    votes, n : int
        Votes for the class, of all.
    category : int
        The class.
    sigma, alpha : float
        As for `certify_smoothed`.
    """
    probability = clopper_pearson_lower(votes, n, alpha)
    radius = radius_of(probability, sigma)
    kept = category if radius > 0 else ABSTAINED
    return Smoothed(kept, radius, probability, votes, n, alpha)


def _sizes(n: int, batch: int) -> Iterator[int]:
    for start in range(0, n, batch):
        yield min(batch, n - start)
