"""Files that are written whole or not at all, in places that are tried before the work."""

import errno
import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is still there.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


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
    scratch.touch()
    scratch.unlink()
