"""Write a certificate's question as a VNN-LIB file, for other programs to answer."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from within_epsilon.checks import check_labels
from within_epsilon.geometry import round_towards
from within_epsilon.threat import Ball
from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.objective import rivals
from within_epsilon.verification.rounding import dtype_of


def write_vnnlib(
    path: str | Path,
    model: nn.Module,
    images: Tensor | Box,
    labels: Tensor,
    ball: Ball | None = None,
    *,
    version: str = "2.0",
) -> None:
    """Write the question that a certificate of one image answers.

    It asks for an allowed input of which the network scores another class as high as the label
    or higher: a certificate that is "proved" says "unsat". `write_onnx` writes the network.

    Parameters
    ----------
    path : str or Path
        The file, which is replaced if it exists.
    model : nn.Module
        The network: its dtype and its number of classes go into the file.
    images : Tensor of shape (1, ...), or Box of one
        The clean image, or the inputs themselves.
    labels : Tensor of shape (1,), int64
        Its true class.
    ball : Ball of norm linf, optional
        The threat model around it; None with a box.
    version : {"2.0", "1.0"}
        Of VNN-LIB. 2.0 declares inputs X and outputs Y of a network N in the network's own
        floats; 1.0 has real numbers only, X_0, X_1 and so on.

    Raises
    ------
    ValueError
        If there are several images, or the norm is another one: VNN-LIB has no roots.
    """
    domain = domain_of(images, ball, exactly=False)
    if len(domain) != 1 or domain.norm != "linf":
        raise ValueError(
            f"images: expected one image and a ball of norm linf, or a box, received "
            f"{len(domain)} and {ball}"
        )
    if version not in ("1.0", "2.0"):
        raise ValueError(f"version: expected '2.0' or '1.0', received {version!r}")
    dtype = dtype_of(model)
    # The network's floats that lie in the box: from the nearest of each end inwards.
    inner = domain.centre.to(dtype).double().clamp(domain.lower, domain.upper)
    lower, upper = (round_towards(end, inner, dtype) for end in (domain.lower, domain.upper))
    with torch.no_grad():
        classes = model(lower).shape[1]
    check_labels(labels, 1, classes)
    kind = str(dtype).removeprefix("torch.")
    old = version == "1.0"
    lines = _old_head(lower.numel(), classes) if old else _head(kind, tuple(lower.shape), classes)
    names = _names("X", tuple(lower.shape), old=old)
    for name, low, high in zip(names, lower.flatten(), upper.flatten(), strict=True):
        lines += [f"(assert (>= {name} {_text(low)}))", f"(assert (<= {name} {_text(high)}))"]
    scores = _names("Y", (1, classes), old=old)
    label = int(labels)
    others = [f"(>= {scores[j]} {scores[label]})" for j in rivals(labels, classes)[0].tolist()]
    others = [f"(and {one})" for one in others] if old else others
    lines.append(
        f"(assert (or {' '.join(others)}))" if len(others) > 1 else f"(assert {others[0]})"
    )
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(kind: str, shape: Sequence[int], classes: int) -> list[str]:
    sizes = ",".join(map(str, shape))
    return [
        "(vnnlib-version <2.0>)",
        "(declare-network N",
        f"    (declare-input X {kind} [{sizes}])",
        f"    (declare-output Y {kind} [1,{classes}])",
        ")",
    ]


def _old_head(inputs: int, classes: int) -> list[str]:
    sizes = (("X", inputs), ("Y", classes))
    return [f"(declare-const {name}_{i} Real)" for name, size in sizes for i in range(size)]


def _names(letter: str, shape: Sequence[int], *, old: bool) -> list[str]:
    if old:
        return [f"{letter}_{i}" for i in range(int(np.prod(shape)))]
    return [f"{letter}[{','.join(map(str, place))}]" for place in np.ndindex(*shape)]


def _text(value: Tensor) -> str:
    """Write a float as the decimal number that it is: all digits, and no exponent."""
    exact = format(Decimal(value.item()), "f")
    return exact if "." in exact else f"{exact}.0"
