"""A record of what an evaluation has found so far, safe on disk after every batch."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from within_epsilon.evaluation.doubts import Tally
from within_epsilon.evaluation.fingerprint import digest

WRONG = "-"
FOOLED = "x"
RIGHT = "+"


class Record:
    """The outcome of every example, in the order of the data.

    Parameters
    ----------
    experiment : dict, optional
        What is evaluated; see `fingerprint.experiment`.
    path : Path, optional
        Where to keep the record; without it, only in memory.

    Attributes
    ----------
    outcomes : str
        One letter per example: misclassified without attack, fooled by an attack, or
        right throughout.
    tally : Tally
        What the first examples said about the evaluation itself.

    Raises
    ------
    ValueError
        If the file is damaged, or of another experiment; it is left as it is.
    """

    def __init__(
        self, experiment: dict[str, object] | None = None, path: Path | None = None
    ) -> None:
        self.outcomes = ""
        self.tally = Tally()
        self._experiment, self._path = experiment or {}, path
        self._data = self._recorded_data = ""
        self._seen = self._found = 0
        if path is not None:
            if path.exists():
                self._load(path)
            else:
                self._save()  # a path that cannot be written fails before the work, not after

    def skip(self, images: Tensor, labels: Tensor) -> int:
        """Take note of a batch and return how many of its first examples are done already.

        Raises
        ------
        ValueError
            If these are not the examples on record.
        """
        if self._path is None:
            return 0
        done = 0
        images, labels = images.cpu(), labels.cpu()
        for image, label in zip(images, labels, strict=True):
            self._data = digest(label, digest(image, self._data))
            self._seen += 1
            done += self._seen <= self._found
            if self._seen == self._found:
                self._require_same_data()
        return done

    def add(self, outcomes: str) -> None:
        """Add the outcomes of the batch last noted, those skipped left out."""
        self.outcomes += outcomes
        if self._path is not None:
            self._save()

    def finish(self) -> None:
        """Require that the data did not end before the record does."""
        if self._seen < self._found:
            self._require_same_data()

    def _require_same_data(self) -> None:
        if self._data != self._recorded_data:
            raise ValueError(
                f"resume: expected the {self._found} examples that {self._path} has on record, "
                "received others; give the same data in the same order (no shuffling), or "
                "another path"
            )

    def _save(self) -> None:
        assert self._path is not None
        content = {
            "experiment": self._experiment,
            "data": self._data,
            "outcomes": self.outcomes,
            "tally": asdict(self.tally),
        }
        scratch = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            with scratch.open("w", encoding="utf-8") as file:
                json.dump({"content": content, "checksum": _checksum(content)}, file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)  # whole or not at all
        finally:
            scratch.unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        try:
            whole = json.loads(path.read_bytes())
            content = whole["content"]
            if whole["checksum"] != _checksum(content):
                raise ValueError("its checksum does not match")
            self.outcomes, self._recorded_data = content["outcomes"], content["data"]
            self.tally, before = Tally(**content["tally"]), content["experiment"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"resume: {path} is damaged, or no record of an evaluation ({error}); it is left "
                "as it is: give another path, or move it away"
            ) from error
        differing = [key for key, value in self._experiment.items() if before.get(key) != value]
        if differing:
            raise ValueError(
                f"resume: {path} records another experiment, of another {', '.join(differing)}; "
                "it is left as it is: give another path, or what it was begun with"
            )
        self._found = len(self.outcomes)


def _checksum(content: object) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode()).hexdigest()[:32]
