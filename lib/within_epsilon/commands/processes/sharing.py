"""Training by several processes: each takes its share of every minibatch.

All see the same minibatches in the same order and take the same steps. A process computes losses
and gradients of its own rows, with the plain network, so that attacks may need different numbers
of steps; then gradients are added up. No example is repeated to fill a share, and none left out.
"""

from collections.abc import Callable, Iterable
from inspect import Signature, signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from within_epsilon.attacks.core.registry import accepted
from within_epsilon.commands.processes.workers import Workers
from within_epsilon.runtime import derive_seed


class _Shared:
    """Wraps what `training.fit` is given; its checkpoints know it by what is inside alone."""

    __slots__ = ("_inner", "_workers")

    def __init__(self, inner: Any, workers: Workers) -> None:
        self._inner, self._workers = inner, workers

    def __getstate__(self) -> Any:
        return self._inner

    def _rows(self, n: int) -> Tensor:
        """Return the rows of this process, of n."""
        return torch.arange(self._workers.rank, n, self._workers.size)

    def _everybody(self, rows: Tensor, own: Tensor, whole: Tensor) -> Tensor:
        """Fill a tensor with the rows of all processes."""
        whole = torch.zeros_like(whole)
        whole[rows.to(whole.device)] = own.detach().to(whole.dtype)
        dist.all_reduce(whole)  # all others have zeros there, so no number changes
        return whole


class SharedObjective(_Shared):
    """An objective of which each process computes its rows.

    Parameters
    ----------
    inner : callable
        The objective.
    workers : Workers
        The processes.
    """

    __slots__ = ()

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the losses of all rows, (N,), with a graph to those of this process."""
        if self._workers.size == 1:
            losses: Tensor = self._inner(model, images, labels)
            return losses
        rows = self._rows(len(images)).to(images.device)
        seed = int(torch.randint(2**31 - 1, ()))  # the same in all processes
        # No rows, no losses: a graph all the same.
        free = [theta.sum() for theta in model.parameters() if theta.requires_grad]
        nothing = 0.0 * torch.stack(free).sum() if free else torch.zeros((), device=images.device)
        own = nothing.expand(len(rows))
        if len(rows):
            devices = [images.device] if images.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(derive_seed(seed, self._workers.rank))
                own = self._of_share(model, images[rows], labels[rows])
        whole = self._everybody(rows, own, torch.empty(len(images), device=images.device))
        return (whole + nothing).index_copy(0, rows, own.to(whole.dtype))

    def _of_share(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        try:
            losses: Tensor = self._inner(model, images, labels)
        except ValueError as error:
            if len(images) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "--batch-size: expected two examples or more for each process in every minibatch, "
                "for batch normalisation to compare, received a share of one; choose a size that "
                "leaves no few over, or start fewer processes"
            ) from error
        return losses

    def __getattr__(self, name: str) -> Any:
        if name in ("state_dict", "load_state_dict"):
            getattr(self._inner, name)  # only what has a state is asked for it
            return self._whole_state if name == "state_dict" else self._take_share
        return getattr(self._inner, name)

    def _whole_state(self) -> dict[str, Any]:
        """Put the rows of all processes in order."""
        parts = self._workers.together(self._inner.state_dict())
        return {name: _interleaved([part[name] for part in parts]) for name in parts[0]}

    def _take_share(self, state: dict[str, Any]) -> None:
        rank, size = self._workers.rank, self._workers.size
        self._inner.load_state_dict(
            {k: v[rank::size].clone() if isinstance(v, Tensor) else v for k, v in state.items()}
        )


class SharedAttack(_Shared):
    """An attack of which each process runs its rows, and gets those of all.

    Parameters
    ----------
    inner : callable
        The attack.
    workers : Workers
        The processes.
    """

    __slots__ = ()

    @property
    def __signature__(self) -> Signature:
        """That of the attack, for those who ask what it takes."""
        return signature(self._inner)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, ball: Any) -> Tensor:
        """Return the adversarial images of all rows."""
        rows = self._rows(len(images)).to(images.device)
        options = accepted(self._inner, indices=rows)
        own = images[:0]
        if len(rows):
            own = self._inner(model, images[rows], labels[rows], ball[rows.cpu()], **options)
        return own if self._workers.size == 1 else self._everybody(rows, own, images)


class SharedOptimizer(_Shared):
    """Makes an optimizer that adds up the gradients of all processes before each step.

    Parameters
    ----------
    inner : callable
        Makes the optimizer of parameters.
    workers : Workers
        The processes.
    model : nn.Module
        Whose running averages, if it keeps any, become the mean of all processes'.
    """

    __slots__ = ("_model",)

    def __init__(
        self, inner: Callable[[Iterable[Tensor]], Optimizer], workers: Workers, model: nn.Module
    ) -> None:
        super().__init__(inner, workers)
        self._model = model

    def __call__(self, parameters: Iterable[Tensor]) -> Optimizer:
        """Make the optimizer."""
        optimizer: Optimizer = self._inner(parameters)
        if self._workers.size > 1:
            optimizer.register_step_pre_hook(self._add_up)
        return optimizer

    @torch.no_grad()
    def _add_up(self, optimizer: Optimizer, *_: Any) -> None:
        thetas = [theta for group in optimizer.param_groups for theta in group["params"]]
        for theta in thetas:
            theta.grad = torch.zeros_like(theta) if theta.grad is None else theta.grad
        averages = [b for b in self._model.buffers() if b.is_floating_point()]
        for buffer in averages:
            buffer /= self._workers.size
        tensors = [theta.grad for theta in thetas] + averages
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def alike(model: nn.Module, workers: Workers) -> None:
    """Give the networks of all processes the weights of the first."""
    if workers.size > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


def _interleaved(parts: list[Any]) -> Any:
    """Return the rows of all processes in their order; what has no rows is everybody's."""
    if not isinstance(parts[0], Tensor):
        return parts[0]
    whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
