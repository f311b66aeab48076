"""A network as a linear program, for one problem: the triangle at each ReLU, or its two sides."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.rounding import DOUBLE, gamma
from within_epsilon.verification.rules import ReLURule
from within_epsilon.verification.windows import add, dense, dot

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Expression(NamedTuple):
    """Numbers of a node as affine functions of a program's variables.

    Parameters
    ----------
    matrix : array of shape (S, V)
        Coefficients.
    constant : array of shape (S,)
        What is added.
    noise : array of shape (S,)
        How far the network's own numbers may be from that.
    """

    matrix: Array
    constant: Array
    noise: Array


@dataclass(frozen=True, eq=False)
class Program:
    """Minimise c v + c0 over lower <= v <= upper and G v <= h.

    Parameters
    ----------
    lower, upper : array of shape (V,)
        The variables' bounds: first the inputs, then the outputs of each ReLU node.
    matrix : array of shape (R, V + B)
        G; the last B columns belong to binary variables, one for each ReLU in doubt, which a
        program without them leaves out.
    limits : array of shape (R,)
        h, widened by what rounding in the network may do.
    binaries : int
        B.
    """

    lower: Array
    upper: Array
    matrix: Array
    limits: Array
    binaries: int


class Encoder:
    """Writes a network's ReLUs as constraints, given bounds of all nodes of one problem.

    Parameters
    ----------
    bounds : Bounds
        Of one problem, whose domain is a box.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        # Where each node's numbers begin among the variables.
        self.starts, size = {0: 0}, bounds.network.nodes[0].shape.numel()
        for i in bounds.network.activations:
            self.starts[i] = size
            size += bounds.network.nodes[i].shape.numel()
        self.size = size

    def express(self, node: int, rows: Tensor) -> Expression:
        """Return linear functions (1, S, ...) of a node in terms of the variables."""
        ends, constants, noise = self._to_activations(node, rows)
        matrix = np.zeros((rows.shape[1], self.size))
        for i, part in ends.items():
            wide = part[0].flatten(1).numpy()
            matrix[:, self.starts[i] : self.starts[i] + wide.shape[1]] = wide
        return Expression(matrix, constants[0].numpy(), noise[0].numpy())

    def _to_activations(self, start: int, rows: Tensor) -> tuple[dict[int, Tensor], Tensor, Tensor]:
        """Write linear functions of a node in terms of the ReLUs and inputs before it.

        Parameters
        ----------
        start : int
            The node's number.
        rows : Tensor of shape (1, S, ...), float64
            S functions' coefficients.

        Returns
        -------
        coefficients : dict from int to Tensor of shape (1, S, ...)
            Of each ReLU node, and of the input, 0, that the functions depend on.
        constants : Tensor of shape (1, S)
            What is added.
        noise : Tensor of shape (N, S)
            How far the network's own values may be from that.
        """
        pending: dict[int, Tensor] = {start: rows}
        ends: dict[int, Tensor] = {}
        constants = rows.new_zeros(rows.shape[:2])
        noise = rows.new_zeros(len(self.bounds.domain), rows.shape[1])
        for i in range(start, -1, -1):
            found = pending.pop(i, None)
            if found is None:
                continue
            node = self.bounds.network.nodes[i]
            if i == 0 or isinstance(node.rule, ReLURule):
                ends[i] = found
                continue
            own = self.bounds.noises[i]
            if own is not None:
                noise = noise + dot(found.abs(), own)
            if node.rule.shift is not None:
                constants = constants + dot(found, node.rule.shift.unsqueeze(0))
            for j, before in zip(node.inputs, node.rule.back(found), strict=True):
                if before is not None:
                    pending[j] = dense(add(pending.get(j), before))
        return ends, constants, noise * (1 + 2.0**-20)

    def program(self, *, binaries: bool) -> Program:
        """Return the program of all ReLUs."""
        network = self.bounds.network
        ends = [self.bounds.intervals[i] for i in self.starts]
        lower, upper = (
            np.concatenate([x[side][0].flatten().numpy() for x in ends]) for side in (0, 1)
        )
        doubts = {i: self._doubtful(i) for i in network.activations}
        number = sum(map(len, doubts.values())) if binaries else 0
        blocks: list[tuple[Array, Array]] = []
        first = self.size
        for i, places in doubts.items():
            choices = np.arange(first, first + len(places)) if binaries else None
            blocks += self._of_activation(i, places, choices, self.size + number)
            first += len(places)
        empty = np.zeros((0, self.size + number))
        return Program(
            lower,
            upper,
            np.concatenate([empty, *(matrix for matrix, _ in blocks)]),
            np.concatenate([np.zeros(0), *(limits for _, limits in blocks)]),
            number,
        )

    def _doubtful(self, activation: int) -> Places:
        x = self.bounds.intervals[self.bounds.network.nodes[activation].inputs[0]]
        places: Places = ((x.lower < 0) & (x.upper > 0))[0].flatten().nonzero()[:, 0].numpy()
        return places

    def _of_activation(
        self, activation: int, places: Places, choices: Places | None, columns: int
    ) -> list[tuple[Array, Array]]:
        """Return constraints (G, h) that tie a ReLU node's outputs y to its inputs z."""
        node = self.bounds.network.nodes[activation]
        rule, before = node.rule, node.inputs[0]
        assert isinstance(rule, ReLURule)
        size = node.shape.numel()
        eye = torch.eye(size, dtype=torch.float64).view(1, size, *node.shape)
        z = self.express(before, eye)
        lower, upper = (end[0].flatten().numpy() for end in self.bounds.intervals[before])
        extra = self.bounds.noises[activation]
        own = np.zeros(size) if extra is None else extra[0].flatten().numpy()
        zs, y = np.zeros((size, columns)), np.zeros((size, columns))
        zs[:, : self.size] = z.matrix
        y[np.arange(size), self.starts[activation] + np.arange(size)] = 1.0

        def above(some: Places, slope: Array, height: Array) -> tuple[Array, Array]:
            # y <= slope z + height
            limits = slope * (z.constant + z.noise)[some] + height + own[some]
            return y[some] - slope[:, None] * zs[some], limits

        def below(some: Places, slope: Array) -> tuple[Array, Array]:
            # y >= slope z
            limits = -slope * (z.constant - z.noise)[some] + own[some]
            return slope[:, None] * zs[some] - y[some], limits

        sure = np.setdiff1d(np.arange(size), places)
        slopes = np.where(lower >= 0, 1.0, rule.slope)[sure]
        flat, one = np.full(len(places), rule.slope), np.ones(len(places))
        # (Where z <= 0 is assumed and not known, y >= z says so.)
        blocks = [above(sure, slopes, 0 * slopes), below(sure, slopes), below(sure, 0 * slopes + 1)]
        blocks += [below(places, one), below(places, flat)]
        low, high = lower[places], upper[places]
        if choices is None:
            chord, height = (part[0].flatten().numpy()[places] for part in rule.chord(
                self.bounds.intervals[before]))  # fmt: skip
            return [*blocks, above(places, chord, height)]
        # On (1): y <= z; off (0): y <= slope z. The other side's line is lifted out of the way.
        rest, rows = 1 - rule.slope, np.arange(len(places))
        off, limits = above(places, flat, 0 * flat)
        off[rows, choices] -= rest * high
        on, free = above(places, one, -rest * low)
        on[rows, choices] -= rest * low
        return [*blocks, (off, limits), (on, free)]


def rigorous(program: Program, objective: Array, constant: float, prices: Array) -> float:
    """Bound a program's optimum from below, whatever a solver says, by any prices >= 0.

    Parameters
    ----------
    program : Program
        Without binaries.
    objective : array of shape (V,)
        c.
    constant : float
        c0.
    prices : array of shape (R,)
        Of the constraints; a solver's duals are the best, but any are sound.

    Returns
    -------
    float
        min over the box of (c + G^T p) v - p h + c0, rounding subtracted.

    References
    ----------
    Neumaier, Shcherbina, "Safe bounds in linear and mixed-integer linear programming",
    Mathematical Programming 2004.
    """
    prices = np.maximum(prices, 0)
    reduced = objective + prices @ program.matrix
    sizes = np.maximum(np.abs(program.lower), np.abs(program.upper))
    least = np.minimum(reduced * program.lower, reduced * program.upper).sum()
    share = 4 * gamma(len(prices) + len(sizes) + 16, DOUBLE)
    doubt = (np.abs(objective) + prices @ np.abs(program.matrix)) @ sizes
    doubt += prices @ np.abs(program.limits) + abs(constant)
    return float(least - prices @ program.limits + constant - share * doubt)
