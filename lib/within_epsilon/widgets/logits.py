"""The logits explorer: drag logits, see probabilities."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
import traitlets
from torch import Tensor

from within_epsilon import plots
from within_epsilon.losses import softmax
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.pictures import chart
from within_epsilon.wording import percent, softmaxed, with_share


class LogitsExplorer(Explorer):
    """Drag logits, a temperature and a constant; see what softmax makes of them.

    Beside the stable softmax, its formula is evaluated as it is written, in float32: add a
    constant and it breaks where the stable one does not move.

    Parameters
    ----------
    logits : Tensor of shape (k,) or (1, k), or sequence of k numbers
        Real numbers; 2 to 8 of them fit the screen.
    categories : sequence of str, optional
        The classes' names; "0", "1", ... by default.
    temperature : float
        Divides the logits, 0.1 to 10.
    shift : float
        Added to every logit, -120 to 120.

    Raises
    ------
    ValueError
        If there are fewer than 2 or more than 8 logits, another number of names, or a logit is
        not finite.

    Notes
    -----
    With a kernel, `logits`, `temperature` and `shift` can be read, set and observed.
    """

    kind = "logits"

    categories = state(traitlets.List(traitlets.Unicode()))
    logits = state(traitlets.List(traitlets.Float()))
    temperature = state(traitlets.Float(1.0, min=0.1, max=10.0))
    shift = state(traitlets.Float(0.0, min=-120.0, max=120.0))
    limit = state(traitlets.Int())

    def __init__(
        self,
        logits: Tensor | Sequence[float],
        categories: Sequence[str] = (),
        temperature: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        values = torch.as_tensor(logits).detach().cpu().double().flatten().tolist()
        names = [str(name) for name in categories] or [str(i) for i in range(len(values))]
        if not all(map(math.isfinite, values)):
            raise ValueError(f"logits: expected finite numbers, received {values}")
        if not 2 <= len(values) <= 8 or len(names) != len(values):
            raise ValueError(
                "logits: expected 2 to 8 of them and a category each, received "
                f"{len(values)} and {len(names)} categories; choose some with logits[0].topk(5)"
            )
        values = [round(value, 1) for value in values]
        super().__init__(
            categories=names,
            logits=values,
            temperature=temperature,
            shift=shift,
            limit=5 * math.ceil(max(10.0, *map(abs, values)) / 5),
        )

    def probabilities(self) -> Tensor:
        """Return softmax((logits + shift) / temperature), shape (k,), float64."""
        logits = torch.tensor(self.logits, dtype=torch.float64)
        return softmax((logits + self.shift) / self.temperature)

    def summary(self) -> str:
        """Return the logits and the temperature."""
        return f"{self.logits}, temperature={self.temperature:g}"

    def still(self) -> str:
        """Return a chart of the probabilities."""
        shares = [softmaxed(share) for share in self.probabilities().tolist()]
        with plt.style.context(plots.STYLE):
            figure, axes = plt.subplots(figsize=(7, 0.6 + 0.36 * len(shares)))
        plt.close(figure)
        drawn = axes.barh(self.categories, shares, color=plots.NEUTRAL)
        axes.bar_label(drawn, [percent(share) for share in shares], padding=4)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.1), xticks=[0, 0.5, 1], xlabel="probability, softmax(z / T)")
        pairs = zip(self.categories, shares, strict=True)
        said = ", ".join(with_share(name, share) for name, share in pairs)
        sentence = html.escape(f"{said}, T = {self.temperature:g}")
        return still_picture(chart(figure), f"Bars of probabilities: {said}") + f"<p>{sentence}</p>"
