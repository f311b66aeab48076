"""Answer questions in the VNN-LIB format about networks in the ONNX format."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from within_epsilon.verification.domain import Box, domain_of
from within_epsilon.verification.falsify import Reach, falsify, reach_of
from within_epsilon.verification.formats.vnnlib import Case, Part, Query
from within_epsilon.verification.input_splitting import ByInput
from within_epsilon.verification.network import read_network
from within_epsilon.verification.nodes import Network
from within_epsilon.verification.passes import Bounds
from within_epsilon.verification.places import SumRule
from within_epsilon.verification.relu_splitting import ByReLU
from within_epsilon.verification.rounding import arithmetic_of, dtype_of
from within_epsilon.verification.rules import LinearRule, Rule
from within_epsilon.verification.search import Search

FEW = 10  # inputs that are halved


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known of a question.

    Parameters
    ----------
    status : {"sat", "unsat", "unknown", "timed-out"}
        "sat": `inputs` and `outputs` satisfy it, tried on the network as torch runs it.
        "unsat": no input does.
    inputs : Tensor of shape (D,), optional
        An input in the network's own dtype.
    outputs : Tensor of shape (K,), optional
        What the network returns for it.
    seconds : float
        How long it took.
    """

    status: Literal["sat", "unsat", "unknown", "timed-out"]
    inputs: Tensor | None
    outputs: Tensor | None
    seconds: float


def answer(model: nn.Module, query: Query, timeout: float = 60.0) -> Answer:
    """Answer a question, for the network as torch runs it.

    Parameters
    ----------
    model : nn.Module
        Takes (N, D) or images, returns (N, K); `read_onnx` reads one from a file.
    query : Query
        As `read_vnnlib` returns it.
    timeout : float
        Seconds.

    Returns
    -------
    Answer
        Up to 10 inputs are halved until linear bounds suffice; beyond that ReLUs are split.

    Raises
    ------
    TypeError, ValueError
        If the model has a layer that bounds cannot pass, or takes or returns another number
        of numbers than the question says.
    """
    start = time.perf_counter()
    until, all_refuted = start + timeout, True
    shape = torch.Size(getattr(model, "input_shape", None) or (query.inputs.size,))
    _check(model, query, shape)
    network = read_network(model, shape)
    for part in query.parts:
        for case, joint in _groups(part):
            asked = _Asked(model, case, joint)
            whole = _with(network, case, floats=query.inputs.kind != "real")
            refuted = False
            for search in _searches(asked, whole, part, until):
                while not (found := _witness(search, model, query)) and not search.over():
                    search.advance()
                if found:
                    return Answer("sat", *found, time.perf_counter() - start)
                refuted = refuted or search.lower > 0
                if refuted:
                    break
            all_refuted &= refuted and part.whole
    seconds = time.perf_counter() - start
    if all_refuted:
        return Answer("unsat", None, None, seconds)
    late = time.perf_counter() > until
    return Answer("timed-out" if late else "unknown", None, None, seconds)


def _witness(search: Search, model: nn.Module, query: Query) -> tuple[Tensor, Tensor] | None:
    """Return the worst input that was tried, and its outputs, if they satisfy the question."""
    if search.worst is None or search.upper > 0:
        return None
    point = search.worst.points[:1]
    with torch.no_grad():
        outputs = model(point)[0].flatten()
    return (point.flatten(), outputs) if query.holds(point, outputs) else None


def _check(model: nn.Module, query: Query, shape: torch.Size) -> None:
    """Refuse a network that takes or returns other numbers than the question says."""
    if shape.numel() != query.inputs.size:
        raise ValueError(
            f"model: expected one that takes {query.inputs.size} numbers, {query.inputs.name}, "
            f"received one that takes {shape.numel()}"
        )
    with torch.no_grad():
        size = model(torch.zeros(1, *shape, dtype=dtype_of(model))).numel()
    if size != query.outputs.size:
        raise ValueError(
            f"model: expected one that returns {query.outputs.size} numbers, "
            f"{query.outputs.name}, received one that returns {size}"
        )


