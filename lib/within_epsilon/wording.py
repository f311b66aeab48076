"""How numbers are written in sentences, the same way in prose, figures and widgets."""

from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal


def percent(share: float) -> str:
    """Write a probability or an accuracy as a percentage.

    Whole percents, but tenths above 99% and below 1%, and "<0.1%" or ">99.9%" where these
    would be 0 or 100: only what is certain reads as certain.

    Parameters
    ----------
    share : float
        Between 0 and 1.

    Returns
    -------
    str
        "86%" for 0.857, "99.4%" for 0.994, ">99.9%" for 0.9996, "100%" for 1.
    """
    hundredths = 100 * share
    unit = Decimal("1") if 1 <= hundredths <= 99 else Decimal("0.1")
    # Halves go up, as they do in the pages' JavaScript; format() would send them to even.
    text = str(Decimal(hundredths).quantize(unit, ROUND_HALF_UP))
    return _unless_certain(text.removesuffix(".0"), share)


def tenths(share: float) -> str:
    """Write a probability in tenths of a percent, as bars have it.

    Parameters
    ----------
    share : float
        Between 0 and 1.

    Returns
    -------
    str
        "85.7%" for 0.857, "<0.1%" for 0.0004, ">99.9%" for 0.9996, "100.0%" for 1.
    """
    return _unless_certain(f"{100 * share:.1f}", share)


def softmaxed(probability: float) -> float:
    """Return what a softmax can be: below 1, whatever rounding has made of it."""
    return min(probability, 1 - 2.0**-52)


def lower_bound(bound: float) -> str:
    """Write a lower bound with three digits that count, rounded down so that it stays one.

    Parameters
    ----------
    bound : float

    Returns
    -------
    str
        "0.123" for 0.1239, "-0.124" for -0.1231.
    """
    return f"{Context(prec=3, rounding=ROUND_FLOOR).create_decimal(Decimal(bound)):f}"


def _unless_certain(text: str, share: float) -> str:
    """Add the sign to a percentage, unless it reads as 0 or 100 and the share is neither."""
    if share > 0 and float(text) == 0:
        return "<0.1%"
    return ">99.9%" if share < 1 and float(text) == 100 else text + "%"


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
    said = percent(softmaxed(share))
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
