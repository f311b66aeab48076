"""The broadcast explorer: which entry of a smaller tensor meets which entry of a table."""

from __future__ import annotations

import html

import traitlets

from within_epsilon.widgets.base import Explorer, state

SHAPES = ("(N,)", "(N, 1)", "(k,)")
LEAST, MOST = 2, 5


class BroadcastExplorer(Explorer):
    """Subtract a smaller tensor from a table (N, k) and see which entry goes where.

    The smaller tensor holds one number for each image, as (N,) or as (N, 1), or one for each
    class, as (k,).

    Parameters
    ----------
    images : int
        N, the table's rows, 2 to 5.
    classes : int
        k, its columns, 2 to 5.
    other : {"(N,)", "(N, 1)", "(k,)"}
        Shape of what is subtracted.

    Raises
    ------
    traitlets.TraitError
        If one of them is anything else.

    Notes
    -----
    With a kernel, `images`, `classes` and `other` can be read, set and observed.
    """

    kind = "broadcast"

    images = state(traitlets.Int(4, min=LEAST, max=MOST))
    classes = state(traitlets.Int(3, min=LEAST, max=MOST))
    other = state(traitlets.Enum(SHAPES, default_value="(N,)"))

    def __init__(self, images: int = 4, classes: int = 3, other: str = "(N,)") -> None:
        super().__init__(images=images, classes=classes, other=other)

    def summary(self) -> str:
        """Return the table's shape and what is subtracted."""
        return f"{self.images} images, {self.classes} classes, other={self.other!r}"

    def still(self) -> str:
        """Return the table of entries that meet."""
        entries = subtracted(self.images, self.classes, self.other)
        if entries is None:
            said = f"{self.images} numbers do not fit {self.classes} columns: an error"
            return f"<table><caption>{said}</caption><tr><td>({self.images},)</td></tr></table>"
        rows = "".join(
            f"<tr><th>image {i}</th>" + "".join(f"<td>{entry}</td>" for entry in row) + "</tr>"
            for i, row in enumerate(entries)
        )
        caption = html.escape(f"Which entry of the tensor {self.other} each place loses")
        return f"<table><caption>{caption}</caption>{rows}</table>"


def subtracted(images: int, classes: int, other: str) -> list[list[int]] | None:
    """Return for each place of the table the index of the entry that is subtracted there.

    Parameters
    ----------
    images, classes : N and k
    other : shape of the smaller tensor, one of `SHAPES`

    Returns
    -------
    N rows of k indices, or None where the shapes do not fit
    """
    if other == "(N, 1)":
        return [[row] * classes for row in range(images)]
    if other == "(N,)" and images != classes:
        return None
    return [list(range(classes)) for _ in range(images)]
