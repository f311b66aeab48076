"""Programs against enumeration, and against what solvers get wrong."""

import os

import numpy as np
import pytest
import torch
from enumeration import least_value
from random_networks import KINDS, random_network

from within_epsilon.models import digits_classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.verification import Box, crown, exact, ibp, lp
from within_epsilon.verification.program import Program, rigorous
from within_epsilon.verification.solver import LARGEST_M, silence, solve_milp


def tiny(seed):
    """Return a network whose ReLUs are in doubt on the whole box, and its label in the middle."""
    torch.manual_seed(seed)
    model = mlp(2, 4, 4, 2).double()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter)
    box = Box(torch.full((1, 2), -1.0).double(), torch.full((1, 2), 1.0).double())
    return model, box, model(torch.zeros(1, 2).double()).argmax(dim=1)


@pytest.mark.parametrize("seed", range(4))
def test_programs_agree_with_enumeration(seed):
    model, box, label = tiny(seed)
    row = np.array([1.0, -1.0]) * (1 - 2 * label.item())
    truth = least_value(model, box.lower, box.upper, row)
    (whole,) = exact(model, box, label, arithmetic="real")
    assert whole.lower == pytest.approx(truth, abs=1e-6)
    assert whole.upper == pytest.approx(truth, abs=1e-6)
    assert whole.status == ("proved" if truth > 0 else "refuted")
    (triangles,) = lp(model, box, label, arithmetic="real")
    slopes = crown(model, box, label, arithmetic="real").lower.item()
    assert slopes <= triangles.lower + 1e-9
    assert triangles.lower <= truth + 1e-9
    # For the float network a little less is certain.
    (single,) = exact(model.float(), box, label)
    assert truth - 1e-3 < single.lower <= truth + 1e-6


def test_the_linear_program_is_better_than_crown_and_less_than_exact_somewhere():
    gains, gaps = [], []
    for seed in range(6):
        model, box, label = tiny(seed)
        low, mid, high = (
            crown(model, box, label).lower.item(),
            lp(model, box, label)[0].lower,
            exact(model, box, label)[0].lower,
        )
        gains.append(mid - low)
        gaps.append(high - mid)
    assert max(gains) > 0.1
    assert max(gaps) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_has_its_constraints(kind):
    model, shape = random_network(kind, 5)
    images, ball = torch.rand(2, *shape), Ball("linf", 0.05)
    labels = model(images).argmax(dim=1)
    low = ibp(model, images, labels, ball).lower.amin(dim=1)
    for i, (triangles, whole) in enumerate(
        zip(lp(model, images, labels, ball), exact(model, images, labels, ball), strict=True)
    ):
        assert low[i] <= triangles.lower + 1e-9
        assert triangles.lower <= whole.lower + 1e-5
        assert whole.lower <= whole.upper
        # An exact method finds its own worst input.
        assert whole.upper - whole.lower < 2e-3


def test_any_prices_give_a_bound_that_holds():
    generator = np.random.default_rng(0)
    for _ in range(200):
        matrix = generator.normal(size=(4, 3))
        inside = generator.uniform(-1, 1, size=3)
        program = Program(
            -np.ones(3), np.ones(3), matrix, matrix @ inside + generator.uniform(0, 1, 4), 0
        )
        costs, prices = generator.normal(size=3), generator.normal(size=4)
        assert rigorous(program, costs, 0.5, prices) <= costs @ inside + 0.5


def test_a_big_m_is_refused():
    loose = np.array([[1.0, -2 * LARGEST_M]])
    program = Program(np.zeros(1), np.ones(1), loose, np.zeros(1), 1)
    with pytest.raises(ValueError, match="branch_and_bound, which has no big-M"):
        solve_milp(program, np.ones(1), 0.0, 1.0)


def test_infeasible_is_an_error_and_no_proof():
    program = Program(np.zeros(1), np.ones(1), np.array([[1.0, 0.0]]), np.array([-1.0]), 1)
    with pytest.raises(RuntimeError, match="tolerances"):
        solve_milp(program, np.ones(1), 0.0, 1.0)


def test_a_time_limit_leaves_a_bracket_that_holds():
    model = digits_classifier()
    torch.manual_seed(0)
    images = torch.rand(1, 1, 8, 8)
    labels = model(images).argmax(dim=1)
    ball = Ball("linf", 0.1)
    (found,) = exact(model, images, labels, ball, time_limit=0.5)
    assert found.lower >= ibp(model, images, labels, ball).lower.min().item()
    assert found.lower < found.upper
    assert found.status in ("refuted", "unknown")


def test_what_a_solver_prints_is_kept_out(capfd):
    with silence():
        os.write(1, b"a line of HiGHS")
    print("ours")
    assert capfd.readouterr().out == "ours\n"


def test_balls_without_corners_are_refused():
    with pytest.raises(ValueError, match="for l2 and l1 use crown"):
        lp(mlp(2, 2), torch.rand(1, 1, 1, 2), torch.tensor([0]), Ball("l2", 0.1))
