"""Outcomes: one letter per example, and the positions of those examples in the data set."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

# One letter per example; what fell to an attack has that attack's letter instead.
STANDS = "+"
WRONG = "-"
BAD = "!"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_STAGES = len(LETTERS)


class Piece(NamedTuple):
    """Outcomes of examples that follow each other, from position `start`."""

    start: int
    outcomes: str


def letters(fell_to: Iterable[int], stages: int) -> str:
    """Write -2 (bad), -1 (wrong without attack), a stage's number or `stages` (stands)."""
    written = (*LETTERS[:stages], STANDS, BAD, WRONG)  # -2 and -1 count from the end
    return "".join(written[number] for number in fell_to)


def pieces(positions: Sequence[tuple[int, int]], outcomes: str) -> Iterator[Piece]:
    """Cut a report's outcomes where its positions have gaps."""
    before = 0
    for start, end in positions:
        yield Piece(start, outcomes[before : before + end - start])
        before += end - start


def pieces_at(indices: Sequence[int], outcomes: str) -> Iterator[Piece]:
    """Cut outcomes of examples at the given positions where these do not follow each other."""
    begin = 0
    for here in range(1, len(indices) + 1):
        if here == len(indices) or indices[here] != indices[here - 1] + 1:
            yield Piece(indices[begin], outcomes[begin:here])
            begin = here


def join(parts: Iterable[Piece]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return outcomes in the order of their positions, and these.

    Raises
    ------
    ValueError
        If two pieces are about the same example.
    """
    ordered = sorted(parts)
    runs: list[list[int]] = []
    for start, outcomes in ordered:
        if runs and start < runs[-1][1]:
            raise ValueError(
                f"expected every example once, received position {start} twice; evaluate the "
                "parts with indices=, each example's position in the whole data set"
            )
        if runs and start == runs[-1][1]:
            runs[-1][1] += len(outcomes)
        else:
            runs.append([start, start + len(outcomes)])
    return "".join(piece.outcomes for piece in ordered), tuple((a, b) for a, b in runs)


def place_of(positions: Sequence[tuple[int, int]], position: int) -> int | None:
    """Return where the outcome of the example at `position` stands, or None if nowhere."""
    before = 0
    for start, end in positions:
        if start <= position < end:
            return before + position - start
        before += end - start
    return None


def add_hashes(hashes: Iterable[str]) -> str:
    """Add hashes up, so that neither order nor grouping matters."""
    return f"{sum(int(text or '0', 16) for text in hashes) % 2**128:032x}"
