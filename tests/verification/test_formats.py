"""Networks from ONNX files, questions from VNN-LIB files, and answers that are known."""

import csv

import pytest
import torch
from onnx_writing import node, tensor, write
from random_networks import KINDS, random_network
from torch import nn

from within_epsilon.data.files import cache_folder
from within_epsilon.threat import Ball
from within_epsilon.verification import branch_and_bound, write_onnx, write_vnnlib
from within_epsilon.verification.formats.onnx_file import read_onnx
from within_epsilon.verification.formats.vnnlib import read_vnnlib
from within_epsilon.verification.query import answer

INPUTS = "".join(
    f"(declare-const X_{i} Real)\n(assert (>= X_{i} -1.0))\n(assert (<= X_{i} 1))\n"
    for i in range(2)
)
OLD = INPUTS + "(declare-const Y_0 Real)\n(declare-const Y_1 Real) ; two outputs\n"
NEW = """(vnnlib-version <2.0>)
(declare-network f (declare-input X Real [1,2]) (declare-output Y Real [2]))
(assert (<= X[0,0] 1)) (assert (>= X[0, 0] -1.0)) (assert (and (<= X[0,1] 1) (>= X[0,1] -1e0)))
"""


@pytest.fixture
def network(tmp_path):
    """Return a file, and the network that it holds."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    weight, bias = model[0].weight.data, model[0].bias.data
    path = write(
        tmp_path / "net.onnx",
        node("Sub", ["x", "mean"], "a"),
        node("Flatten", ["a"], "b", axis=1),
        node("MatMul", ["b", "w"], "c"),
        node("Add", ["c", "bias"], "d"),
        node("Relu", ["d"], "e"),
        node("Gemm", ["e", "w2", "bias2"], "y", transB=1),
        tensor("mean", torch.zeros(1, 1, 1, 2)),
        tensor("w", weight.T.contiguous()),
        tensor("bias", bias),
        tensor("w2", model[2].weight.data),
        tensor("bias2", model[2].bias.data),
        takes=(1, 1, 1, 2),
    )
    return path, model


def test_a_file_is_read_as_the_network_that_it_holds(network):
    path, model = network
    inputs = torch.randn(7, 1, 1, 2)
    found = read_onnx(path)
    torch.testing.assert_close(found(inputs), model(inputs.flatten(1)), rtol=0, atol=1e-6)
    assert [type(layer).__name__ for layer in found] == ["Flatten", "Linear", "ReLU", "Linear"]


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    odd = write(tmp_path / "odd.onnx", node("Sigmoid", ["x"], "y"))
    with pytest.raises(ValueError, match="received Sigmoid"):
        read_onnx(odd)
    product = write(tmp_path / "product.onnx", node("Mul", ["x", "x"], "y"))
    with pytest.raises(ValueError, match="Mul of constants and one value"):
        read_onnx(product)
    old = write(tmp_path / "old.onnx", node("Relu", ["x"], "y"), opset=6)
    with pytest.raises(ValueError, match="opset from 7"):
        read_onnx(old)
    (tmp_path / "text.onnx").write_text("this is no network")
    with pytest.raises(ValueError, match="ONNX file"):
        read_onnx(tmp_path / "text.onnx")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_questions_are_boxes_with_conditions(tmp_path, version):
    path = tmp_path / "q.vnnlib"
    if version == "1.0":
        path.write_text(OLD + "(assert (or (and (>= Y_0 Y_1) (<= Y_0 2.5)) (and (<= Y_1 -1))))")
    else:
        path.write_text(NEW + "(assert (or (and (>= Y[0] Y[1]) (<= Y[0] 2.5)) (<= Y[1] -1)))")
    (query,) = read_vnnlib(path).parts
    assert query.lower.tolist() == [-1.0, -1.0]
    assert query.upper.tolist() == [1.0, 1.0]
    (first, second) = query.cases
    assert first[0].tolist() == [[-1.0, 1.0], [1.0, 0.0]]
    assert first[1].tolist() == [0.0, -2.5]
    assert second[0].tolist() == [[0.0, 1.0]]
    assert second[1].tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OLD + "(assert (<= (* Y_0 X_0) 1))", "product of variables"),
        (OLD + "(assert (=> Y_0 Y_1))", "one of <=, >="),
        (OLD + "(assert (<= 0 1))", "inputs or outputs"),
        (OLD + "(assert (<= Y_0 Y_1)", "brackets"),
        (OLD + OLD.replace("X_0", "X_3"), "X_0, X_1 and so on"),
        ("(declare-const X_0 Real)", "one output"),
    ],
)
def test_other_questions_are_refused(tmp_path, text, message):
    path = tmp_path / "q.vnnlib"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vnnlib(path)


def test_a_question_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "some.vnnlib").write_bytes(b"PK\x03\x04\xc4\xff")
    with pytest.raises(ValueError, match=r"some\.vnnlib: expected a VNN-LIB file, .* no text"):
        read_vnnlib(tmp_path / "some.vnnlib")


def test_answers_agree_with_a_grid(network, tmp_path):
    path, model = network
    steps = torch.linspace(-1, 1, 201)
    values = model(torch.cartesian_prod(steps, steps)).detach()
    found = read_onnx(path)
    file = tmp_path / "q.vnnlib"
    top, joint = values[:, 0].max().item(), torch.minimum(values[:, 0], values[:, 1]).max().item()
    for conditions, truth in (
        (f"(assert (>= Y_0 {top - 0.01}))", "sat"),
        (f"(assert (>= Y_0 {top + 0.05}))", "unsat"),
        # Both at once, where each alone can be had.
        (f"(assert (>= Y_0 {joint - 0.01})) (assert (>= Y_1 {joint - 0.01}))", "sat"),
        (f"(assert (>= Y_0 {joint + 0.05})) (assert (>= Y_1 {joint + 0.05}))", "unsat"),
    ):
        file.write_text(OLD + conditions)
        given = answer(found, read_vnnlib(file), timeout=20)
        assert given.status == truth
        assert (given.inputs is not None) == (truth == "sat")
        if given.inputs is not None:
            assert (given.inputs.abs() <= 1).all()
            outputs = found(given.inputs.unsqueeze(0))[0]
            assert outputs[0] >= (top if "Y_1" not in conditions else joint) - 0.01


def test_inputs_without_a_bound_are_tried_and_nothing_is_proved_of_them(network, tmp_path):
    path, model = network
    file, free = tmp_path / "q.vnnlib", OLD.replace("(assert (<= X_1 1))", "")
    far = model(torch.tensor([[0.0, 50.0]]))[0, 0].item()
    for bound, status in ((min(0.0, far) - 1, "sat"), (1e9, "unknown")):
        file.write_text(free + f"(assert (>= Y_0 {bound}))")
        assert answer(read_onnx(path), read_vnnlib(file), timeout=20).status == status


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again_and_answered_as_it_was(tmp_path, kind, version):
    model, shape = random_network(kind, 1)
    torch.manual_seed(0)
    images = torch.rand(1, *shape)
    labels, ball = model(images).argmax(dim=1), Ball("linf", 0.03)
    write_onnx(tmp_path / "f.onnx", model, shape)
    found = read_onnx(tmp_path / "f.onnx")
    some = torch.rand(5, *shape)
    torch.testing.assert_close(found(some.view(5, *found.input_shape)), model(some))
    write_vnnlib(tmp_path / "q.vnnlib", model, images, labels, ball, version=version)
    query = read_vnnlib(tmp_path / "q.vnnlib")
    (part,) = query.parts
    assert ball.admits(images, part.least.view_as(images).float()).all()
    assert ball.admits(images, part.most.view_as(images).float()).all()
    (certificate,) = branch_and_bound(model, images, labels, ball)
    truth = {"proved": "unsat", "refuted": "sat"}[certificate.status]
    assert answer(found, query, timeout=20).status == truth


def test_known_answers_are_given():
    folder = cache_folder() / "vnn" / "acasxu"
    if not folder.exists():
        pytest.skip("skipped, because the benchmarks' files are not at hand")
    rows = list(csv.DictReader((folder / "expected.csv").open(encoding="utf-8")))
    easy = [row for row in rows if row["network"] in ("ACASXU_1_5.onnx", "ACASXU_1_8.onnx")]
    right = 0
    for row in easy:
        if row["property"] not in ("prop_3", "prop_4"):
            continue
        model = read_onnx(folder / row["network"])
        for kind in ("", ".v2"):
            query = read_vnnlib(folder / f"{row['property']}{kind}.vnnlib")
            given = answer(model, query, timeout=10)
            assert given.status in (row["result"], "timed-out")
            right += given.status == row["result"]
    assert right >= 4
