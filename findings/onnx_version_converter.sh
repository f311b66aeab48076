#!/bin/sh
# onnx's version converter keeps the name of an operator whose meaning has changed: bilinear Upsample of
# opset 9 and Resize of opset 10, which begin at a pixel's corner, become the Resize of opset 13, which
# begins at its centre, and Hardmax of opset 12, which answers with one class of all, one of every column. The
# file is valid, says nothing, and answers otherwise; Softmax, whose meaning changed with Hardmax's, is kept.
set -eu
. "$(dirname "$0")/environment.sh"

python_with onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, version_converter


def answer(file, images):
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def answers(operator, opset, images, scales=None, **options):
    """What onnxruntime makes of these images by a file of one operator, before and after its conversion to 13."""
    numbers = [] if scales is None else [numpy_helper.from_array(np.array(scales, dtype=np.float32), "scales")]
    node = helper.make_node(operator, ["images", *(one.name for one in numbers)], ["out"], **options)
    entry = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, images.shape)
    end = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, images.ndim * [None])
    graph = helper.make_graph([node], operator, [entry], [end], numbers)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(file)
    converted = version_converter.convert_version(file, 13)
    onnx.checker.check_model(converted)
    return answer(file, images), answer(converted, images)


pixels = np.array([[[[0, 1], [0, 1]]]], dtype=np.float32)
logits = np.array([[[[1, 2], [0, 3]], [[4, 1], [5, 2]]]], dtype=np.float32)
seen = {
    "Upsample of opset 9": answers("Upsample", 9, pixels, [1, 1, 1, 2], mode="linear"),
    "Resize of opset 10": answers("Resize", 10, pixels, [1, 1, 1, 2], mode="linear"),
    "Hardmax of opset 12": answers("Hardmax", 12, logits, axis=1),
    "Softmax of opset 12": answers("Softmax", 12, logits, axis=1),
}
shown = {name: [one.ravel().astype(float).round(2).tolist() for one in pair] for name, pair in seen.items()}
print(f"onnx {version('onnx')}, before and after the conversion to opset 13: {shown}")
for name in ("Upsample of opset 9", "Resize of opset 10"):
    before, after = seen[name]
    assert np.allclose(before[0, 0, 0], [0, 0.5, 1, 1]) and np.allclose(after[0, 0, 0], [0, 0.25, 0.75, 1])
assert seen["Hardmax of opset 12"][0].sum() == 1 and seen["Hardmax of opset 12"][1].sum() == 4
assert np.allclose(*seen["Softmax of opset 12"])
PY
