"""`within-epsilon verify` and `supports`, as the VNN-LIB standard's chapter 5 has them."""

import struct
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from within_epsilon.commands import main
from within_epsilon.commands.supports import ANSWERS
from within_epsilon.verification.formats.onnx_graph import OPSETS
from within_epsilon.verification.formats.onnx_layers import OPERATORS
from within_epsilon.verification.formats.onnx_writer import write_onnx

QUERY = """(vnnlib-version <2.0>)
(declare-network f (declare-input A {kind} [1,2]) (declare-output B {kind} [1,2]))
(assert (and (>= A[0,0] 0.0) (<= A[0,0] 1.0) (>= A[0,1] 0.0) (<= A[0,1] 1.0)))
"""


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a network that computes (relu(a + b), a - b)."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]]))
        model[0].bias.zero_(), model[2].bias.zero_()
    write_onnx(tmp_path / "f.onnx", model, (2,))
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def verify(folder, conditions, *words, kind="float32", network="f"):
    (folder / "q.vnnlib").write_text(QUERY.format(kind=kind) + conditions)
    given = ("--network", f"{network}={folder / 'f.onnx'}")
    return run("verify", folder / "q.vnnlib", *given, *words)


@pytest.mark.parametrize(
    ("conditions", "truth"),
    [
        ("(assert (>= B[0,0] 2.0))", "sat"),
        ("(assert (>= B[0,0] 2.001))", "unsat"),
        # Both at once, where each alone can be had; and the same in one sum, with an input.
        ("(assert (and (>= B[0,0] 1.5) (>= B[0,1] 0.75)))", "unsat"),
        ("(assert (>= (+ B[0,0] (* 2.0 B[0,1])) 3.1))", "unsat"),
        ("(assert (>= (- B[0,1] A[0,0]) 0.1))", "unsat"),
        ("(assert (== A[0,0] A[0,1])) (assert (or (>= B[0,1] 0.5) (>= B[0,0] 1.9)))", "sat"),
        ("(assert (>= A[0,0] 1.5))", "unsat"),
    ],
)
def test_the_answer_comes_first(folder, conditions, truth):
    result = verify(folder, conditions, "--timeout", 20)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, truth), result.output


def test_an_assignment_follows_in_the_order_of_declarations(folder):
    lines = verify(folder, "(assert (>= B[0,1] 0.5))").stdout.splitlines()
    assert [lines[0], lines[1], lines[4]] == ["sat", "A float32 [1,2]", "B float32 [1,2]"]
    a, b = map(float, lines[2:4])
    assert float(lines[5]) == pytest.approx(a + b, abs=1e-6)
    assert float(lines[6]) == pytest.approx(a - b, abs=1e-6)
    assert a - b >= 0.499
    assert len(lines) == 7


def test_an_assignment_can_be_serialised(folder):
    given = ("--serialise-assignments", folder / "found" / "here")
    result = verify(folder, "(assert (>= B[0,0] 2.0))", *given)
    assert result.stdout == "sat\n"
    files = {path.name: path.read_bytes() for path in (folder / "found" / "here").iterdir()}
    assert set(files) == {"A.pb", "B.pb"}
    # TensorProto: dims 1 and 2, float32, the name, eight raw bytes.
    assert files["A.pb"] == b"\x08\x01\x08\x02\x10\x01\x42\x01A\x4a\x08" + struct.pack("<2f", 1, 1)


def test_the_first_version_of_the_format_is_answered_too(folder):
    text = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
    text += "".join(f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))" for i in range(2))
    (folder / "q.vnnlib").write_text(text + "(assert (>= Y_0 2.0))")
    result = run("verify", folder / "q.vnnlib", "--network", f"N={folder / 'f.onnx'}")
    assert result.stdout == "sat\n(X_0 1.0)\n(X_1 1.0)\n(Y_0 2.0)\n(Y_1 0.0)\n"


@pytest.mark.parametrize("timeout", ["1", "1.0"])  # the standard's way, and its test suite's
def test_time_that_is_over_is_said(folder, timeout):
    # No float is above, but only by rounding: no bound is as fine.
    assert verify(folder, "(assert (> B[0,0] 2.0))", "--timeout", timeout).stdout == "timed-out\n"


@pytest.mark.parametrize(
    ("conditions", "settings", "message"),
    [
        ("(assert (>= B[0,0] 2.0)", {}, "balanced brackets"),
        ("(assert (>= B[0,2] 2.0))", {}, "indices of B of shape [1, 2]"),
        ("(assert (>= (* A[0,0] A[0,1]) 0.5))", {}, "product of variables"),
        ("(assert (>= B[0,0] 2.0))", {"kind": "float64"}, "expected one in float64"),
        ("(assert (>= B[0,0] 2.0))", {"kind": "int8"}, "float32 or float64, received int8"),
        ("(assert (>= B[0,0] 2.0))", {"network": "g"}, "expected one file, f=FILE"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(folder, conditions, settings, message):
    result = verify(folder, conditions, **settings)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_real_numbers_may_be_asked_of_any_network(folder):
    assert verify(folder, "(assert (>= B[0,0] 2.001))", kind="real").stdout == "unsat\n"
    lines = verify(folder, "(assert (>= B[0,0] 2.0))", kind="real").stdout.splitlines()
    assert lines[:2] == ["sat", "A real [1,2]"]


def test_capabilities_are_those_of_the_readers():
    # Products and quotients of two values are refused, so the operators are not claimed.
    claimed = set(ANSWERS["onnx-operators"])
    assert set(OPERATORS) - claimed == {"Div", "Mul"}
    assert claimed < set(OPERATORS)
    assert ANSWERS["onnx-opset-versions"] == tuple(map(str, OPSETS))
    for name, lines in ANSWERS.items():
        assert run("supports", f"--{name}").stdout == "".join(f"{line}\n" for line in lines)
    assert run("supports").exit_code == 2
    assert run("--name").stdout == "Within Epsilon\n"
    assert run("--version").stdout.count(".") == 2


def test_help_and_capabilities_load_no_torch():
    code = (
        "import sys; from click.testing import CliRunner; from within_epsilon.commands import main;"
        "[CliRunner().invoke(main, words.split()) for words in ('--help', 'verify --help', "
        "'supports --onnx-operators')]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
