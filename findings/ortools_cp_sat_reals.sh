#!/bin/sh
# CP-SAT knows integers alone, and OR-Tools gives it mixed-integer programs all the same, by three
# interfaces and with variables that were declared real: those it takes for integers. The answer is
# called optimal, with a bound that meets it, and is not even the right sign.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import ortools
from ortools.linear_solver import pywraplp
from ortools.linear_solver.python import model_builder
from ortools.math_opt.python import mathopt


# A network with one unit: h = relu(2 x - 1) and a margin of 1 - 3 x + 4 h on [0, 1], which is least,
# -1/2, at x = 1/2. The binary variable says whether the unit is active.
def constraints(x, h, active):
    return [h >= 2 * x - 1, h <= 2 * x - active, h <= active]


def margin(x, h):
    return 1 - 3 * x + 4 * h


def by_pywraplp(name):
    solver = pywraplp.Solver.CreateSolver(name)
    x, h, active = solver.NumVar(0, 1, "x"), solver.NumVar(0, 1, "h"), solver.BoolVar("active")
    for constraint in constraints(x, h, active):
        solver.Add(constraint)
    solver.Minimize(margin(x, h))
    assert solver.Solve() == solver.OPTIMAL
    return solver.Objective().Value(), solver.Objective().BestBound()


def by_model_builder(name):
    model, solver = model_builder.Model(), model_builder.Solver(name.lower())
    x, h, active = model.new_num_var(0, 1, "x"), model.new_num_var(0, 1, "h"), model.new_bool_var("active")
    for constraint in constraints(x, h, active):
        model.add(constraint)
    model.minimize(margin(x, h))
    assert solver.solve(model) == model_builder.SolveStatus.OPTIMAL
    return solver.objective_value, solver.best_objective_bound


def by_mathopt(name):
    model = mathopt.Model()
    x, h = model.add_variable(lb=0, ub=1), model.add_variable(lb=0, ub=1)
    for constraint in constraints(x, h, model.add_binary_variable()):
        model.add_linear_constraint(constraint)
    model.minimize(margin(x, h))
    kind = {"SAT": mathopt.SolverType.CP_SAT, "SCIP": mathopt.SolverType.GSCIP}[name]
    result = mathopt.solve(model, kind)
    assert result.termination.reason == mathopt.TerminationReason.OPTIMAL
    return result.objective_value(), result.best_objective_bound()


print(f"ortools {ortools.__version__}, least margin -0.5, said to be optimal (and its bound): ", end="")
for way in (by_pywraplp, by_model_builder, by_mathopt):
    seen = {name: tuple(round(end, 9) for end in way(name)) for name in ("SAT", "SCIP")}
    print(f"{way.__name__} {seen}", end="; " if way is not by_mathopt else "\n")
    assert seen == {"SAT": (1, 1), "SCIP": (-0.5, -0.5)}
PY
python_with ortools==9.15.6755 numpy==2.4.6 < "$program"
