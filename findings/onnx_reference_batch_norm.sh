#!/bin/sh
# Files of opset 9 to 13 have a BatchNormalization with a `momentum`, 0.9 by default, that says how
# training moved the statistics; answering, the operator uses those that are stored. The evaluator
# that comes with onnx as the standard's reference mixes in a tenth of its batch's own, as soon as
# there is a momentum, and there always is: what it says of an image depends on its neighbours.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx.reference import ReferenceEvaluator

names = ["scale", "shift", "mean", "variance"]
values = [np.array(pair, np.float32) for pair in ((1, 2), (0, 1), (0, 1), (1, 4))]
images = np.random.default_rng(0).random((8, 2, 5, 5), np.float32)
off = {}
for opset in range(9, 16):
    ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 2, 5, 5]) for name in "xy"]
    node = make_node("BatchNormalization", ["x", *names], ["y"])
    stored = [from_array(value, name) for value, name in zip(values, names)]
    graph = make_graph([node], "one", ends[:1], ends[1:], stored)
    model = make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=4)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    reference = ReferenceEvaluator(model)
    answers = [
        session.run(None, {"x": images})[0][:1],
        reference.run(None, {"x": images})[0][:1],
        reference.run(None, {"x": images[:1]})[0],
    ]
    off[opset] = [float(np.abs(answers[a] - answers[b]).max()) for a, b in ((0, 1), (1, 2))]
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, one image: reference against ", end="")
print("onnxruntime (the reference alone against in a batch), by opset: ", end="")
print(", ".join(f"{opset}: {one:.0e} ({other:.0e})" for opset, (one, other) in off.items()))
assert all(one > 1e-2 and other > 1e-3 for opset, (one, other) in off.items() if opset < 14)
assert all(one < 1e-5 and other == 0 for opset, (one, other) in off.items() if opset >= 14)
PY
python_with onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
