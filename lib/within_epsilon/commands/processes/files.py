"""Files that are written whole or not at all, in places that are tried before the work."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from within_epsilon.runtime import written_whole


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name the file in errors: that of a full disk names none, others a scratch file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is still there.
    """
    with _about(path), written_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def require_writable(path: Path) -> None:
    """Require that a file can be written, before the work and not after it.

    Parameters
    ----------
    path : Path
        The file; its folder is made.

    Raises
    ------
    OSError
        If its folder cannot be made, or nothing can be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "expected a file, received a folder", str(path))
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _about(path):
        scratch.touch()
        scratch.unlink()
