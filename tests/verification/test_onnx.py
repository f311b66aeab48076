"""Graphs as exporters write them, read and run beside the same network in torch."""

import pytest
import torch
import torch.nn.functional as F
from onnx_writing import node, tensor, write
from torch import nn

from within_epsilon.models import Residual, read_layers
from within_epsilon.threat import Ball
from within_epsilon.verification import crown, read_onnx


def weights(*shapes):
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in shapes]


def check(path, truth, shape, *, kinds=None):
    """Compare a file with a function of its inputs, and bound what was read."""
    found = read_onnx(path)
    torch.manual_seed(1)
    inputs = torch.rand(6, *shape)
    with torch.no_grad():
        values = truth(inputs).flatten(1)
        torch.testing.assert_close(found(inputs.view(6, *found.input_shape)), values)
        clean = inputs[:1].view(1, *found.input_shape)
        lower = crown(found, clean, None, Ball("linf", 0.05)).lower
        near = (clean + 0.05 * (2 * torch.rand(50, *found.input_shape) - 1)).clamp(0, 1)
        assert (found(near).double() >= lower).all()
    if kinds is not None:
        assert [layer.kind for layer in read_layers(found)] == kinds


def test_a_convolutional_network(tmp_path):
    conv, norm, other = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, 2, 1)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    last = nn.Linear(2, 2)
    model = nn.Sequential(
        conv, norm, nn.ReLU(), nn.MaxPool2d(3, 2, 1), other, nn.LeakyReLU(0.1), nn.AvgPool2d(2),
        nn.Flatten(), last,
    ).eval()  # fmt: skip
    path = write(
        tmp_path / "net.onnx",
        node("Conv", ["x", "w", "b"], "a", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], "c", epsilon=1e-5),
        node("Relu", ["c"], "d"),
        node("MaxPool", ["d"], "e", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["e", "w2", "b2"], "f", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("LeakyRelu", ["f"], "g", alpha=0.1),
        node("AveragePool", ["g"], "h", kernel_shape=[2, 2], strides=[2, 2]),
        # As exporters that leave the batch open: the new shape is computed from the old one.
        node("Shape", ["h"], "s"), node("Gather", ["s", "zero"], "n", axis=0),
        node("Unsqueeze", ["n", "zeros"], "m"), node("Concat", ["m", "rest"], "t", axis=0),
        node("Reshape", ["h", "t"], "i"),
        node("Gemm", ["i", "w3", "b3"], "y", transB=1),
        *(tensor(name, values) for name, values in {
            "w": conv.weight.data, "b": conv.bias.data, "scale": norm.weight.data,
            "shift": norm.bias.data, "mean": norm.running_mean, "var": norm.running_var,
            "w2": other.weight.data, "b2": other.bias.data, "w3": last.weight.data,
            "b3": last.bias.data, "zero": torch.tensor(0), "zeros": torch.tensor([0]),
            "rest": torch.tensor([-1]),
        }.items()),
        takes=("batch", 1, 8, 8),
    )  # fmt: skip
    kinds = ["conv", "batch_norm", "relu", "max_pool", "conv", "leaky_relu", "avg_pool"]
    check(path, model, (1, 8, 8), kinds=[*kinds, "flatten", "linear"])


def test_shortcuts_within_shortcuts(tmp_path):
    first, second, third = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))
    inner = Residual(nn.Sequential(second, nn.ReLU()))
    model = nn.Sequential(Residual(nn.Sequential(first, nn.ReLU(), inner), third), nn.ReLU())
    names = {"first": first, "second": second, "third": third}
    path = write(
        tmp_path / "net.onnx",
        node("Conv", ["x", "first.w", "first.b"], "a", pads=[1, 1, 1, 1]),
        node("Conv", ["x", "third.w", "third.b"], "b", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "c"),
        node("Conv", ["c", "second.w", "second.b"], "d", pads=[1, 1, 1, 1]),
        node("Relu", ["d"], "e"), node("Add", ["e", "c"], "f"), node("Add", ["f", "b"], "g"),
        node("Relu", ["g"], "h"), node("GlobalAveragePool", ["h"], "i"),
        node("Flatten", ["i"], "y"),
        *(tensor(f"{name}.w", layer.weight.data) for name, layer in names.items()),
        *(tensor(f"{name}.b", layer.bias.data) for name, layer in names.items()),
        takes=(1, 2, 5, 5),
    )  # fmt: skip
    check(
        path, lambda x: model(x).mean((2, 3)), (2, 5, 5), kinds=["sum", "relu", "mean", "flatten"]
    )


