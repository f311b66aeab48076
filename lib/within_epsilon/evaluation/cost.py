"""What an attack costs: passes through the model, counted in examples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Cost:
    """Passes through a model, one per example of each batch.

    Parameters
    ----------
    forwards : int
        Examples that went through the model, gradients or not.
    gradients : int
        Examples that gradients came back for.
    """

    forwards: int = 0
    gradients: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Cost]:
    """Count what goes through a model, so that attacks can be compared at equal cost.

    Parameters
    ----------
    model : nn.Module
        The model; returns logits (N, K). It works as before, and is left as it was.

    Yields
    ------
    Cost
        The counts so far.

    Examples
    --------
    >>> import torch
    >>> from within_epsilon.attacks import pgd
    >>> from within_epsilon.threat import Ball
    >>> model = nn.Linear(4, 2).eval()
    >>> with counted(model) as cost:
    ...     _ = pgd(model, torch.rand(5, 4), torch.zeros(5).long(), Ball("linf", 0.1), steps=3)
    >>> cost
    Cost(forwards=15, gradients=15)
    """
    cost = Cost()

    def backward(gradient: Tensor) -> None:
        cost.gradients += len(gradient)

    def forward(_: nn.Module, __: object, logits: object) -> None:
        if isinstance(logits, Tensor):
            cost.forwards += len(logits)
            if logits.requires_grad:
                logits.register_hook(backward)

    handle = model.register_forward_hook(forward)
    try:
        yield cost
    finally:
        handle.remove()
