"""Finished batches, safe on disk: a line each, in a file for each process of each run."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from within_epsilon.reports import RobustReport


@dataclass(frozen=True)
class Entry:
    """What became of one batch.

    Parameters
    ----------
    reports : tuple of RobustReport
        One for each radius, in their order.
    """

    reports: tuple[RobustReport, ...]

    @property
    def positions(self) -> list[int]:
        """Where in the data set its examples are, ascending."""
        return [p for start, end in self.reports[0].positions for p in range(start, end)]


class Journal:
    """The batches that are finished.

    Lines are only ever added, each with a checksum and forced to disk, so that a run that is
    killed while it writes loses that line alone. Every process writes into a file of its own.

    Parameters
    ----------
    folder : Path
        Where the files are.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file: IO[str] | None = None

    def entries(self) -> list[Entry]:
        """Return all that was finished, each batch once."""
        found: dict[tuple[tuple[int, int], ...], Entry] = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            for entry in _entries(path):
                found[entry.reports[0].positions] = entry
        return list(found.values())

    def open(self, rank: int) -> None:
        """Begin a file for what this process will finish.

        Raises
        ------
        OSError
            If it cannot be written: before the work, not after.
        """
        name = f"{time.time_ns()}-{rank}-{os.getpid()}.jsonl"
        self._file = (self._folder / name).open("x", encoding="utf-8")

    def add(self, entry: Entry) -> None:
        """Write down a batch, and return when it is on disk.

        Raises
        ------
        OSError
            If it cannot be, with the file's name; what was written before is safe.
        """
        assert self._file is not None
        texts = [report.to_json() for report in entry.reports]
        try:
            self._file.write(json.dumps({"reports": texts, "checksum": _checksum(texts)}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            why = f"{error.strerror}; the batches before are safe, and the same command goes on"
            raise OSError(error.errno, why, self._file.name) from error

    def close(self) -> None:
        """Close the file, and remove it if nothing was written."""
        if self._file is None:
            return
        path = Path(self._file.name)
        with suppress(OSError):  # of a line that could not be written, which `add` has said
            self._file.close()
        if path.is_file() and not path.stat().st_size:
            path.unlink()


def _entries(path: Path) -> Iterator[Entry]:
    """Yield what can be read of a file: its last line may be half a line."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                whole = json.loads(line)
                texts = whole["reports"]
                if whole["checksum"] == _checksum(texts):
                    yield Entry(tuple(map(RobustReport.from_json, texts)))
            except (ValueError, KeyError, TypeError):
                continue


def _checksum(texts: list[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode()).hexdigest()[:32]
