"""How far a share of a sample may be from the probability behind it."""

from math import sqrt
from statistics import NormalDist


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
