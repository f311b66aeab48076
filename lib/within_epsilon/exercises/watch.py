"""Eyes on a reader's attack: where it takes gradients, and what it must not use."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from within_epsilon.attacks import input_gradient
from within_epsilon.exercises.registry import Wrong
from within_epsilon.losses import cross_entropy


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
        # The library's own attacks look from just inside [0, 1].
        same = ((place.unsqueeze(1) - images.unsqueeze(0)).abs() < 1e-6).flatten(2).all(dim=2)
        if not same.any(dim=1).all():
            return (
                "it takes gradients at pictures that it has changed already; one step has one "
                "gradient, at the clean images"
            )
    return None


def sign_path(
    model: nn.Module, path: list[Tensor], labels: Tensor, epsilon: float, steps: int
) -> str | None:
    """Complain unless a path is that of sign steps of 2.5 epsilon / steps, clipped every time.

    Parameters
    ----------
    path : the points at which gradients were taken, then what the attack returned
    """
    images, step_size = path[0], 2.5 * epsilon / steps
    if len(path) - 1 not in (steps, steps + 1):  # one gradient more at the end does no harm
        return f"it takes {len(path) - 1} gradients where steps = {steps}; each step needs one"
    for step, (before, after) in enumerate(itertools.pairwise(path[: steps + 1]), start=1):
        if after.min() < -1e-6 or after.max() > 1 + 1e-6:
            return f"after step {step} some pixels are outside [0, 1]: clip after *every* step"
        if (after - images).abs().max() > epsilon + 2e-6:
            return f"after step {step} some pixels are further than ε away: clip after *every* step"
        if _is_sign_step(model, before, after, images, labels, epsilon, step_size):
            continue
        if _is_sign_step(model, before, after, images, labels, epsilon, -step_size):
            return f"step {step} goes down the loss; an attack climbs it"
        return (
            f"step {step} is no sign step of 2.5 ε / steps = {step_size:g} along the gradient of "
            "the point where it stands"
            + (": are old gradients still in .grad? They add up" if step > 1 else "")
        )
    return None


def _is_sign_step(
    model: nn.Module,
    before: Tensor,
    after: Tensor,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    step_size: float,
) -> bool:
    """Whether one step follows the sign of the gradient, by torch's loss or the library's."""
    for loss in (cross_entropy, partial(nn.functional.cross_entropy, reduction="none")):
        _, gradient = input_gradient(model, before, labels, loss)
        moved = before + step_size * gradient.sign()
        asked = moved.clamp(images - epsilon, images + epsilon).clamp(0, 1)
        # The sign of a slope next to zero depends on rounding.
        if ((after - asked).abs() > 1e-4).float().mean() < 0.02:
            return True
    return False


class Hidden(nn.Module):
    """A network that can be asked and not looked into: no parameters, no gradient, counted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.shown = 0
        # A closure: there is nothing to find on the object, and no gradient in what it returns.
        self._ask = torch.no_grad()(lambda images: model(images))
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Answer, and count."""
        self.shown += len(images)
        logits: Tensor = self._ask(images).detach()
        return logits


class Window:
    """An object seen through a few of its attributes; whoever asks for another is `Wrong`."""

    def __init__(self, thing: object, *names: str) -> None:
        self._values = {name: getattr(thing, name) for name in names}
        self._text = str(thing)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._values:
            allowed = ", ".join(f"`{known}`" for known in self._values)
            raise Wrong(f"it asks for `.{name}`, and may only use {allowed}")
        return self._values[name]

    def __repr__(self) -> str:
        return self._text


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


class Forbid(TorchFunctionMode):
    """Be `Wrong` when torch computes a softmax, or makes a square matrix of a given side."""

    def __init__(self, *, softmax: bool = False, side: int | None = None) -> None:
        super().__init__()
        self._softmax, self._side = softmax, side

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at every call of torch's own functions, methods included."""
        name = getattr(func, "__name__", "")
        if self._softmax and ("softm" in name or "cross_entropy" in name):
            raise Wrong(f"it calls torch's own {name}, which is forbidden here")
        result = func(*args, **(kwargs or {}))
        k = self._side
        if k and isinstance(result, Tensor) and list(result.shape).count(k) >= 2:
            raise Wrong(f"it builds a matrix of k × k = {k} × {k}, which is forbidden here")
        return result
