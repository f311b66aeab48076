#!/bin/sh
# Where one variable stands twice in an inequality or equation, Marabou's answer can be "unsat" though
# there are solutions: x + x <= 1 for x from 0.4 on, which it settles when it is written 2 x <= 1. A
# network has such a sum where a layer is added to itself or concatenated with itself.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from maraboupy import Marabou
from maraboupy.MarabouNetwork import MarabouNetwork
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array


def ask(network):
    return network.solve(verbose=False, options=Marabou.createOptions(verbosity=0))[0]


def inequality(weights):
    """What is said of weights @ [x, ...] <= 1 with 0.4 <= x <= 10."""
    network = MarabouNetwork()
    x = network.getNewVariable()
    network.inputVars, network.outputVars = [np.array([x])], [np.array([x])]
    network.setLowerBound(x, 0.4)
    network.setUpperBound(x, 10)
    network.addInequality([x] * len(weights), weights, 1)
    return ask(network)


def small_box(weights, rest):
    """What is said of h = relu(x @ weights) and `rest`, with x in a small box and any output."""
    nodes = [make_node("Gemm", ["x", "weights"], ["a"]), make_node("Relu", ["a"], ["h"]), *rest]
    ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("x", 4), ("y", 2))]
    stored = [from_array(weights, "weights"), from_array(np.ones((4, 2), np.float32), "ones")]
    graph = make_graph(nodes, "one", ends[:1], ends[1:], stored)
    model = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder, "one.onnx"))
        network = Marabou.read_onnx(Path(folder, "one.onnx"))
    for x in network.inputVars[0].flatten():
        network.setLowerBound(x, 0.2)
        network.setUpperBound(x, 0.3)
    return ask(network)


said = {"2 x <= 1": inequality([2]), "x + x <= 1": inequality([1, 1])}
rests = {
    "h": [make_node("Identity", ["h"], ["y"])],
    "h + h": [make_node("Add", ["h", "h"], ["y"])],
    "dense([h, h])": [make_node("Concat", ["h", "h"], ["b"], axis=1), make_node("Gemm", ["b", "ones"], ["y"])],
}
draws = np.random.default_rng(0)
weights = [draws.normal(size=(4, 2)).astype(np.float32) for _ in range(20)]
unsat = {name: sum(small_box(one, rest) == "unsat" for one in weights) for name, rest in rests.items()}
print(f"maraboupy {version('maraboupy')}, x >= 0.4: {said}; of 20 networks of whose output ", end="")
print(f"nothing is asked, unsat by what follows h = relu(W x): {unsat}")
assert said == {"2 x <= 1": "sat", "x + x <= 1": "unsat"}
assert unsat["h"] == 0 and min(unsat["h + h"], unsat["dense([h, h])"]) > 5
PY
python_with maraboupy==2.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
