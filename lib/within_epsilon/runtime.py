"""Seeds, devices and progress: what a run needs before it computes anything."""

import hashlib
import itertools
import os
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import length_hint
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from within_epsilon.parts import modules_of

T = TypeVar("T")


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators.

    Parameters
    ----------
    seed : int
        Any non-negative integer below 2**32 (NumPy's limit).
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that still draw from it
    torch.manual_seed(seed)


def pick_device() -> torch.device:
    """Return the fastest device at hand: a CUDA GPU, Apple's MPS, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_of(model: nn.Module) -> torch.device:
    """Return the device that the model's parameters live on (the CPU if it has none)."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def example_generators(
    indices: Iterable[int] | Tensor, seed: int, restart: int = 0
) -> list[torch.Generator]:
    """Make one random generator per example.

    An example's randomness follows from what it is, not from where in a batch it
    stands: the same (seed, index, restart) gives the same stream, so attacks come
    out alike however the data are batched, ordered or spread over processes.

    Parameters
    ----------
    indices : iterable of int, or Tensor of shape (N,)
        Positions of the examples in their data set.
    seed : int
        Seed of the experiment.
    restart : int
        Number of the restart, from 0.

    Returns
    -------
    list of torch.Generator
        N generators on the CPU, whose streams do not depend on the platform.
    """
    return [torch.Generator().manual_seed(key) for key in _keys(indices, seed, restart)]


def streams(
    indices: Iterable[int] | Tensor, seed: int, restart: int | Iterable[int] = 0
) -> Iterator[torch.Generator]:
    """Yield the streams of `example_generators` one after the other, in a single generator.

    Faster, if every example draws all it needs before the next one's turn. Each may have a
    restart of its own.
    """
    generator = torch.Generator()
    for key in _keys(indices, seed, restart):
        yield generator.manual_seed(key)


def derive_seed(seed: int, number: int) -> int:
    """Return a seed for the part of that number of an experiment, whose draws are its own."""
    return next(_keys([number], seed, -1)) % 2**32


def _keys(
    indices: Iterable[int] | Tensor, seed: int, restart: int | Iterable[int]
) -> Iterator[int]:
    """Yield a seed per example."""
    restarts = itertools.repeat(restart) if isinstance(restart, int) else restart
    listed = indices.tolist() if isinstance(indices, Tensor) else indices
    for index, number in zip(listed, restarts, strict=False):
        # Hashing keeps neighbouring keys far apart; Python's own hash is not promised
        # to stay the same from one version to the next.
        key = f"{seed}/{int(index)}/{number}".encode()
        yield int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def progress_bar(
    items: Iterable[T], *, show: bool, label: str, unit: str, done: int = 0
) -> "tqdm[T]":
    """Iterate with a progress bar where somebody watches and has waited for two seconds.

    Somebody watches a terminal or a notebook. Tests, continuous integration and whoever sets
    TQDM_DISABLE see nothing. The bar's ``set_postfix_str`` says more than how far it is.

    Parameters
    ----------
    items : iterable
        What to iterate over.
    show : bool
        False for no bar anywhere.
    label, unit : str
        What the bar says, and what it counts.
    done : int
        How many items have been dealt with before, besides those that follow.
    """
    hidden = not show or not _watched() or bool(os.environ.get("TQDM_DISABLE"))
    # Some have a length that they cannot tell: a bar without an end, then.
    ahead = length_hint(items, -1)
    return tqdm(
        items,
        desc=label,
        unit=unit,
        leave=False,
        delay=2,
        disable=hidden,
        initial=done,
        total=None if ahead < 0 else ahead + done,
    )


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a scratch file that takes another one's place at the end, once it is safe on disk.

    If anything is raised before, what was there is still there.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _watched() -> bool:
    """Tell whether standard error is a terminal, or a notebook's cell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return sys.stderr.isatty() or getattr(shell, "kernel", None) is not None


@contextmanager
def untouched(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Leave a model, and the global random generators, as they are, whatever happens inside.

    Restored are the modes of all its modules (see `parts.modules_of`), their buffers, their
    parameters' gradients and whether they want any, torch's grad mode, and the states of
    Python's, NumPy's and torch's generators. Inside, these are seeded: a model that draws random
    numbers gives the same answers in every such block, and not those that it will give outside.
    What else a model may change of itself, such as a counter of its own, is not seen; parameters
    are not copied.

    Parameters
    ----------
    model : nn.Module
        The model.
    seed : int
        Seed of the generators inside.
    """
    parts = [part for _, part in modules_of(model)]
    modes = [(part, part.training) for part in parts if hasattr(part, "training")]
    buffers = [(part, _copies(part) if part._buffers else {}) for part in parts]
    thetas = [theta for part in parts for theta in part._parameters.values() if theta is not None]
    slopes = [
        (theta, theta.requires_grad, slope, None if slope is None else slope.clone())
        for theta in thetas
        for slope in (theta.grad,)
    ]
    gradients = torch.is_grad_enabled()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    on_cuda = torch.cuda.is_initialized()
    cuda_states = torch.cuda.get_rng_state_all() if on_cuda else []
    inner = derive_seed(seed, -1)
    random.seed(inner)
    np.random.seed(inner)  # noqa: NPY002 - a model may draw from it
    torch.default_generator.manual_seed(inner)  # torch.manual_seed costs an FGSM a tenth
    if on_cuda:
        torch.cuda.manual_seed_all(inner)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if on_cuda:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_grad_enabled(gradients)
        for part, training in modes:
            if part.training != training:
                part.training = training
        with torch.no_grad():
            for part, copies in buffers:
                if copies or part._buffers:
                    _put_back(part, copies)
            for parameter, trained, gradient, values in slopes:
                if parameter.requires_grad != trained:
                    parameter.requires_grad_(trained)
                parameter.grad = gradient
                if gradient is not None and values is not None:
                    gradient.copy_(values)


@contextmanager
def in_full_precision() -> Iterator[None]:
    """Compute float32 in float32 inside: on a GPU, torch's convolutions round to TF32 by default.

    Ten bits are plenty for an attack, and make stairs of a loss as steps as short as rounding
    see it.
    """
    before: list[tuple[Any, bool]] = []
    with suppress(RuntimeError):  # torch will not say where a user has set parts of it apart
        places: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
        for where in places:
            before.append((where, where.allow_tf32))
            where.allow_tf32 = False
    try:
        yield
    finally:
        for where, allowed in before:
            where.allow_tf32 = allowed


def _copies(part: nn.Module) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Return a module's own buffers by name, each with a copy of it."""
    return {
        name: (buffer, None if buffer is None else buffer.clone())
        for name, buffer in part._buffers.items()
    }


def _put_back(part: nn.Module, copies: dict[str, tuple[Tensor | None, Tensor | None]]) -> None:
    """Give a module its own buffers again: the same tensors, of the same shapes and values."""
    for name in set(part._buffers.keys()) - set(copies):
        del part._buffers[name]
    for name, (buffer, copy) in copies.items():
        if name not in part._buffers or part._buffers[name] is not buffer:
            part._buffers[name] = buffer
        if buffer is None or copy is None or buffer.is_meta:
            continue
        if buffer.layout is not torch.strided:  # whose values cannot be compared
            buffer.copy_(copy)
            continue
        if buffer.shape != copy.shape:
            buffer.resize_(copy.shape)
        if not torch.equal(buffer, copy):
            buffer.copy_(copy)
