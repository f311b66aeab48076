"""Files that ship with the library, and files that it fetches once and checks."""

import hashlib
import os
import shutil
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

VARIABLE = "WITHIN_EPSILON_DATA"
TIMEOUT = 10.0  # seconds of silence from a server before giving up
OFFLINE = (
    "Without a network these work: digits(), digits_classifier(), "
    "photo('chelsea'), photo('coffee') and photos of your own."
)


class DataUnavailableError(OSError):
    """A file is neither in the cache nor to be downloaded, or is not the right one."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a public GitHub repository, at one commit."""

    what: str
    repository: str
    commit: str
    path: str
    sha256: str
    size: int
    licence: str

    @property
    def url(self) -> str:
        """Return the address that serves exactly this version of the file."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


def shipped(name: str) -> Path:
    """Find a file that comes with the library.

    Parameters
    ----------
    name : str
        File name, such as ``"digits_cnn.safetensors"``.

    Returns
    -------
    Path
        In the installed package (``_shipped``) or, when the library runs from its
        repository, in the repository's ``data`` folder.

    Raises
    ------
    DataUnavailableError
        If the file is in neither place.
    """
    package = Path(__file__).parents[1]
    places = [package / "_shipped" / name, package.parents[1] / "data" / name]
    for place in places:
        if place.is_file():
            return place
    looked = " or ".join(map(str, places))
    raise DataUnavailableError(
        f"{name} comes with the library but is not at {looked}; reinstall it"
    )


@cache
def registry() -> dict[str, RemoteFile]:
    """Return what can be fetched, by file name."""
    entries = tomllib.loads(shipped("registry.toml").read_text(encoding="utf-8"))
    return {name: RemoteFile(**entry) for name, entry in entries.items()}


def cache_folder() -> Path:
    """Return the folder of downloaded files; it need not exist yet.

    It is ``$WITHIN_EPSILON_DATA`` where that is set, else the user's cache folder.

    Raises
    ------
    ValueError
        If ``WITHIN_EPSILON_DATA`` is a relative path, which would mean another folder
        in every notebook.
    """
    setting = os.environ.get(VARIABLE, "")
    if not setting:
        import pooch  # here, since most never download

        return Path(pooch.os_cache("within-epsilon"))
    folder = Path(setting).expanduser()
    if not folder.is_absolute():
        raise ValueError(
            f"{VARIABLE}: expected an absolute path, received {setting!r}; "
            f"from the current folder that would be {str(folder.resolve())!r}"
        )
    return folder


def fetch(name: str) -> Path:
    """Return the path of a file of the registry, downloading it the first time.

    The cache changes only once a download has arrived whole and its SHA-256 is right,
    and no file that is already there is ever replaced.

    Parameters
    ----------
    name : str
        A name in ``data/registry.toml``, such as ``"pig.jpg"``.

    Returns
    -------
    Path
        The file in the cache folder; its SHA-256 has just been checked.

    Raises
    ------
    ValueError
        If the registry has no such name.
    DataUnavailableError
        If the cached file has another SHA-256, or there is none and it cannot be
        downloaded or stored.
    """
    file = _registered(name)
    target = cache_folder() / name
    if target.exists():
        problem = _problem(target, file)
        if problem:
            raise DataUnavailableError(
                f"{target} is not the {name} that the library knows: {problem}. "
                f"Delete or move it to download it again from {file.url}"
            )
        return target
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _download(file, Path(scratch, name))
            _store(Path(scratch, name), target)
        except (OSError, ValueError) as error:
            raise DataUnavailableError(_unavailable(name, target, file, error)) from error
    return target


def available(name: str) -> bool:
    """Fetch a file if it is not there yet, and tell whether that went well.

    Raises
    ------
    ValueError
        If the registry has no such name.
    """
    try:
        fetch(name)
    except DataUnavailableError:
        return False
    return True


@contextmanager
def patience(seconds: float = TIMEOUT) -> Iterator[None]:
    """Limit how long any new socket waits; torch's and torchvision's downloads set no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _registered(name: str) -> RemoteFile:
    known = registry()
    if name in known:
        return known[name]
    close = get_close_matches(name, known) or known
    raise ValueError(f"name: the registry has no {name!r}; did you mean {', '.join(close)}?")


def _problem(path: Path, file: RemoteFile) -> str:
    """Say how a file differs from its registry entry; empty if it does not."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"it cannot be read ({error})"
    if len(content) != file.size:
        return f"it has {len(content):,} bytes instead of {file.size:,}"
    digest = hashlib.sha256(content).hexdigest()
    return "" if digest == file.sha256 else f"its SHA-256 is {digest}, not {file.sha256}"


def _download(file: RemoteFile, target: Path) -> None:
    """Download to a scratch file; raise ValueError if it is not the right one."""
    import pooch

    pooch.HTTPDownloader(timeout=TIMEOUT)(file.url, str(target), None)
    problem = _problem(target, file)
    if problem:
        raise ValueError(f"what came is not the file: {problem}")


def _store(source: Path, target: Path) -> None:
    """Copy under another name and rename, so that no reader sees half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _unavailable(name: str, target: Path, file: RemoteFile, error: Exception) -> str:
    return (
        f"{name} ({file.what}) cannot be had.\n"
        f"Looked for: {target}\n"
        f"Tried: {file.url}\n"
        f"       {type(error).__name__}: {error}\n"
        f"Remedy: download it from that address by other means and save it as {target} "
        f"({file.size:,} bytes), or set {VARIABLE} to a folder that has it.\n{OFFLINE}"
    )
