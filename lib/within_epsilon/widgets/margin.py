"""The margin explorer: cross-entropy against the margin, and where float32 loses it."""

from __future__ import annotations

import html

import numpy as np
import torch
import traitlets

from within_epsilon import plots
from within_epsilon.losses import cross_entropy
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart
from within_epsilon.wording import percent, softmaxed

CLASSES = (2, 10, 1000)


class MarginExplorer(Explorer):
    """Move the margin z_y - max_j z_j and see loss, probability and gradient.

    All other logits are equal. Loss and gradient stand in float32 by three formulas: minus the
    logarithm of the softmax, PyTorch's `cross_entropy`, and the library's.

    Parameters
    ----------
    margin : float
        Where to start, -120 to 120.
    classes : {2, 10, 1000}
        Number of classes k.
    view : {"near", "far"}
        Margins near 0, or as far as float32 goes.
    detail : bool
        Show the gradient's weights and float32 as well, or the loss alone.

    Raises
    ------
    traitlets.TraitError
        If one of them is anything else.

    Notes
    -----
    With a kernel, `margin`, `classes`, `view` and `detail` can be read, set and observed.
    """

    kind = "margin"

    margin = state(traitlets.Float(2.0, min=-120.0, max=120.0))
    classes = state(traitlets.Enum(CLASSES, default_value=10))
    view = state(traitlets.Enum(("near", "far"), default_value="near"))
    detail = state(traitlets.Bool(True))

    def __init__(
        self, margin: float = 2.0, classes: int = 10, view: str = "near", *, detail: bool = True
    ) -> None:
        super().__init__(margin=margin, classes=classes, view=view, detail=detail)

    def summary(self) -> str:
        """Return margin and number of classes."""
        return f"margin={self.margin:g}, classes={self.classes}"

    def still(self) -> str:
        """Return the loss against the margin, with the verdict below."""
        margins = np.linspace(-10, 20, 121)
        losses = losses_at(margins, self.classes)
        loss = float(losses_at(np.array([self.margin]), self.classes)[0])
        figure = plots.lines(
            margins,
            {"loss": losses, "gradient, 1 − p": 1 - np.exp(-losses)},
            xlabel="margin: true logit minus largest other",
            ylabel="",
            colours={"loss": "#222222", "gradient, 1 − p": plots.DIRECTION},
        )
        said = (
            f"Margin {self.margin:g}, {self.classes} classes: loss {loss:.4g}, "
            f"p_y {percent(softmaxed(float(np.exp(-loss))))}."
        )
        alt = (
            "The loss falls with slope 1 while the margin is negative, bends at 0 and fades "
            "exponentially; the gradient falls from 1 to 0."
        )
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"


def losses_at(margins: np.ndarray, classes: int) -> np.ndarray:
    """Return the cross-entropy at each margin, all rivals' logits being 0.

    Parameters
    ----------
    margins : array of shape (N,)
    classes : k >= 2

    Returns
    -------
    array of shape (N,), float64
    """
    logits = torch.zeros(len(margins), classes, dtype=torch.float64)
    logits[:, 0] = torch.from_numpy(margins)
    return cross_entropy(logits, torch.zeros(len(margins), dtype=torch.int64)).numpy()
