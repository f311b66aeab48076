#!/bin/sh
# Read from ONNX as a classifier, a network that ends in a sigmoid is class 1 where the sigmoid is above
# 0, not above 1/2, so everywhere. Of a network that answers 0 to all inputs, PySCIPOpt-ML's program has
# class 1 as its least answer, called optimal: proved. get_error(), which checks the answer, says 0.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from pyscipopt import Model
from pyscipopt_ml.onnx import add_onnx_constr

# The sigmoid of x1 - x2 - 3, for which inputs in [0, 1] are at most 0.12.
nodes = [make_node("Gemm", ["x", "w", "b"], ["a"], name="gemm"), make_node("Sigmoid", ["a"], ["y"], name="sigmoid")]
ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("x", 2), ("y", 1))]
stored = [from_array(np.float32([[1], [-1]]), "w"), from_array(np.float32([-3]), "b")]
graph = make_graph(nodes, "one", ends[:1], ends[1:], stored)
network = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(network, full_check=True)

model = Model()
model.hideOutput()
pixels, answer = model.addMatrixVar((1, 2), lb=0, ub=1), model.addMatrixVar((1, 1), lb=0, ub=1)
constraints = add_onnx_constr(model, network, pixels, answer, output_type="classification")
model.setObjective(answer[0, 0])
model.optimize()
found = np.float32([[model.getVal(pixel) for pixel in pixels[0]]])
chance = onnxruntime.InferenceSession(network.SerializeToString()).run(None, {"x": found})[0].item()
error = float(np.max(constraints.get_error()))
print(f"pyscipopt-ml {version('pyscipopt-ml')}: the least answer is {model.getObjVal():g}, {model.getStatus()}, ", end="")
print(f"its error {error:g}; the network's probability of 1 there is {chance:.2f}, and at most {1 / (1 + np.exp(2)):.2f}")
assert model.getStatus() == "optimal" and model.getObjVal() == 1 and error == 0
assert chance < 0.12
PY
python_with pyscipopt-ml==1.4.1 pyscipopt==6.3.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