def test_normalisation_stays_a_scale(tmp_path):
    mean, std, w = weights((1, 3, 1, 1), (1, 3, 1, 1), (2, 3, 3, 3))
    std = std.abs() + 0.5
    path = write(
        tmp_path / "net.onnx",
        node("Sub", ["x", "mean"], "a"), node("Div", ["a", "std"], "b"),
        node("Conv", ["b", "w"], "c"), node("Flatten", ["c"], "y"),
        tensor("mean", mean), tensor("std", std), tensor("w", w), takes=(1, 3, 4, 4),
    )  # fmt: skip
    kinds = ["batch_norm", "batch_norm", "conv", "flatten"]
    check(path, lambda x: F.conv2d((x - mean) / std, w), (3, 4, 4), kinds=kinds)


AFFINE = {
    "transpose": ([node("Transpose", ["x"], "r", perm=[0, 2, 1])], {}, lambda x: x.transpose(1, 2)),
    "concat": (
        [node("Relu", ["x"], "q"), node("Concat", ["x", "q"], "r", axis=2)], {},
        lambda x: torch.cat([x, x.relu()], dim=2),
    ),
    "slice": (
        [node("Slice", ["x", "from", "to", "axes", "by"], "r")],
        {"from": [-1], "to": [-9], "axes": [2], "by": [-2]}, lambda x: x[:, :, [2, 0]],
    ),
    "gather": ([node("Gather", ["x", "places"], "r", axis=1)], {"places": [1, 0, -1]},
               lambda x: x[:, [1, 0, 1]]),
    "split": ([node("Split", ["x", "sizes"], "p r", axis=2)], {"sizes": [1, 2]},
              lambda x: x[:, :, 1:]),
    "mean": ([node("ReduceMean", ["x"], "r", axes=[1], keepdims=0)], {}, lambda x: x.mean(1)),
    "sum": ([node("ReduceSum", ["x", "axes"], "r")], {"axes": [2]}, lambda x: x.sum(2)),
    "expand": ([node("Expand", ["x", "to"], "r")], {"to": [2, 2, 3]},
               lambda x: x.repeat(1, 2, 1)),
    "pad": ([node("Pad", ["x", "pads"], "r")], {"pads": [0, 1, 0, 0, 0, 2]},
            lambda x: F.pad(x, (0, 2, 1, 0))),
    "neg": ([node("Neg", ["x"], "q"), node("Sub", ["q", "x"], "r")], {}, lambda x: -2 * x),
}  # fmt: skip


@pytest.mark.parametrize("kind", AFFINE)
def test_affine_operators_become_their_matrices(tmp_path, kind):
    steps, numbers, truth = AFFINE[kind]
    constants = [tensor(name, torch.tensor(values)) for name, values in numbers.items()]
    path = write(tmp_path / "net.onnx", *steps, node("Relu", ["r"], "y"), *constants,
                 takes=(1, 2, 3))  # fmt: skip
    check(path, lambda x: truth(x).relu(), (2, 3))


def test_products_with_constants(tmp_path):
    w, b, left, scale = weights((6, 4), (1, 4), (3, 4), (4,))
    path = write(
        tmp_path / "net.onnx",
        node("Gemm", ["x", "w", "b"], "a", alpha=2.0, beta=0.5), node("Mul", ["scale", "a"], "c"),
        node("Sub", ["one", "c"], "d"), node("Relu", ["d"], "e"),
        node("Transpose", ["e"], "f"), node("MatMul", ["left", "f"], "g"),
        node("Transpose", ["g"], "y"),
        tensor("w", w), tensor("b", b), tensor("left", left), tensor("scale", scale),
        tensor("one", torch.ones(1)), takes=(1, 6),
    )  # fmt: skip
    check(path, lambda x: (1 - scale * (2 * x @ w + 0.5 * b)).relu() @ left.T, (6,))


def test_a_sum_is_not_seen_by_another_name_of_what_it_is_added_to(tmp_path):
    w, b = weights((3, 2), (2,))
    path = write(
        tmp_path / "net.onnx",
        node("MatMul", ["x", "w"], "a"), node("Add", ["a", "b"], "c"),
        node("Relu", ["c"], "d"), node("Add", ["d", "a"], "y"),
        tensor("w", w), tensor("b", b), takes=(1, 3),
    )  # fmt: skip
    check(path, lambda x: (x @ w + b).relu() + x @ w, (3,))


def test_dropout_is_read_unless_it_drops(tmp_path):
    """With `training_mode` an operator is random, and no verdict about the identity is its own."""
    share = tensor("share", torch.tensor(0.5))
    for training in (False, True):
        path = write(
            tmp_path / "net.onnx", node("Dropout", ["x", "share", "training"], "a"),
            node("Relu", ["a"], "y"), share, tensor("training", torch.tensor(training)),
        )  # fmt: skip
        if training:
            with pytest.raises(ValueError, match="Dropout that does nothing"):
                read_onnx(path)
        else:
            check(path, lambda x: x.relu(), (2,))
