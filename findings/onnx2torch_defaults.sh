#!/bin/sh
# onnx2torch reads the number that Pad pads with under a name that no operator has, so that a file of
# opset 2 to 10, where it is an attribute, is padded with 0; and it takes a CumSum that does not say
# which way for one from the end. Both are silent, and the network that is attacked is another one.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx2torch import convert


def answers(node, opset, shape, **stored):
    """What onnxruntime and the converted module say of 1, 2, 3."""
    ends = [make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 3]), ("y", shape))]
    graph = make_graph([node], "one", ends[:1], ends[1:], [from_array(v, n) for n, v in stored.items()])
    model = make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    numbers = np.array([[1, 2, 3]], np.float32)
    first = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": numbers})[0]
    return first[0].tolist(), convert(model)(torch.from_numpy(numbers))[0].tolist()


seen = {}
for value in (0.0, 7.0):
    pad = make_node("Pad", ["x"], ["y"], mode="constant", pads=[0, 1, 0, 0], value=value)
    seen[f"Pad with {value:g}"] = answers(pad, 9, [1, 4])
for name, options in (("CumSum", {}), ("CumSum, reverse=0", {"reverse": 0})):
    seen[name] = answers(make_node("CumSum", ["x", "axis"], ["y"], **options), 13, [1, 3], axis=np.array(1))
print(f"onnx2torch {version('onnx2torch')}, of [1, 2, 3], onnxruntime and the converted module: {seen}")
assert {name for name, (first, second) in seen.items() if first != second} == {"Pad with 7", "CumSum"}
assert seen["Pad with 7"][1] == [0, 1, 2, 3] and seen["CumSum"][1] == [6, 5, 3]
PY
python_with onnx2torch==1.5.15 onnx==1.23.2 onnxruntime==1.32.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 < "$program"
