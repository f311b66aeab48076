r"""How far arithmetic in floating point is from arithmetic, at worst.

The argument under every bound of this package. A network that torch runs in float32 does not
compute :math:`z = Wx + b` but :math:`z = Wx + b + \eta`, and for a sum of n products, in any
order, with or without fused steps,

.. math:: |\eta| \le \gamma_{n+1} (|W| |x| + |b|) + \text{(n + 1) tiny},
          \qquad \gamma_k = \frac{k u}{1 - k u}, \quad u = 2^{-24}

(Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, section 3.1; "tiny" pays for
numbers flushed to zero). The bounds know :math:`|x| \le M` over the whole region, so they know
a vector :math:`\tau \ge |\eta|` in advance, and treat the float network as what it is: a real
network whose layers are off by anything up to τ. An interval is widened by τ; a linear bound
with coefficients A at that layer loses :math:`|A| \tau`. ReLU, maxima, slices and comparisons
are exact in floats. What depends on batch size or number of threads, the order of summation,
is covered, since every order is.

The bounds are computed in float64, whose own rounding is paid in the same coin: a coefficient
that should be A W and comes out as A W + E, :math:`|E| \le \gamma'_n |A| |W|`, is wrong by at
most :math:`\gamma'_n |A| (|W| M)`, which is one more term of τ, half a billion times smaller.

What this does not cover: TF32, bfloat16 and Winograd's convolutions (a GPU's defaults, and
``torch.set_float32_matmul_precision("medium")``). On a CPU torch uses none of them by itself.
"""

import torch
from torch import Tensor

from within_epsilon.checks import check_model
from within_epsilon.runtime import device_of

DOUBLE = 2.0**-53

# Half the distance from 1 to the next float, and a number below which results may become 0.
_UNITS = {torch.float32: 2.0**-24, torch.float64: DOUBLE}
_TINY = {torch.float32: 2.0**-125, torch.float64: 2.0**-1021}
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


def gamma(terms: int, unit: float) -> float:
    """Return the relative error of a sum of so many products, in units of their sizes' sum."""
    if terms * unit >= 0.01:
        raise ValueError(
            f"model: expected sums of fewer than {0.01 / unit:.0f} products, received {terms}, "
            "whose rounding cannot be bounded usefully; use arithmetic='real'"
        )
    return terms * unit / (1 - terms * unit)


class Arithmetic:
    """What the network is run in, for which bounds shall hold.

    Parameters
    ----------
    dtype : torch.dtype or None
        float32 or float64: as torch runs it; None: in real arithmetic, without rounding.

    Raises
    ------
    TypeError
        If the dtype is another one.
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        if dtype is not None and dtype not in _UNITS:
            raise TypeError(
                f"model: expected one in float32 or float64, received {dtype}; convert it with "
                "model.float(), or ask for arithmetic='real'"
            )
        self.unit = 0.0 if dtype is None else _UNITS[dtype]
        self.tiny = 0.0 if dtype is None else _TINY[dtype]
        # No sum of products, finished or not, reaches half of what overflows.
        self.largest = 0.5 * torch.finfo(dtype or torch.float64).max
        self.name = "real" if dtype is None else _NAMES[dtype]

    def noise(self, sizes: Tensor, terms: int, own_terms: int) -> Tensor:
        """Bound the error of a layer's outputs, for the network's rounding and for ours.

        Parameters
        ----------
        sizes : Tensor
            |W| M + |b| for each output, float64.
        terms : int
            Roundings behind one output in the network's own arithmetic; 0 if it is exact.
        own_terms : int
            Terms of the longest sum that the bounds form in float64 around this layer.

        Returns
        -------
        Tensor
            Error bounds, of the shape of `sizes`.

        Raises
        ------
        ValueError
            If a sum could overflow.
        """
        share = 2 * gamma(own_terms + 16, DOUBLE)
        # (NaN is below nothing.)
        if self.unit and not (most := sizes.max().item()) < self.largest:
            raise ValueError(
                f"model: expected sums that stay within {self.name}, received up to "
                f"{most:.3g}; scale the weights, or ask for arithmetic='real'"
            )
        if terms and self.unit:
            # 2^-20: sizes and noise are themselves computed in float64.
            share += gamma(terms + 1, self.unit) * (1 + 2.0**-20)
            return sizes * share + (terms + 2) * self.tiny
        return sizes * share


def arithmetic_of(model: torch.nn.Module, arithmetic: str | None) -> Arithmetic:
    """Return the arithmetic that a caller names, by default the one that the model runs in.

    Parameters
    ----------
    model : nn.Module
        With all parameters of one dtype.
    arithmetic : {None, "real"}
        None for the network as torch runs it.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, or the model is not on the CPU, or has parameters of several
        dtypes or of another one than float32 and float64.
    """
    check_model(model)
    if arithmetic not in (None, "real"):
        raise ValueError(
            f"arithmetic: expected None, for the network as torch runs it, or 'real', received "
            f"{arithmetic!r}"
        )
    if arithmetic == "real":
        return Arithmetic(None)
    if device_of(model).type != "cpu":
        raise ValueError(
            f"model: expected one on the CPU, whose rounding is known, received one on "
            f"{device_of(model)}; move it there with model.cpu(), or ask for arithmetic='real'"
        )
    return Arithmetic(dtype_of(model))


def dtype_of(model: torch.nn.Module) -> torch.dtype:
    """Return the dtype of a model's parameters (torch's default if it has none)."""
    found = {parameter.dtype for parameter in model.parameters()}
    if len(found) > 1:
        raise TypeError(
            f"model: expected parameters of one dtype, received {sorted(map(str, found))}; "
            "convert them with model.float()"
        )
    return found.pop() if found else torch.get_default_dtype()
