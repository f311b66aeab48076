#!/bin/sh
# OMLT's ONNX reader looks at a convolution's biases, refuses those of a wrong shape, and leaves out the
# others: the layer that it builds has no place for them. The program that Pyomo is given is of another
# network, and its optimum, called optimal, is no value of the network's. Biases of Gemm are kept.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import logging
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import pyomo.environ as pyo
from omlt import OmltBlock
from omlt.io.onnx_parser import NetworkParser
from omlt.neuralnet import FullSpaceNNFormulation
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

logging.disable(logging.WARNING)


def least_output(layer):
    """The least output on [0, 1] by OMLT with HiGHS, and that of the network at the input found."""
    draws = np.random.default_rng(0)
    shapes = {"Conv": ([1, 4, 4], (1, 1, 2, 2), [1, 3, 3]), "Gemm": ([16], (16, 1), [1])}
    inputs, kernel, outputs = shapes[layer]
    extra = {"Conv": {"kernel_shape": [2, 2], "strides": [1, 1], "group": 1, "dilations": [1, 1],
                      "pads": [0, 0, 0, 0]}, "Gemm": {"alpha": 1.0, "beta": 1.0, "transB": 0}}[layer]
    nodes = [make_node(layer, ["x", "w", "b"], ["a"], name="layer", **extra), make_node("Relu", ["a"], ["y"], name="relu")]
    ends = [make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", *s]) for n, s in (("x", inputs), ("y", outputs))]
    stored = [from_array(draws.random(kernel, np.float32), "w"), from_array(np.float32([0.5]), "b")]
    graph = make_graph(nodes, "one", ends[:1], ends[1:], stored)
    model = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    places = range(16) if layer == "Gemm" else np.ndindex(1, 4, 4)
    network = NetworkParser().parse_network(model.graph, None, {place: (0.0, 1.0) for place in places})
    program = pyo.ConcreteModel()
    program.block = OmltBlock()
    program.block.build_formulation(FullSpaceNNFormulation(network))
    output = next(iter(program.block.outputs.values()))
    program.least = pyo.Objective(expr=output)
    result = pyo.SolverFactory("appsi_highs").solve(program)
    assert result.solver.termination_condition == pyo.TerminationCondition.optimal
    found = np.array([pyo.value(one) for one in program.block.inputs.values()], np.float32).reshape(1, *inputs)
    answer = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": found})[0]
    return float(pyo.value(output)), float(answer.flat[0])


seen = {layer: least_output(layer) for layer in ("Gemm", "Conv")}
print(f"omlt {version('omlt')}, least output of a layer with bias 0.5, weights and inputs from 0 on, and the ", end="")
print(f"network's own at the input found: {seen}")
assert np.allclose(seen["Gemm"], 0.5) and np.allclose(seen["Conv"], (0, 0.5))
PY
python_with omlt==1.2.2 pyomo==6.10.0 highspy==1.15.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
