#!/bin/sh
# A network in float64, exported with torch's present exporter, has its weights in float64 and every
# number that stands in its code, such as the mean and deviation of pixels, rounded to float32 first;
# the old exporter (dynamo=False) rounds nothing. Bounds that were exact are off by 1e-7, silently.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import os
import tempfile
from contextlib import redirect_stdout

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.numpy_helper import to_array


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, images):
        return self.linear((images - 0.1307) / 0.3081)


torch.manual_seed(0)
network = Network().double().eval()
images = torch.rand(1, 64, dtype=torch.float64)
off, numbers = {}, {}
for dynamo in (True, False):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.onnx")
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
            torch.onnx.export(network, (images,), path, dynamo=dynamo)
        graph = onnx.load(path).graph
        session = onnxruntime.InferenceSession(path)
        said = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    stored = [*graph.initializer, *(node.attribute[0].t for node in graph.node if node.op_type == "Constant")]
    arrays = [to_array(one) for one in stored]
    assert {array.dtype for array in arrays} == {np.dtype(np.float64)}
    numbers[dynamo] = sorted(float(array.reshape(-1)[0]) for array in arrays if array.size == 1)
    off[dynamo] = float(np.abs(said - network(images).detach().numpy()).max())
print(f"torch {torch.__version__.split('+')[0]}, a float64 network's 0.1307 and 0.3081 in the file: ", end="")
print(f"{numbers[True]}, logits off by {off[True]:.0e}; dynamo=False {numbers[False]}, {off[False]:.0e}")
assert numbers[True] == [float(np.float32(0.1307)), float(np.float32(0.3081))]
assert numbers[False] == [0.1307, 0.3081]
assert off[True] > 1e-9 > 1e-13 > off[False]
PY
python_with torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6 < "$program"
