#!/bin/sh
# OpenVINO reads three operators of ONNX otherwise than they are written. The axes of ReduceLogSumExp (and
# ReduceL1, ReduceLogSum) are passed over in opset 13: log-probabilities depend on who else is in the batch.
# The bias of LRN is cut off to an integer, and Softmax of opset 11 and 12 is taken for that of 13.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import io

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info


def off(nodes, opset, x):
    """How far OpenVINO is from onnxruntime, and its answer for the first of a batch from that for it alone."""
    ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *x.shape[1:]]) for name in "xy"]
    model = make_model(make_graph(nodes, "one", ends[:1], ends[1:]), opset_imports=[make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    stored = model.SerializeToString()
    core = openvino.Core()
    network = core.compile_model(core.read_model(io.BytesIO(stored)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    first = onnxruntime.InferenceSession(stored).run(None, {"x": x})[0]
    together, alone = (next(iter(network(one).values())) for one in (x, x[:1]))
    return round(float(np.abs(first - together).max()), 3), round(float(np.abs(together[0] - alone[0]).max()), 3)


draws = np.random.default_rng(0)
logits = draws.normal(size=(8, 10)).astype(np.float32)
pictures = draws.normal(size=(8, 5, 4, 4)).astype(np.float32)
seen = {}
for opset in (11, 13):
    reduce = make_node("ReduceLogSumExp", ["x"], ["s"], axes=[1], keepdims=1)
    seen[f"x - ReduceLogSumExp, {opset}"] = off([reduce, make_node("Sub", ["x", "s"], ["y"])], opset, logits)
for bias in (1.0, 1.5):
    seen[f"LRN with bias {bias}"] = off([make_node("LRN", ["x"], ["y"], size=3, alpha=0.5, bias=bias)], 13, pictures)
for opset in (9, 11, 12):
    seen[f"Softmax, {opset}"] = off([make_node("Softmax", ["x"], ["y"], axis=1)], opset, pictures)
print(f"openvino {openvino.__version__.split('-')[0]} against onnxruntime {onnxruntime.__version__} ", end="")
print(f"(and in a batch of 8 against alone): {seen}")
wrong = {name for name, (one, _) in seen.items() if one > 1e-3}
assert wrong == {"x - ReduceLogSumExp, 13", "LRN with bias 1.5", "Softmax, 11", "Softmax, 12"}
assert seen["x - ReduceLogSumExp, 13"][1] > 1 and seen["x - ReduceLogSumExp, 11"][1] < 1e-3
PY
python_with openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
