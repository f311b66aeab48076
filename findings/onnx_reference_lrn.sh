#!/bin/sh
# The reference evaluator of onnx normalises as many channels as there are images in the batch: LRN's
# other channels are divided by a power of the bias alone, so an image has other numbers alone than in a
# batch of eight. LpNormalization with p=1 adds up numbers with their signs, average pooling with ceil_mode
# pads where nothing is to be padded, max-pooling with SAME_LOWER does not pad before the pixels, and the
# softmax of opset 11 and 12, which is over all axes from its own on, is that of 13.
set -eu
. "$(dirname "$0")/environment.sh"

python_with onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator


def answers(operator, images, opset=13, **options):
    """What onnxruntime and the reference evaluator make of these images by a file of this one operator."""
    node = helper.make_node(operator, ["images"], ["out"], **options)
    entry = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [None, *images.shape[1:]])
    end = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, images.ndim * [None])
    graph = helper.make_graph([node], operator, [entry], [end])
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(file)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0], ReferenceEvaluator(file).run(None, {"images": images})[0]


eight = np.ones((8, 8, 1, 1), dtype=np.float32)
lrn = {"size": 5, "alpha": 1.0, "beta": 1.0, "bias": 1.0}
alone, together = answers("LRN", eight[:1], **lrn), answers("LRN", eight, **lrn)
signed = np.array([[1, -2, 3, -4]], dtype=np.float32)
square = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
pool = {"kernel_shape": [3, 3], "strides": [3, 3]}
logits = np.zeros((1, 2, 2, 2), dtype=np.float32)
seen = {
    "LRN of eight ones, alone": alone,
    "in a batch of eight": (together[0][:1], together[1][:1]),
    "LpNormalization": answers("LpNormalization", signed, axis=1, p=1),
    "AveragePool": answers("AveragePool", square, ceil_mode=1, **pool),
    "MaxPool": answers("MaxPool", square, auto_pad="SAME_LOWER", kernel_shape=[3, 3], strides=[2, 2]),
    "Softmax, opset 11": answers("Softmax", logits, opset=11, axis=1),
    "Softmax, opset 13": answers("Softmax", logits, opset=13, axis=1),
}
shown = {name: [one.ravel().astype(float).round(2).tolist() for one in pair] for name, pair in seen.items()}
print(f"onnxruntime {version('onnxruntime')} and onnx {version('onnx')}'s reference evaluator: {shown}")
by_hand = 1 / (1 + np.array([3, 4, 5, 5, 5, 5, 4, 3]) / 5)  # neighbours within two channels, of five
assert np.allclose(alone[0].ravel(), by_hand) and np.allclose(together[1][0].ravel(), by_hand)
assert np.allclose(alone[1].ravel()[1:], 1)
assert np.allclose(seen["LpNormalization"][0], signed / 10) and np.allclose(seen["LpNormalization"][1], signed / -2)
assert np.allclose(seen["AveragePool"][0].ravel(), [6, 8, 14, 16]) and seen["AveragePool"][1].max() < 12
assert np.allclose(seen["MaxPool"][0].ravel(), [6, 8, 14, 16]) and seen["MaxPool"][1].min() > 10
assert np.allclose(seen["Softmax, opset 11"][0], 1 / 8) and np.allclose(seen["Softmax, opset 11"][1], 1 / 2)
assert np.allclose(*seen["Softmax, opset 13"])
PY
