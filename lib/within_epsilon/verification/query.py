"""Answer questions in the VNN-LIB format about networks in the ONNX format."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.falsify import Reach, falsify, reach_of
from within_epsilon.verification.input_splitting import ByInput
from within_epsilon.verification.network import read_network
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.relu_splitting import ByReLU
from within_epsilon.verification.rounding import arithmetic_of, dtype_of
from within_epsilon.verification.rules import LinearRule
from within_epsilon.verification.search import Search
from within_epsilon.verification.vnnlib import Query

FEW = 10  # inputs that are halved


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known of a question.

    Parameters
    ----------
    status : {"sat", "unsat", "unknown", "timed-out"}
        "sat": `inputs` satisfy it, tried on the network as torch runs it. "unsat": none does.
    inputs : Tensor of shape (D,), optional
        An input in the network's own dtype.
    seconds : float
        How long it took.
    """

    status: Literal["sat", "unsat", "unknown", "timed-out"]
    inputs: Tensor | None
    seconds: float


def answer(model: nn.Module, queries: list[Query], timeout: float = 60.0) -> Answer:
    """Answer a question, for the network as torch runs it.

    Parameters
    ----------
    model : nn.Module
        Takes (N, D), returns (N, K); `read_onnx` reads one from a file.
    queries : list of Query
        As `read_vnnlib` returns them: the question is whether any has an answer.
    timeout : float
        Seconds.

    Returns
    -------
    Answer
        Up to 10 inputs are halved until linear bounds suffice; beyond that ReLUs are split, and
        where several conditions are to hold at once an attack alone is tried.
    """
    start = time.perf_counter()
    until, all_refuted = start + timeout, True
    for query in queries:
        for rows, constants, joint in _groups(query):
            search = _search(model, query, rows, constants, until, joint=joint)
            if search.upper <= 0 and search.worst is not None:
                return Answer("sat", search.worst.points[0], time.perf_counter() - start)
            all_refuted &= search.lower > 0
    seconds = time.perf_counter() - start
    if all_refuted:
        return Answer("unsat", None, seconds)
    return Answer("timed-out" if time.perf_counter() > until else "unknown", None, seconds)


def _groups(query: Query) -> list[tuple[Tensor, Tensor, bool]]:
    """Put all cases of one condition together; return them, and each case of several."""
    single = [case for case in query.cases if len(case[1]) == 1]
    groups = [(*case, True) for case in query.cases if len(case[1]) != 1]
    if single:
        rows, constants = (torch.cat(parts) for parts in zip(*single, strict=True))
        groups.insert(0, (rows, constants, False))
    return groups


class _Asked(nn.Module):
    """The network with what is asked of it, computed in float64; the largest if all must hold."""

    def __init__(self, model: nn.Module, rows: Tensor, constants: Tensor, joint: bool) -> None:
        super().__init__()
        self.model, self.joint, self.rows, self.constants = model, joint, rows, constants

    def forward(self, inputs: Tensor) -> Tensor:
        values = self.model(inputs).double() @ self.rows.T + self.constants
        return cast(Tensor, values.amax(dim=1, keepdim=True) if self.joint else values)


def _search(
    model: nn.Module, query: Query, rows: Tensor, constants: Tensor, until: float, *, joint: bool
) -> Search:
    box = Box(query.lower.unsqueeze(0), query.upper.unsqueeze(0))
    way, domain = arithmetic_of(model, None), domain_of(box, None, exactly=False)
    network = read_network(model, domain.lower.shape[1:])
    # Nobody computes these in float32: the comparison is one of real numbers.
    asked = LinearRule(rows, constants)
    asked.terms = 0
    last = len(network.nodes) - 1
    network.add("question", asked, last, shape=(len(rows),))
    functions = torch.eye(len(rows), dtype=torch.float64).unsqueeze(0)
    tried = torch.ones(1, 1, 1, dtype=torch.float64) if joint else functions
    wrapped = _Asked(model, rows, constants, joint)

    def reach(copies: int) -> Reach:
        return reach_of(box, None, dtype_of(model), torch.zeros(copies, dtype=torch.int64))

    few = len(query.lower) <= FEW
    kind = ByInput if few else ByReLU
    found = kind(wrapped, Bounds(network, domain, way), reach, functions, until, None)
    found.tried, found.joint = tried, joint
    if few:
        found.batch = 256
    attack = partial(falsify, wrapped, box, None, tried)
    if joint and not few:
        found.done = -float("inf")
        found.try_points(attack().points)
        return found
    found.begin(attack)
    while not found.over():
        found.advance()
    return found