def _groups(part: Part) -> list[tuple[Case, bool]]:
    """Put all cases of one condition together; return them, and each case of several."""
    cases = [case if len(case.constants) else _always(case) for case in part.cases]
    single = [case for case in cases if len(case.constants) == 1]
    groups = [(case, True) for case in cases if len(case.constants) != 1]
    if single:
        groups.insert(0, (Case(*(torch.cat(parts) for parts in zip(*single, strict=True))), False))
    return groups


def _always(case: Case) -> Case:
    """Return a condition that every input satisfies: -1 <= 0."""
    outputs, inputs = case.rows.new_zeros(1, case.rows.shape[1]), case.inputs
    return Case(outputs, outputs.new_full((1,), -1.0), inputs.new_zeros(1, inputs.shape[1]))


class _Asked(nn.Module):
    """The network with what is asked of it, computed in float64; the largest if all must hold."""

    def __init__(self, model: nn.Module, case: Case, joint: bool) -> None:
        super().__init__()
        self.model, self.joint, self.case = model, joint, case

    def forward(self, inputs: Tensor) -> Tensor:
        rows, constants, own = self.case
        values = self.model(inputs).double() @ rows.T + constants
        values = values + inputs.flatten(1).double() @ own.T
        return cast(Tensor, values.amax(dim=1, keepdim=True) if self.joint else values)


def _with(network: Network, case: Case, *, floats: bool) -> Network:
    """Return the network and a last node that computes what is asked."""
    asked, size = Network(list(network.nodes), list(network.uses)), len(case.constants)
    used = [(part != 0).sum(dim=1) for part in (case.rows, case.inputs)]
    terms = int((used[0] + used[1] + (case.constants != 0)).max())

    def add(rule: Rule, *inputs: int) -> int:
        # Real numbers add up without rounding, and comparing two floats takes none.
        rule.terms = terms if floats and terms > 2 else 0
        return asked.add("question", rule, *inputs, shape=(size,))

    last = add(LinearRule(case.rows, case.constants), len(network.nodes) - 1)
    if case.inputs.any():
        flat = asked.add("input", network.nodes[0].rule, 0, shape=(case.inputs.shape[1],))
        add(SumRule(2), last, add(LinearRule(case.inputs, None), flat))
    return asked


def _searches(asked: _Asked, network: Network, part: Part, until: float) -> Iterator[Search]:
    """Yield searches, each of which can answer: "unsat" by one condition, or by all."""
    shape, number = network.nodes[0].shape, len(asked.case.constants)
    box, inner = (
        Box(low.view(1, *shape), high.view(1, *shape))
        for low, high in ((part.lower, part.upper), (part.least, part.most))
    )
    domain = domain_of(box, None, exactly=False)
    each = torch.eye(number, dtype=torch.float64).unsqueeze(0)
    tried = torch.ones(1, 1, 1, dtype=torch.float64) if asked.joint else each

    def reach(copies: int) -> Reach:
        return reach_of(inner, None, dtype_of(asked), torch.zeros(copies, dtype=torch.int64))

    few = shape.numel() <= FEW
    kind = ByInput if few else ByReLU
    # All must hold: one that cannot is enough, and each gets its share of the time.
    apart = [each[:, s : s + 1] for s in range(number)] if asked.joint and not few else [each]
    for i, rows in enumerate(apart):
        left = until - time.perf_counter()
        end = time.perf_counter() + left / (len(apart) - i)
        bounds = Bounds(network, domain, arithmetic_of(asked, None))
        search = kind(asked, bounds, reach, rows, end, None)
        search.tried, search.joint = tried, asked.joint
        search.batch = 256 if few else search.batch
        search.begin(partial(falsify, asked, inner, None, tried))
        yield search
