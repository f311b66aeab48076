"""How numbers are written in sentences, the same way in prose, figures and widgets."""

from decimal import ROUND_HALF_UP, Decimal


def percent(share: float) -> str:
    """Write a probability or an accuracy as a percentage.

    Whole percents, but tenths above 99% and below 1%, so that neither 0.994 reads as
    certainty nor 0.004 as impossibility; those two words are left to what still is 100%
    or 0% after rounding to tenths.

    Parameters
    ----------
    share : float
        Between 0 and 1.

    Returns
    -------
    str
        "86%" for 0.857, "99.4%" for 0.994, "100%" for 0.9996.
    """
    hundredths = 100 * share
    unit = Decimal("1") if 1 <= hundredths <= 99 else Decimal("0.1")
    # Halves go up, as they do in the pages' JavaScript; format() would send them to even.
    text = str(Decimal(hundredths).quantize(unit, ROUND_HALF_UP))
    return text.removesuffix(".0") + "%"


def with_share(name: str, share: float) -> str:
    """Write a class and its probability, brackets keeping a class that is a number apart.

    Parameters
    ----------
    name : str
        What the class is called.
    share : float
        Between 0 and 1.

    Returns
    -------
    str
        "Egyptian cat 86%", but "9 (99.9%)", since "9 99.9%" reads as one number.
    """
    said = percent(share)
    return f"{name} ({said})" if name.isascii() and name.isdigit() else f"{name} {said}"


def radius(epsilon: float) -> str:
    """Write a radius in units of pixels, in 255ths where a decimal would be longer.

    Parameters
    ----------
    epsilon : float
        The radius.

    Returns
    -------
    str
        "0.1" for 0.1, "2/255" for 2 / 255, "0.25/255" for a quarter of a level.
    """
    short = f"{epsilon:.3g}"
    sixteenths = epsilon * 255 * 16
    if float(short) == epsilon:
        return short
    if abs(sixteenths - round(sixteenths)) <= 1e-9 * sixteenths:
        return f"{round(sixteenths) / 16:g}/255"
    return f"{epsilon:.6g}"
