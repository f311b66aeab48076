"""Read networks from ONNX files."""

from pathlib import Path

from torch import nn

from within_epsilon.verification.formats.onnx_graph import read_graph
from within_epsilon.verification.formats.onnx_layers import layers_of
from within_epsilon.verification.rounding import dtype_of


class Imported(nn.Sequential):
    """A network from a file.

    Parameters
    ----------
    layers : list of Module
        Its layers.
    input_shape : tuple of int
        Of one input.
    """

    def __init__(self, layers: list[nn.Module], input_shape: tuple[int, ...]) -> None:
        super().__init__(*layers)
        self.input_shape = input_shape

    @property
    def dtype(self) -> str:
        """The type of its weights, as ONNX calls it: "float32" or "float64"."""
        return str(dtype_of(self)).removeprefix("torch.")


def read_onnx(path: str | Path) -> Imported:
    """Read a network whose only kinks are ReLUs and maxima.

    Parameters
    ----------
    path : str or Path
        An ONNX file that holds its weights, float32 or float64, with one input and one output:
        Conv, Gemm, MatMul, Relu, LeakyRelu, MaxPool, sums of branches, and whatever is an
        affine function of one value, such as Add, Mul and Div with constants, Concat, Pad or
        Slice; `onnx_layers.OPERATORS` lists all. Operators of constants are computed.

    Returns
    -------
    Imported
        An nn.Sequential in eval mode. It takes batches of shape `(N, *input_shape)`, returns
        (N, k), and computes what the file says up to the order of summation.

    Raises
    ------
    ValueError
        If the file is none, or has another operator or another shape of graph.
    """
    try:
        return Imported(*layers_of(read_graph(Path(path).read_bytes()))).eval()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
