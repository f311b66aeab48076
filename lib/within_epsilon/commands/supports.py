"""`within-epsilon supports`: say what `verify` can read, as the VNN-LIB standard has it."""

import click

# The theories of VNN-LIB 2.0, chapter 4, of which each list names all that are included; and
# what `verification.formats` reads, which would take torch to ask. Div and Mul are read with a
# constant on one side, and so not claimed.
ANSWERS: dict[str, tuple[str, ...]] = {
    "onnx-opset-versions": ("7", "25"),
    "onnx-element-types": ("float64", "float32", "real"),
    "onnx-operators": (
        "Add", "AveragePool", "BatchNormalization", "Concat", "Constant",
        "ConstantOfShape", "Conv", "Dropout", "Expand", "Flatten", "Gather", "Gemm",
        "GlobalAveragePool", "Identity", "LeakyRelu", "MatMul", "MaxPool", "Neg", "Pad",
        "ReduceMean", "ReduceSum", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Sub",
        "Transpose", "Unsqueeze",
    ),
    "vnnlib-versions": ("1.0", "2.0"),
    "hidden-node-theories": ("NH",),
    "multiple-input-output-theories": ("SIO",),
    "multiple-network-theories": ("SNET",),
    "multiple-node-comparison-theories": ("SNC", "MNC"),
    "arithmetic-complexity-theories": ("BND", "OUTC", "LIN"),
    "optimised-disjunctive-reasoning": ("true",),
    "serialise-assignments": ("true",),
}  # fmt: skip

EXAMPLES = """\b
  within-epsilon supports --onnx-operators
  within-epsilon supports --vnnlib-versions
"""


def _said(name: str) -> str:
    words = name.replace("-", " ").replace("onnx", "ONNX").replace("vnnlib", "VNN-LIB")
    return f"Print the {words}."


def _flags(command: click.Command) -> click.Command:
    for name in ANSWERS:
        option = click.Option([f"--{name}"], is_flag=True, help=_said(name))
        command.params.append(option)
    return command


@_flags
@click.command(epilog=EXAMPLES)
def supports(**asked: bool) -> None:
    """Say which questions and networks `verify` can read: one capability at a time."""
    wanted = [name.replace("_", "-") for name, given in asked.items() if given]
    if len(wanted) != 1:
        raise click.UsageError(f"expected one capability, received {len(wanted)}; see --help")
    click.echo("\n".join(ANSWERS[wanted[0]]))
