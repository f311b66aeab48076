"""One run of training: what goes on from epoch to epoch, and all that a checkpoint holds."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon.checks import BadExampleError, check_losses, dtype_explained
from within_epsilon.data.examples import Examples
from within_epsilon.runtime import device_of
from within_epsilon.training.checkpoints import Checkpoint
from within_epsilon.training.history import History
from within_epsilon.training.objectives import Objective
from within_epsilon.training.sgd import minibatches
from within_epsilon.training.updates import Updates
from within_epsilon.training.validation import Validation

Weights = dict[str, Tensor]


class DivergedError(Exception):
    """Loss, logits or weights are no longer finite."""


class Run:
    """A model in training.

    Parameters
    ----------
    model, examples, objective, updates, batch_size, validation
        What `fit` was given, checked.

    Attributes
    ----------
    history : History
        What the epochs so far found.

    Raises
    ------
    ValueError
        If the objective wants to know the examples again, and they have no numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        objective: Objective,
        updates: Updates,
        batch_size: int,
        validation: Validation,
    ) -> None:
        self._model, self._examples, self._objective = model, examples, objective
        self._updates, self._validation = updates, validation
        self._generator = torch.Generator()
        self._cut = partial(minibatches, batch_size=batch_size, generator=self._generator)
        self._good: Weights = {}
        self._best: Weights | None = None
        self.history = History()
        self._tells_indices = _takes_indices(objective)
        if self._tells_indices and not examples.numbered:
            raise ValueError(
                f"split: expected examples that can be known again, for {objective}, received a "
                "DataLoader, whose minibatches do not say which they hold; give its data set and a "
                "batch_size"
            )
        if hasattr(objective, "reset"):
            objective.reset()

    @property
    def epochs(self) -> int:
        """How many epochs are over."""
        return len(self.history.train_losses)

    def begin(self, seed: int, kept: Checkpoint, epochs: int) -> None:
        """Start anew, or from a checkpoint; inside `loop.seeded`.

        Raises
        ------
        ValueError
            If the checkpoint is unusable, or further than `epochs`, or a weight is not finite.
        """
        self._generator.manual_seed(seed)
        state = kept.load(device_of(self._model))
        if state is None:
            _check_finite(self._model)
            self._good = self._weights()
            kept.save(self.state)  # a path that cannot be written fails before the work, not after
            return
        self.history = History(**state["history"])
        if self.epochs > epochs:
            raise ValueError(
                f"epochs: expected at least the {self.epochs} that the checkpoint has behind it, "
                f"received {epochs}; give another path to train for fewer"
            )
        self._model.load_state_dict(state["weights"])
        self._updates.load_state_dict(state["updates"])
        self._best, self._good = state["best"], self._weights()
        self._generator.set_state(state["shuffles"].cpu())
        torch.set_rng_state(state["draws"].cpu())
        device = device_of(self._model)
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["device_draws"].cpu(), device)
        if state["objective"] is not None:
            self._objective.load_state_dict(state["objective"])  # type: ignore[attr-defined]

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        device, objective = device_of(self._model), self._objective
        on_cuda = device.type == "cuda"
        return {
            "history": asdict(self.history),
            "weights": self._model.state_dict(),
            "updates": self._updates.state_dict(),
            "best": self._best,
            "shuffles": self._generator.get_state(),
            "draws": torch.get_rng_state(),
            "device_draws": torch.cuda.get_rng_state(device) if on_cuda else None,
            "objective": objective.state_dict() if hasattr(objective, "state_dict") else None,
        }

    def epoch(self, epoch: int) -> None:
        """Train for an epoch, and measure.

        Raises
        ------
        ValueError
            If a number is no longer finite; the model has the weights of before the epoch.
        """
        try:
            loss = self._pass()
        except (DivergedError, BadExampleError) as error:
            self._model.load_state_dict(self._good)
            reached = f"the end of epoch {epoch - 1}" if epoch else "the beginning"
            raise ValueError(
                f"{error} in epoch {epoch}; {self._updates.too_large()}; the model has its "
                f"weights of {reached} again"
            ) from error
        self._model.eval()
        self._updates.end_epoch(loss)
        self.history.train_losses.append(loss)
        self._validation.measure(self._model, self.history)
        self._good = self._weights()
        if self._validation.best and self.history.best_epoch == epoch:
            self._best = self._good

    def finish(self) -> None:
        """Give the model the weights that it is to have at the end."""
        if self._best is not None:
            self._model.load_state_dict(self._best)

    @contextmanager
    def ending_in_eval_mode(self) -> Iterator[None]:
        """Leave the model in eval mode, whatever happens inside."""
        try:
            yield
        finally:
            self._model.eval()

    def _pass(self) -> float:
        """Use every example once, and return the mean loss."""
        self._model.train()
        total, n = 0.0, 0
        for images, labels, indices in self._examples.batches(self._cut):
            options = {"indices": indices} if self._tells_indices else {}
            measure = partial(self._measure, images, labels, **options)
            for _ in range(getattr(self._objective, "replays", 1)):
                total += self._updates.step(measure) * len(images)
                n += len(images)
        if not all(bool(torch.isfinite(theta).all()) for theta in self._model.parameters()):
            raise DivergedError("weights: expected finite numbers, received infinities or NaN")
        return total / n

    def _measure(self, images: Tensor, labels: Tensor, **options: Any) -> float:
        """Return a minibatch's mean loss, and leave its gradient in the parameters."""
        loss = _mean_loss(self._objective, self._model, images, labels, **options)
        value: float = loss.item()
        if not math.isfinite(value):
            raise DivergedError(f"loss: expected a finite number, received {value}")
        self._model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _weights(self) -> Weights:
        return {name: value.detach().clone() for name, value in self._model.state_dict().items()}


def _check_finite(model: nn.Module) -> None:
    """Require weights that training can begin with: NaN would be blamed on the step size."""
    for name, theta in model.named_parameters():
        if not torch.isfinite(theta).all():
            raise ValueError(
                f"model: expected finite weights to begin with, received infinities or NaN in "
                f"{name}; make it anew, or load weights of before"
            )


def _takes_indices(objective: Objective) -> bool:
    """Tell whether an objective asks for them by name: not every **options means that."""
    try:
        return "indices" in signature(objective).parameters
    except ValueError:  # compiled functions have no signature
        return False


def _mean_loss(
    objective: Objective, model: nn.Module, images: Tensor, labels: Tensor, **options: Any
) -> Tensor:
    try:
        with dtype_explained(model, images):
            losses = objective(model, images, labels, **options)
    except (ValueError, RuntimeError, torch.jit.Error) as error:
        if len(images) > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "batch_size: expected minibatches of at least two examples, for BatchNorm to compare, "
            "received one of a single example; choose a batch_size that leaves no single one over, "
            "or drop_last=True in a DataLoader"
        ) from error
    check_losses(losses, len(images))
    if not losses.requires_grad:
        raise ValueError(
            "model: expected parameters to train, received a model that is frozen: none that its "
            "losses depend on requires a gradient; unfreeze some with "
            "model.requires_grad_(True), and look for no_grad() or detach() in the model and in "
            "the objective"
        )
    return losses.mean()
