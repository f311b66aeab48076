"""`within-epsilon verify`: answer a question about a network, as the VNN-LIB standard has it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import Tensor

    from within_epsilon.verification.formats.declared import Variable

EXAMPLES = """\b
A question of version 1.0, where the network has no name and is called N:
  within-epsilon verify prop_1.vnnlib --network N=net.onnx --timeout 60
\b
One of version 2.0 about a network that it calls f; what is found, as ONNX tensors:
  within-epsilon verify question.vnnlib --network f=net.onnx \\
      --serialise-assignments found
"""


@click.command(epilog=EXAMPLES)
@click.argument("query", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--network", "networks", multiple=True, metavar="NAME=FILE", required=True,
    help="The ONNX file of the network that the question calls NAME; files of version 1.0 have no "
    "name for it: there it is N.",
)  # fmt: skip
@click.option(
    # The standard has whole seconds here; its test suite sends "5.0".
    "--timeout", type=click.FloatRange(min=1), default=60, show_default=True, metavar="SECONDS",
    help="When to stop, counted from the start.",
)  # fmt: skip
@click.option(
    "--serialise-assignments", "folder", type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER", help="Write what satisfies the question into ONNX tensors there.",
)  # fmt: skip
def verify(query: Path, networks: tuple[str, ...], timeout: float, folder: Path | None) -> None:
    """Answer whether an input exists that satisfies the VNN-LIB file QUERY, 1.0 or 2.0.

    The first line is sat, unsat, unknown or timed-out. After sat, an input and its outputs
    follow, tried on the network as PyTorch runs it on a CPU; unsat is proved for it.
    """
    until = time.monotonic() + timeout
    from within_epsilon.verification import answer, read_onnx, read_vnnlib

    question = read_vnnlib(query)
    model = read_onnx(_file_of(question.network, networks))
    _check_type(question.inputs.kind, model.dtype)
    found = answer(model, question, max(0.0, until - time.monotonic()))
    click.echo(found.status)
    if found.inputs is None or found.outputs is None:
        return
    for variable, values in ((question.inputs, found.inputs), (question.outputs, found.outputs)):
        if folder is None:
            _write_lines(variable, values)
        else:
            _write_tensor(folder, variable, values)


def _file_of(name: str, networks: tuple[str, ...]) -> Path:
    """Return the file that is given for a network, and refuse others."""
    pairs = [text.partition("=") for text in networks]
    if len(pairs) != 1 or pairs[0][0] != name or not pairs[0][2]:
        raise ValueError(
            f"--network: expected one file, {name}=FILE, since the question is about {name}, "
            f"received {', '.join(networks)}"
        )
    return Path(pairs[0][2])


def _check_type(kind: str, dtype: str) -> None:
    """Refuse a network in other floats than the question's."""
    if kind not in ("real", dtype):
        raise ValueError(
            f"--network: expected one in {kind}, as the question declares, received one in "
            f"{dtype}; declare {dtype}, or real"
        )


def _write_lines(variable: "Variable", values: "Tensor") -> None:
    import numpy as np

    shape = ",".join(map(str, variable.shape))
    # The shortest text that is read back as the same float; of a real number, all of it.
    numbers = (values.double() if variable.kind == "real" else values).detach().numpy()
    lines = [np.format_float_positional(number, unique=True, trim="0") for number in numbers]
    if variable.old:
        # Version 1.0 has a name for each number; its competition prints these pairs.
        click.echo("\n".join(f"({variable.name}_{i} {line})" for i, line in enumerate(lines)))
    else:
        click.echo("\n".join([f"{variable.name} {variable.kind} [{shape}]", *lines]))


def _write_tensor(folder: Path, variable: "Variable", values: "Tensor") -> None:
    from within_epsilon.verification.formats.wire import write_tensor

    folder.mkdir(parents=True, exist_ok=True)
    content = write_tensor(variable.name, values.detach().view(variable.shape))
    (folder / f"{variable.name}.pb").write_bytes(content)
