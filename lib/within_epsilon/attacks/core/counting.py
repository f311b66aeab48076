"""What an attack costs: how often it asked the model for logits, and for a gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook


@dataclass
class Evaluations:
    """Counts of images, so that a batch of 32 counts for 32.

    Attributes
    ----------
    forwards : int
        Images that the model has classified.
    gradients : int
        Images whose logits have been differentiated; each is among `forwards` too.
    """

    forwards: int = 0
    gradients: int = 0


@contextmanager
def count_evaluations(model: nn.Module) -> Iterator[Evaluations]:
    """Count what the model is asked for inside a ``with`` block.

    Parameters
    ----------
    model : nn.Module
        Takes images, returns logits. Called as ``model(images)``, not by its parts.

    Yields
    ------
    Evaluations
        Counts, which grow as the block runs and stay as they are after it.

    Examples
    --------
    >>> with count_evaluations(model) as spent:  # doctest: +SKIP
    ...     pgd(model, images, labels, ball, steps=40)
    >>> spent.gradients == 40 * len(images)  # doctest: +SKIP
    True
    """
    spent = Evaluations()

    def count_forward(_module: nn.Module, _inputs: object, logits: object) -> None:
        if not isinstance(logits, Tensor):
            return  # what the attack will refuse with a better message
        spent.forwards += len(logits)
        if logits.requires_grad:
            logits.register_hook(count_gradient)

    def count_gradient(gradient: Tensor) -> None:
        spent.gradients += len(gradient)

    def count_if_model(module: nn.Module, inputs: object, logits: object) -> None:
        if module is model:
            count_forward(module, inputs, logits)

    if isinstance(model, torch.jit.ScriptModule):  # which takes no hooks of its own
        handle = register_module_forward_hook(count_if_model)
    else:
        handle = model.register_forward_hook(count_forward)
    try:
        yield spent
    finally:
        handle.remove()
