"""Reports: a robust accuracy never travels without what it depends on."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from within_epsilon.threat import Ball
from within_epsilon.wording import percent


@dataclass(frozen=True)
class RobustReport:
    """A robust accuracy together with everything that it depends on.

    Parameters
    ----------
    clean_accuracy : float
        Share of examples classified as labelled.
    robust_accuracy : float
        Share that is still so under attack: an upper bound on the accuracy that the
        worst perturbations leave, for a stronger attack may find more.
    ball : Ball
        The threat model.
    attack : str
        The attack and its settings.
    n : int
        Number of examples, those misclassified without attack included.
    """

    clean_accuracy: float
    robust_accuracy: float
    ball: Ball
    attack: str
    n: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the Wilson interval of the robust accuracy, lower and upper end.

        It says what the choice of these n examples leaves open, not what a stronger
        attack would change.
        """
        return wilson_interval(round(self.robust_accuracy * self.n), self.n, confidence)

    def __str__(self) -> str:
        """Say all of it in one line."""
        lower, upper = (percent(end) for end in self.interval())
        return (
            f"clean accuracy {percent(self.clean_accuracy)}, robust accuracy "
            f"{percent(self.robust_accuracy)} (95% interval {lower} to {upper}), "
            f"{self.ball}, {self.attack}, {self.n} examples"
        )


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bracket a probability, given how often its event happened.

    Parameters
    ----------
    successes, n : int
        Events among n independent trials.
    confidence : float
        Share of such intervals that hold the probability, in (0, 1), approximately.

    Returns
    -------
    lower, upper : float
        Within [0, 1], also for 0 or n successes.

    References
    ----------
    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    Journal of the American Statistical Association 1927.
    """
    if not (0 <= successes <= n and n > 0 and 0 < confidence < 1):
        raise ValueError(
            f"expected 0 <= successes <= n, n > 0 and 0 < confidence < 1, received "
            f"successes={successes}, n={n}, confidence={confidence}"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n successes rounding alone could leave [0, 1].
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
