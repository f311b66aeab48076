"""The SGD explorer: the path of stochastic gradient descent on the contours of a loss."""

from __future__ import annotations

import html
from collections.abc import Iterator

import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike, NDArray

from within_epsilon import plots
from within_epsilon.widgets.base import Explorer, state, still_picture
from within_epsilon.widgets.landscape import contour_figure, mulberry32
from within_epsilon.widgets.pictures import chart

Array = NDArray[np.float64]


class SGDExplorer(Explorer):
    """Turn step size and batch size, and watch SGD on logistic regression with two weights.

    The loss is the mean of log(1 + exp(-y θ·x)), plus half of weight_decay times the squared
    length of θ; a step is θ := θ - α times the gradient of a minibatch's loss, minibatches
    covering the shuffled data.

    Parameters
    ----------
    inputs : array or Tensor of shape (N, 2)
        Two features of each example, best of similar size; up to some hundred examples.
    labels : array or Tensor of shape (N,)
        -1 or +1.
    start : pair of float
        The weights to start from.
    step_size : float
        α, 0.01 to 100.
    batch_size : int
        Examples in a minibatch, 1 to N.
    steps : int
        Steps of a run, 20 or more.
    weight_decay : float
        Strength of the penalty on large weights.
    seed : int
        Seed of the shuffling (a small generator of its own, the same in every browser).

    Raises
    ------
    ValueError
        If shapes or labels are others, or the loss has no minimum: data that a line through 0
        separates want some weight_decay.

    Notes
    -----
    With a kernel, `step_size`, `batch_size` and `seed` can be read, set and observed.
    """

    kind = "sgd"

    inputs = state(traitlets.List())
    labels = state(traitlets.List(traitlets.Int()))
    start = state(traitlets.List(traitlets.Float()))
    steps = state(traitlets.Int(min=20))
    weight_decay = state(traitlets.Float(0.0, min=0.0))
    minimum = state(traitlets.List(traitlets.Float()))
    frame = state(traitlets.Dict())
    step_size = state(traitlets.Float(1.0, min=0.01, max=100.0))
    batch_size = state(traitlets.Int(8, min=1))
    seed = state(traitlets.Int(0, min=0))

    def __init__(
        self,
        inputs: ArrayLike | torch.Tensor,
        labels: ArrayLike | torch.Tensor,
        *,
        start: tuple[float, float] = (0.0, 0.0),
        step_size: float = 1.0,
        batch_size: int = 8,
        steps: int = 60,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        x, y = np.asarray(inputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != 2 or y.shape != x.shape[:1]:
            raise ValueError(
                f"inputs, labels: expected shapes (N, 2) and (N,), received {x.shape} and {y.shape}"
            )
        if not np.isin(y, (-1, 1)).all():
            raise ValueError(
                f"labels: expected -1 and +1, received {sorted(set(y.tolist()))[:5]}; from 0 "
                "and 1 make 2 * labels - 1"
            )
        # Four digits travel lighter, and the kernel computes with the same numbers.
        x = x.round(4)
        best = _minimum(x, y, weight_decay)
        super().__init__(
            inputs=x.tolist(),
            labels=y.astype(int).tolist(),
            start=list(map(float, start)),
            steps=steps,
            weight_decay=weight_decay,
            minimum=best.tolist(),
            frame=_frame(np.array(start, dtype=float), best),
            step_size=step_size,
            batch_size=min(batch_size, len(y)),
            seed=seed,
        )

    def path(self) -> Array:
        """Return the points that the run visits, (steps + 1, 2), the start included."""
        x, y = np.array(self.inputs), np.array(self.labels)
        points = [np.array(self.start)]
        batches = _minibatches(len(y), self.batch_size, self.seed)
        for _, batch in zip(range(self.steps), batches, strict=False):
            _, gradient, _ = _logistic(x[batch], y[batch], points[-1], self.weight_decay)
            points.append(points[-1] - self.step_size * gradient)
        return np.array(points)

    def loss(self, weights: ArrayLike) -> float:
        """Return the loss over all data at weights (2,)."""
        x, y = np.array(self.inputs), np.array(self.labels)
        return float(_logistic(x, y, np.asarray(weights, dtype=float), self.weight_decay)[0])

    def summary(self) -> str:
        """Return step size, batch size and number of steps."""
        return f"step_size={self.step_size:g}, batch_size={self.batch_size}, steps={self.steps}"

    def still(self) -> str:
        """Return contours and path, with the verdict below."""
        path = self.path()
        x, y = (np.linspace(low, high, 49) for low, high in map(self.frame.get, "xy"))
        losses = np.array([[self.loss((a, b)) for a in x] for b in y])
        figure, axes = contour_figure(x, y, losses)
        axes.plot(*path.T, color=plots.DIRECTION, marker=".", linewidth=1.5)
        axes.plot(*path[0], marker="s", color="white", markeredgecolor="black")
        axes.plot(*self.minimum, marker="x", color="black", markersize=9, markeredgewidth=2)
        axes.set(xlim=self.frame["x"], ylim=self.frame["y"])
        axes.set(xlabel=r"weight $\theta_1$", ylabel=r"weight $\theta_2$")
        said = (
            f"{self.steps} steps on {self.batch_size} examples each, α = {self.step_size:g}: "
            f"loss {self.loss(path[-1]):.3g}, the minimum is {self.loss(self.minimum):.3g}."
        )
        alt = "Contours of a loss over two weights; the path of SGD from a square to a cross"
        return still_picture(chart(figure), alt) + f"<p>{html.escape(said)}</p>"


def _logistic(x: Array, y: Array, weights: Array, decay: float) -> tuple[float, Array, Array]:
    """Return the loss, its gradient (2,) and its Hessian (2, 2)."""
    t = -y * (x @ weights)
    p = np.exp(-np.logaddexp(0, -t))
    loss = np.logaddexp(0, t).mean() + decay / 2 * weights @ weights
    gradient = -(p * y) @ x / len(y) + decay * weights
    hessian = (x * (p * (1 - p))[:, None]).T @ x / len(y) + decay * np.eye(2)
    return loss, gradient, hessian


def _minimum(x: Array, y: Array, decay: float) -> Array:
    """Return the weights of least loss, by Newton's method with halved steps."""
    weights = np.zeros(2)
    for _ in range(100):
        loss, gradient, hessian = _logistic(x, y, weights, decay)
        flat = np.linalg.eigvalsh(hessian)[0] < 1e-6  # nothing holds the weights back
        if flat or np.abs(gradient).max() < 1e-10:
            break
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and _logistic(x, y, weights - size * step, decay)[0] > loss:
            size /= 2
        weights = weights - size * step
    if not flat:
        return weights
    raise ValueError(
        "inputs, labels: expected data whose loss has a minimum; a line through 0 separates "
        "these, so give weight_decay=0.01, say"
    )


def _frame(start: Array, best: Array) -> dict[str, list[float]]:
    """Return the ranges of the two weights to draw: start and minimum with room around."""
    middle = (start + best) / 2
    reach = max(float(np.abs(start - best).max()), 1.0)
    return {
        "x": [round(float(middle[0] + side * 1.3 * reach), 1) for side in (-1, 1)],
        "y": [round(float(middle[1] + side * 0.9 * reach), 1) for side in (-1, 1)],
    }


def _minibatches(n: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield minibatches of the shuffled data, reshuffled when they are used up."""
    random = mulberry32(seed)
    order = list(range(n))
    while True:
        for i in range(n - 1, 0, -1):
            j = int(next(random) * (i + 1))
            order[i], order[j] = order[j], order[i]
        for at in range(0, n, size):
            yield order[at : at + size]
