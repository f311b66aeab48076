"""What a user's mistake becomes: one sentence, and exit status 2."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from within_epsilon.commands.processes.speaking import speaks

# Set to anything, it shows where an error came from.
TRACEBACK = "WITHIN_EPSILON_TRACEBACK"


class Refusal(click.ClickException):
    """An error that a sentence explains."""

    exit_code = 2


@contextmanager
def refusing() -> Iterator[None]:
    """Turn the errors that users can do something about into a `Refusal`.

    Raises
    ------
    Refusal
        In place of ValueError, TypeError, OSError and ImportError, and of a device without
        memory; with WITHIN_EPSILON_TRACEBACK set, the error itself.
    click.exceptions.Exit
        In its place, where torchrun has started many processes and another has said it.
    """
    try:
        yield
    except click.ClickException:
        _once()
        raise
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if os.environ.get(TRACEBACK) or isinstance(error, BrokenPipeError):
            raise
        _once()
        raise Refusal(sentence(error)) from error
    except RuntimeError as error:
        if os.environ.get(TRACEBACK) or "out of memory" not in str(error):
            raise
        _once()
        raise Refusal(
            "the device has too little memory for so many images at a time; give a smaller "
            "--batch-size"
        ) from error


def _once() -> None:
    """End in silence if another process says why."""
    if not speaks():
        raise click.exceptions.Exit(Refusal.exit_code)


def sentence(error: BaseException) -> str:
    """Say an error in one line, an operating system's with the file that it is about.

    Parameters
    ----------
    error : BaseException
        What was raised.
    """
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return place + error.strerror
    if isinstance(error, MemoryError):
        return "this machine has too little memory; give a smaller --batch-size"
    return " ".join(str(error).split()) or type(error).__name__
