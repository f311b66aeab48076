#!/bin/sh
# maraboupy reads a MaxPool's kernel and stride and passes over its padding, dilation and ceil_mode
# without a word. Mostly the shape is then another, and a later layer refuses; MaxPool2d(3, padding=1)
# on 9 x 9 keeps its shape, looks at other windows, and Marabou proves what the network does not do.
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
import onnxruntime
from maraboupy import Marabou
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

# The greatest pixels of nine windows, summed. Three windows a side, from -1 on: none has the last pixel.
pool = make_node("MaxPool", ["x"], ["a"], kernel_shape=[3, 3], strides=[3, 3], pads=[1, 1, 1, 1])
nodes = [pool, make_node("Flatten", ["a"], ["b"]), make_node("Gemm", ["b", "ones"], ["y"])]
shapes = {"x": [1, 1, 9, 9], "y": [1, 1]}
ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
graph = make_graph(nodes, "one", ends[:1], ends[1:], [from_array(np.ones((9, 1), np.float32), "ones")])
model = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
image = np.zeros((1, 1, 9, 9), np.float32)
image[0, 0, 8, 8] = 1
answer = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": image})[0].item()
with tempfile.TemporaryDirectory() as folder:
    onnx.save(model, Path(folder, "one.onnx"))
    network = Marabou.read_onnx(Path(folder, "one.onnx"))
for pixel, value in zip(network.inputVars[0].flatten(), image.flatten().tolist()):
    network.setLowerBound(pixel, value)
    network.setUpperBound(pixel, value)
(output,) = network.outputVars[0].flatten()
network.setUpperBound(output, 0.5)
verdict = network.solve(verbose=False, options=Marabou.createOptions(verbosity=0))[0]
print(f"maraboupy {version('maraboupy')}: y <= 0.5 at an image where the network has y = {answer}: {verdict}")
assert answer == 0 and verdict == "unsat"
PY
python_with maraboupy==2.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
