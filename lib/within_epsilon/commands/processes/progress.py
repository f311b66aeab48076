"""How far the processes have come, and how long it will take."""

import sys
import time

from within_epsilon.commands.processes.workers import Workers

_EVERY = 30.0  # seconds between lines in a log


class Progress:
    """Says on standard error how far all processes are; the first process speaks.

    On a terminal it is one line that changes, in a log a line every half minute.

    Parameters
    ----------
    workers : Workers
        The processes.
    total, before : int
        How many examples there are to do, and how many were done in earlier runs.
    """

    def __init__(self, workers: Workers, total: int, before: int) -> None:
        self._workers, self._total, self._before = workers, total, before
        self._begun = self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def note(self, examples: int) -> None:
        """Add examples that are done."""
        done = self._workers.count("examples", examples)
        now = time.monotonic()
        if self._workers.first and now - self._said >= (1.0 if self._terminal else _EVERY):
            self._said = now
            self._say(done, now - self._begun)

    def finish(self) -> None:
        """End the line."""
        if self._workers.first and self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _say(self, done: int, seconds: float) -> None:
        left = time_in_words(seconds / done * (self._total - done))
        words = f"{self._before + done:,} of {self._before + self._total:,} examples, {left} left"
        ends = ("\r\033[K", "") if self._terminal else ("", "\n")
        print(f"{ends[0]}{words}", end=ends[1], file=sys.stderr, flush=True)


def time_in_words(seconds: float) -> str:
    """Say a time in two units at most.

    Parameters
    ----------
    seconds : float
        The time.

    Returns
    -------
    str
        "42 s", "3 min 5 s", "2 h 10 min".
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
