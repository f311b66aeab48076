"""Several runs on one example at once, where the results are those of one after the other."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def packed(
    rows: Tensor,
    numbers: Tensor,
    going: Callable[[Tensor], Tensor],
    at_once: int | None,
) -> Iterator[Tensor]:
    """Yield which runs come next, (M,), int64: places in `rows` and `numbers`.

    Few examples leave most of a pass through a small model to what each pass costs anyway.

    Parameters
    ----------
    rows, numbers : Tensor of shape (R,), int64
        The example and the number of each run, all those of a number before the next.
    going : callable
        Tells which of the given examples still want runs, when asked, (M,) -> (M,), bool.
    at_once : int, optional
        How many runs at most; those of one number by default.
    """
    left = torch.arange(len(rows), device=rows.device)
    while len(left := left[going(rows[left])]):
        size = at_once or int((numbers[left] == numbers[left[0]]).sum())
        yield left[:size]
        left = left[size:]


def superfluous(rows: Tensor, done: Tensor) -> Tensor:
    """Tell which runs are done, or come after one of the same example that is, (M,), bool.

    Those that come before it go on: one after the other, they would have had their chance.
    """
    examples = rows.tolist()
    # From the last to the first, so that of several runs of an example the first one stays.
    ended = {examples[run]: run for run in reversed(done.nonzero().squeeze(1).tolist())}
    over = [run >= ended.get(example, len(examples)) for run, example in enumerate(examples)]
    return torch.tensor(over, device=rows.device)


def one_by_one(
    rows: Tensor, numbers: Tensor, going: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Yield the places of the runs of each number, of examples that want runs when asked for."""
    counts: list[int] = torch.unique_consecutive(numbers, return_counts=True)[1].tolist()
    for part in torch.arange(len(numbers), device=numbers.device).split(counts):
        yield part[going(rows[part])]
