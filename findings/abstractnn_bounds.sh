#!/bin/sh
# AbstractNN's "mathematically proven bounds" are those of one line where a ReLU, sigmoid or tanh should
# have two: what it takes for equal is only near, and cancels. Inputs of the very box beat the bounds of
# about half of all small networks, by up to nine tenths of their width.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import contextlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from abstractnn import AffineExpressionEngine, BoundPropagator, ONNXParser
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

draws = np.random.default_rng(0)


def beaten(nodes, radius):
    """Whether one of 2,000 inputs of a box leaves the bounds, and by which share of their width."""
    shapes = {"w": (8, 4), "b": (8,), "v": (1, 8), "c": (1,)}
    stored = [from_array(draws.normal(size=shape).astype(np.float32), n) for n, shape in shapes.items()]
    ends = [make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, s]) for n, s in (("x", 4), ("y", 1))]
    graph = make_graph(nodes, "one", ends[:1], ends[1:], stored)
    model = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    centre = draws.normal(size=(1, 4)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        onnx.save(model, Path(folder, "one.onnx"))
        with contextlib.redirect_stdout(nothing):
            layers = ONNXParser(str(Path(folder, "one.onnx"))).parse()
            start = AffineExpressionEngine.create_input_expressions(centre, radius)
            (end,) = BoundPropagator(enable_reporting=False).propagate(start, layers, (1, 4))
    low, high = end.get_bounds()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    moves = radius * draws.uniform(-1, 1, size=(2000, 4)).astype(np.float32)
    answers = np.array([session.run(None, {"x": centre + move})[0].item() for move in moves])
    return max(low - answers.min(), answers.max() - high) / max(high - low, 1e-9)


counts, most = {}, 0.0
for kind in ("Relu", "Sigmoid", "Tanh"):
    options = {"transB": 1, "alpha": 1.0, "beta": 1.0}
    nodes = [
        make_node("Gemm", ["x", "w", "b"], ["h"], name="first", **options),
        make_node(kind, ["h"], ["r"], name="between"),
        make_node("Gemm", ["r", "v", "c"], ["y"], name="last", **options),
    ]
    by = [float(beaten(nodes, 0.5)) for _ in range(20)]
    counts[kind], most = sum(share > 0.01 for share in by), max(most, *by)
print(f"abstractnn {version('abstractnn')}: of 20 networks each, bounds beaten by one of 2,000 inputs: {counts}; ", end="")
print(f"by up to {most:.2f} of their width")
assert min(counts.values()) >= 5 and most > 0.5
PY
python_with abstractnn==0.1.5 onnx==1.23.2 onnxruntime==1.32.0 pillow==13.0.0 numpy==2.4.6 < "$program"
