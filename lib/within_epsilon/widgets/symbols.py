"""The symbol explorer: symbol, name in code, shape, and the place between image and loss."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import traitlets

from within_epsilon.widgets.base import Explorer, state

# The stations from image to loss, as they stand in the drawing.
PARTS = {
    "image": ("x", "image"),
    "perturbation": ("x + δ", "perturbed image"),
    "network": ("h_θ", "network"),
    "logits": ("z", "logits"),
    "softmax": ("σ(z)", "probabilities"),
    "loss": ("ℓ", "loss"),
}

CODE = (
    'ball = Ball("linf", epsilon)',
    "images_adv = ball.perturb(images, delta)",
    "logits = model(images_adv)",
    "probabilities = softmax(logits)",
    "losses = cross_entropy(logits, labels)",
)


@dataclass(frozen=True)
class Symbol:
    """One row of the glossary.

    Parameters
    ----------
    symbol : as formulas write it; the letter after "_" becomes a subscript
    name : in words
    code : its name in code
    shape : of the tensor, or what else it is
    values : type, range, unit
    meaning : one sentence
    part : where it belongs: image, perturbation, network, logits, softmax or loss
    """

    symbol: str
    name: str
    code: str
    shape: str
    values: str
    meaning: str
    part: str

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"part: expected one of {', '.join(PARTS)}, received {self.part!r}")


SYMBOLS = (
    Symbol(
        "x", "image", "images[i]", "(C, H, W)", "float32 in [0, 1]",
        "The clean image, in pixels from 0 to 1, before any normalisation.", "image",
    ),
    Symbol(
        "X", "input space", "images[i]", "a set of (C, H, W)", "pixels in [0, 1]",
        "All images that could be shown to the network.", "image",
    ),
    Symbol(
        "δ", "perturbation", "delta[i]", "(C, H, W)", "at most ε a pixel, for ℓ∞",
        "What the adversary adds to the image.", "perturbation",
    ),
    Symbol(
        "Δ", "allowed perturbations", "ball", "a set of (C, H, W)", "norm at most ε",
        "All perturbations that the adversary may choose from: the heart of the threat model.",
        "perturbation",
    ),
    Symbol(
        "ε", "radius", "epsilon", "a number", "pixel units, say 2/255",
        "How large a perturbation may be, in the norm of the threat model.", "perturbation",
    ),
    Symbol(
        "h_θ", "hypothesis", "model", "(C, H, W) → (k,)", "a function",
        "The network with its parameters: it turns an image into logits; in code, N at a time.",
        "network",
    ),
    Symbol(
        "θ", "parameters", "model.parameters()", "a list of tensors", "float32, any sign",
        "Filters, weight matrices and biases: what training changes and an attack does not.",
        "network",
    ),
    Symbol(
        "z", "logits", "logits[i]", "(k,)", "float32",
        "One score per class, z = h(x). Chapter 3: only their differences count.", "logits",
    ),
    Symbol(
        "k", "number of classes", "logits.shape[1]", "a number", "integer, at least 2",
        "How many classes there are, and so how many logits an image gets.", "logits",
    ),
    Symbol(
        "σ", "softmax", "softmax", "(k,) → (k,)", "in [0, 1], sum 1",
        "The function that turns logits into probabilities.", "softmax",
    ),
    Symbol(
        "y", "label", "labels[i]", "a number", "int64, 0 … k − 1",
        "The true class; formulas count it from 1 to k, code from 0 to k − 1.", "loss",
    ),
    Symbol(
        "ℓ", "loss", "cross_entropy", "(k,), a class → a number", "from 0 to ∞",
        "How wrong the logits are about the label: training makes it small, an attack large.",
        "loss",
    ),
)  # fmt: skip


class SymbolExplorer(Explorer):
    """Choose a symbol; see its name, its code, its shape, and where it sits.

    Parameters
    ----------
    rows : sequence of Symbol, optional
        The symbols to choose from; those of the notes by default.
    symbol : str, optional
        Which one to start with; the first by default.
    code : sequence of str
        Lines of code in which the chosen name is marked.

    Raises
    ------
    ValueError
        If there is no row, a symbol stands in two rows, or the start is none of them.

    Notes
    -----
    With a kernel, `symbol` can be read, set and observed.
    """

    kind = "symbols"

    rows = state(traitlets.List(traitlets.Dict()))
    parts = state(traitlets.List(traitlets.Dict()))
    code = state(traitlets.List(traitlets.Unicode()))
    symbol = state(traitlets.Unicode())

    def __init__(
        self,
        rows: Sequence[Symbol] = SYMBOLS,
        symbol: str | None = None,
        *,
        code: Sequence[str] = CODE,
    ) -> None:
        names = [row.symbol for row in rows]
        start = symbol or ("h_θ" if "h_θ" in names else "".join(names[:1]))
        if start not in names or len(set(names)) < len(names):
            raise ValueError(
                f"rows, symbol: expected different symbols, among them the first to show, "
                f"received {names} and {start!r}"
            )
        super().__init__(
            rows=[asdict(row) for row in rows],
            parts=[
                {"key": key, "symbol": sign, "name": name} for key, (sign, name) in PARTS.items()
            ],
            code=list(code),
            symbol=start,
        )

    def summary(self) -> str:
        """Return the number of symbols and the chosen one."""
        return f"{len(self.rows)} symbols, {self.symbol!r}"

    def still(self) -> str:
        """Return a table of all symbols: text needs no picture."""
        heads = ("symbol", "name", "code", "shape", "values", "meaning")
        lines = "".join(
            "<tr>" + "".join(f"<td>{_subscripts(row[head])}</td>" for head in heads) + "</tr>"
            if row
            else ""
            for row in self.rows
        )
        titles = "".join(f'<th scope="col">{head}</th>' for head in heads)
        return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _subscripts(text: str) -> str:
    """Return text as HTML with a single letter after "_" at the end of a word lowered."""
    return re.sub(r"(?<=\w)_(\w)\b", r"<sub>\1</sub>", html.escape(text))
