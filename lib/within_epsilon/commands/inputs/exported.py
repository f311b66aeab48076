"""Networks in files of `torch.export`: read without running code, and called with any batch."""

import io
import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Parts that are more than tensors, by their names.
_OBJECTS = ("aotinductor", "custom_obj_", "opaque_obj_")
# What a program may call, and of what the sizes of its tensors may be made.
_OPERATORS = ("torch.ops.aten.", "torch.ops.higher_order.", "_operator.", "math.", "torch.sym_")
_SIZE = re.compile(
    r"(?:[A-Z]\w*|[suz]\d+|'[suz]\d+'|(?:positive|integer|nonnegative)=True|[\d\s+*/(),<>=-])*"
)


class Exported(nn.Module):
    """An exported program as a network in eval mode, whatever batch it was exported with.

    The module that torch makes of it says of all its parts that they train, also where the
    program is that of eval mode, and can be told neither; and a batch of a fixed size can be
    called with no other.

    Parameters
    ----------
    program : nn.Module
        What ``ExportedProgram.module()`` returns.
    batch : int, optional
        The batch that it is called with; any if None.
    """

    def __init__(self, program: nn.Module, batch: int | None) -> None:
        super().__init__()
        self.program, self.batch = program, batch
        for part in self.modules():
            part.training = False

    def train(self, mode: bool = True) -> "Exported":  # noqa: ARG002
        """Change nothing: the mode is part of the program."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Call the program, in batches of its own size; what fills up the last is dropped."""
        if self.batch is None:
            logits: Tensor = self.program(images)
            return logits
        n, size = len(images), self.batch
        parts = []
        for part in images.split(size):
            filled = torch.cat((part, part[-1:].expand(size - len(part), *part.shape[1:])))
            parts.append(self.program(filled))
        return torch.cat(parts)[:n]


def read_exported(path: Path) -> Exported:
    """Read a file of `torch.export.save`.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ValueError
        If it is damaged, holds more than one network, one that takes several inputs, or objects
        whose reading runs code.
    """
    _require_data_alone(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.load(path)
        except Exception as error:  # whatever torch finds wrong with it
            raise ValueError(
                f"--model: {path} cannot be read by torch {torch.__version__} "
                f"({type(error).__name__}); export it with the same version"
            ) from error
    names = program.graph_signature.user_inputs
    shapes = [
        node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
    if len(shapes) != 1 or not len(shapes[0]):
        raise ValueError(
            f"--model: expected a network of one input, images, received one of {len(shapes)} in "
            f"{path}; export one that takes images alone"
        )
    batch = shapes[0][0]
    return Exported(program.module(), batch if isinstance(batch, int) else None)


def _require_data_alone(path: Path) -> None:
    """Refuse what torch would read by running code that stands in the file.

    Parts that do not load as data are unpickled; sizes and guards are expressions in Python;
    compiled networks are libraries.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            content = archive.read(name)
            if name.endswith("_config.json"):
                entries = json.loads(content).get("config", {}).values()
                fine = not any(entry.get("use_pickle") for entry in entries)
            elif name.endswith(".json") and "/models/" in name:
                fine = _is_arithmetic(json.loads(content))
            elif name.endswith((".pt", ".pkl")):
                fine = _is_data(content)
            else:
                fine = not any(word in name for word in _OBJECTS)
            if not fine:
                raise ValueError(
                    f"--model: expected tensors and their arithmetic in {path}, {name} holds "
                    "more, whose reading may run code; export the network without objects and "
                    "operators of its own"
                )


def _is_data(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # whatever torch finds wrong with it
        return not content
    return True


def _is_arithmetic(part: Any) -> bool:
    """Tell whether a program names torch's operators alone, and its sizes are plain formulas."""
    if isinstance(part, list):
        return all(map(_is_arithmetic, part))
    if not isinstance(part, dict):
        return True
    fine = (
        not part.get("guards_code")
        and _SIZE.fullmatch(str(part.get("expr_str", ""))) is not None
        and ("target" not in part or str(part["target"]).startswith(_OPERATORS))
    )
    return fine and all(map(_is_arithmetic, part.values()))
