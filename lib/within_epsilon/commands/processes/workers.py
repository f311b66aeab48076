"""One process, or the many that torchrun has started: who does what, and how they end together."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from within_epsilon.commands.processes.speaking import ask_by, speaks
from within_epsilon.runtime import pick_device

T = TypeVar("T")

# A process may wait this long for the others: their last batches take as long as they take.
_PATIENCE = timedelta(days=7)


class StoppedError(Exception):
    """Another process has ended, or this one was told to."""


class Workers:
    """The processes of this run, seen from one of them; a process alone is the only one.

    Attributes
    ----------
    rank, size : int
        The number of this process, and how many there are.
    device : torch.device
        Where this one computes.
    """

    def __init__(self, rank: int, size: int, device: torch.device, store: Any = None) -> None:
        self.rank, self.size, self.device, self._store = rank, size, device, store
        self._counters: dict[str, Any] = {}

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def count(self, name: str, amount: int = 1) -> int:
        """Add to a number that all processes share, and return what it is then."""
        if self._store is not None:
            return int(self._store.add(name, amount))
        self._counters[name] = self._counters.get(name, 0) + amount
        return int(self._counters[name])

    def tasks(self, items: list[T], name: str) -> Iterator[T]:
        """Yield the items that no other process has taken: every item to one, in their order."""
        while (number := self.count(name) - 1) < len(items):
            yield items[number]

    def by_first(self, function: Callable[[], T]) -> T:
        """Let the first process call a function, and return to all what it has returned.

        Raises
        ------
        Exception
            What the function has raised, in all processes.
        """
        if self.size == 1:
            return function()
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = function()
            except (ValueError, TypeError, OSError) as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        result: T = answer[0]
        return result

    def together(self, own: T) -> list[T]:
        """Return what each process has, in their order."""
        if self.size == 1:
            return [own]
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, own)
        return everyone

    def wait(self) -> None:
        """Wait for all others."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def workers(device: str | None, threads: int | None) -> Iterator[Workers]:
    """Join the processes that torchrun has started; without it there is one.

    Parameters
    ----------
    device : str, optional
        Where to compute; by default the fastest device, each process on its own GPU.
    threads : int, optional
        How many each process has.

    Raises
    ------
    ValueError
        If there is no such device.
    StoppedError
        If another process ends early, or this one is told to end.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    rank, size = (int(os.environ.get(name, n)) for name, n in (("RANK", "0"), ("WORLD_SIZE", "1")))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    with _told_to_end():
        if size == 1:
            yield Workers(0, 1, _device(device, local, size))
            return
        with _others_may_fail():
            store, rank, size = next(iter(rendezvous("env://", timeout=_PATIENCE)))
            ask_by(lambda: store.add("within-epsilon says", 1) == 1)
            place = _device(device, local, size)
            dist.init_process_group(
                "nccl" if place.type == "cuda" else "gloo",
                store=PrefixStore("collectives", store),
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
            )
            yield Workers(rank, size, place, PrefixStore("within-epsilon", store))
            dist.barrier()  # nobody leaves before the others: torchrun would call it a failure
            dist.destroy_process_group()


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Turn the signal by which torchrun, SLURM and others end a process into an error."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may listen
        return
    before = signal.signal(signal.SIGTERM, _stopped)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _others_may_fail() -> Iterator[None]:
    """Tell errors of the connection to other processes from those of one's own."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        words = ("connection", "peer", "nccl", "gloo", "socket", "timed out")
        if isinstance(error, dist.DistError) or any(w in str(error).lower() for w in words):
            raise StoppedError("another process has ended early") from error
        raise


def _device(asked: str | None, local: int, size: int) -> torch.device:
    """Return where this process computes."""
    try:
        device = pick_device() if asked is None else torch.device(asked)
        if device.type == "mps" and size > 1 and asked is None:
            device = torch.device("cpu")
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device: there is no {asked or f'GPU of number {local}'} here "
            f"({str(error).splitlines()[0]}); give cpu, or start fewer processes"
        ) from error
    return device


def _stopped(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    signal.signal(number, signal.SIG_IGN)  # once is enough
    many = int(os.environ.get("WORLD_SIZE", "1")) > 1
    why = ", as torchrun tells all when one has failed or was killed" if many else ""
    raise StoppedError(f"this process was told to end{why}")


def leave(words: str, status: int) -> NoReturn:
    """End this process at once, without waiting for others that will never answer.

    Parameters
    ----------
    words : str
        What to say, if no other process has said why the run ends.
    status : int
        The exit status.
    """
    if speaks():
        print(words, file=sys.stderr, flush=True)
    if dist.is_available() and dist.is_initialized():
        sys.stdout.flush()
        os._exit(status)  # tearing the group down would wait for the others
    raise SystemExit(status)
