"""Eyes on a reader's attack: where it takes gradients, and what it must not use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from within_epsilon.exercises.registry import Wrong


class Watched(nn.Module):
    """A network in evaluation mode that notes every batch at which a gradient was taken."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.slopes_at: list[Tensor] = []
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Answer, and listen for a gradient."""
        if images.requires_grad:
            images = images.view_as(images)
            place = images.detach()
            images.register_hook(lambda _gradient: self.slopes_at.append(place.clone()))
        logits: Tensor = self.model(images)
        return logits


def one_gradient(watched: Watched, images: Tensor) -> str | None:
    """Complain if a gradient was taken anywhere but at the images themselves."""
    for place in watched.slopes_at:
        if place.shape[1:] != images.shape[1:]:
            continue
        same = (place.unsqueeze(1) == images.unsqueeze(0)).flatten(2).all(dim=2)
        if not same.any(dim=1).all():
            return (
                "it takes gradients at pictures that it has changed already; one step has one "
                "gradient, at the clean images"
            )
    return None


class Hidden(nn.Module):
    """A network that can be asked and not looked into: no parameters, no gradient, counted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.shown = 0
        self._ask = lambda images: model(images)  # a closure: nothing to find on the object
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Answer, and count."""
        self.shown += len(images)
        logits: Tensor = self._ask(images).detach()
        return logits


@contextmanager
def without_autograd() -> Iterator[None]:
    """Be `Wrong` as soon as anything is recorded for differentiation."""

    def refuse(_saved: Tensor) -> Any:
        raise Wrong("it uses autograd, and the task asks for an answer without it")

    try:
        with torch.autograd.graph.saved_tensors_hooks(refuse, lambda saved: saved):
            yield
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        raise Wrong("it uses autograd, and the task asks for an answer without it") from None


class Forbid(TorchDispatchMode):
    """Be `Wrong` when torch computes a softmax, or builds a square matrix of a given side."""

    def __init__(self, *, softmax: bool = False, side: int | None = None) -> None:
        super().__init__()
        self._softmax, self._side = softmax, side

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at every operation of torch, whatever name it was called by."""
        if self._softmax and "softmax" in str(func):
            raise Wrong("it calls torch's own softmax (or log_softmax), which is forbidden here")
        result = func(*args, **(kwargs or {}))
        k = self._side
        if k and isinstance(result, Tensor) and list(result.shape).count(k) >= 2:
            raise Wrong(f"it builds a matrix of k × k = {k} × {k}, which is forbidden here")
        return result
