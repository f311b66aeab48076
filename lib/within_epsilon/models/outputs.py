"""What a network returns: where the logits are in it, and whether they are logits."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def find_logits(result: Any, output: str | int | None) -> Tensor:
    """Find the logits in what a network returned.

    Parameters
    ----------
    result : Tensor, mapping, sequence or object
        A tensor is taken for the logits, whatever `output` says: some networks return
        more in train mode only.
    output : str, int or None
        The key, field or attribute of the logits, or their position, from the end if
        negative.

    Raises
    ------
    TypeError
        If there is no floating-point tensor.
    """
    found = result if isinstance(result, Tensor) or output is None else _part(result, output)
    if isinstance(found, Tensor) and found.is_quantized:
        found = found.dequantize()
    if isinstance(found, Tensor) and found.is_floating_point():
        return found
    if isinstance(found, Tensor):
        raise TypeError(
            f"body: expected logits, floating-point numbers, received {found.dtype}; return them "
            "before argmax turns them into classes"
        )
    raise TypeError(
        f"body: expected logits, received a {type(result).__name__}{_contents(result)}, and "
        f"output={output!r}; set output to the key or position of the logits"
    )


def check_one_row_each(logits: Tensor, n: int, categories: int) -> None:
    """Require logits (N, k), k >= 2, and as many as there are categories, if there are any.

    Raises
    ------
    ValueError
        If the shape is another.
    """
    rows, columns = (*logits.shape, 0, 0)[:2]
    if logits.ndim == 2 and rows == n and columns >= 2 and columns == (categories or columns):
        return
    remedy = "give the body's own categories, or none"
    if logits.ndim > 2 and logits[0, 0].numel() == 1:
        remedy = "end the body with nn.Flatten()"
    elif logits.ndim > 2:
        remedy = (
            "the body answers for every place in an image, as segmentation does: give one that "
            "answers for the whole, such as one place's logits or their mean over all places"
        )
    elif rows != n:
        remedy = f"give a body that returns one row for each of the {n} images"
    elif columns < 2:
        remedy = "give a two-class body two outputs: torch.cat([torch.zeros_like(z), z], dim=1)"
    raise ValueError(
        f"logits: expected shape (N, {categories or 'k'}), one per category, received "
        f"{tuple(logits.shape)}; {remedy}"
    )


def _part(result: Any, output: str | int) -> Any:
    """Return the part of that name or position, or None."""
    named = _named(result)
    if output in named:
        return named[output]
    if isinstance(output, str):
        return getattr(result, output, None)
    parts = list(result) if isinstance(result, Sequence) else list(named.values())
    return parts[output] if -len(parts) <= output < len(parts) else None


def _named(result: Any) -> dict[Any, Any]:
    """Return the parts that have names."""
    if isinstance(result, Mapping):
        return dict(result)
    if is_dataclass(result):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    if isinstance(result, tuple):
        return {name: getattr(result, name) for name in getattr(result, "_fields", ())}
    return dict(getattr(result, "__dict__", {}))


def _contents(result: Any) -> str:
    """Say what there is to choose from."""
    if named := _named(result):
        return f" with keys {list(named)}"
    return f" of {len(result)}" if isinstance(result, Sequence) else ""
