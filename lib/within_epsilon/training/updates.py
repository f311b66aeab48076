"""How parameters move along their gradients: by the book's own SGD, or by torch's optimizers."""

import math
from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from within_epsilon.training.sgd import sgd_step

# The thing itself, or what makes it of parameters, or of an optimizer.
OptimizerGiven: TypeAlias = Optimizer | Callable[[Iterable[Tensor]], Optimizer]
ScheduleGiven: TypeAlias = LRScheduler | Callable[[Optimizer], LRScheduler]
Made = TypeVar("Made", Optimizer, LRScheduler)
Rhythm: TypeAlias = Literal["epoch", "minibatch"]


class Updates(Protocol):
    """Moves the parameters of one model."""

    def step(self, measure: Callable[[], float]) -> float:
        """Take a step along the gradients that `measure` leaves in the parameters.

        It returns the loss there, before the step.
        """

    def end_epoch(self, loss: float) -> None:
        """Tell that an epoch of that mean loss is over."""

    def too_large(self) -> str:
        """Say which step size was too large, and what to try."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that goes on from step to step."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what another one has left."""


def updates(
    model: nn.Module,
    *,
    step_size: float | None,
    momentum: float,
    weight_decay: float,
    optimizer: OptimizerGiven | None,
    schedule: ScheduleGiven | None,
    schedule_every: Rhythm,
) -> Updates:
    """Choose between the book's SGD, for a `step_size`, and an `optimizer`.

    Raises
    ------
    TypeError
        If something is neither a number, an optimizer nor a schedule, nor makes one.
    ValueError
        If there is neither or both, a number below 0 or infinite, a schedule without an
        optimizer, or an optimizer of another model or that maximises.
    """
    if schedule_every not in ("epoch", "minibatch"):
        raise ValueError(
            f"schedule_every: expected epoch or minibatch, received {schedule_every!r}"
        )
    if optimizer is None:
        if step_size is None:
            raise ValueError("step_size: expected a number, or an optimizer=, received neither")
        _check_rule(step_size, momentum, weight_decay)
        if schedule is not None:
            raise ValueError(
                "schedule: expected an optimizer to change the step size of, received none; give "
                "optimizer=functools.partial(torch.optim.SGD, lr=…) in place of step_size="
            )
        return OwnSgd(model, step_size, momentum, weight_decay)
    if step_size is not None or momentum or weight_decay:
        raise ValueError(
            "step_size, momentum, weight_decay: expected none beside an optimizer, which has its "
            "own; set them there, as in functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)"
        )
    return TorchUpdates(model, optimizer, schedule, schedule_every)


def _check_rule(step_size: float, momentum: float, weight_decay: float) -> None:
    """Refuse what would make the loss rise, or weights grow, in silence."""
    rule = {"step_size": step_size, "momentum": momentum, "weight_decay": weight_decay}
    for name, number in rule.items():
        if not isinstance(number, Real):
            raise TypeError(f"{name}: expected a number, received {number!r}")
        if number == math.inf:
            raise ValueError(f"{name}: expected a finite number, received {number}")
        if not number >= 0:
            raise ValueError(
                f"{name}: expected a number >= 0, received {number}; below 0 training runs away "
                "from what it is to reach"
            )
    if momentum >= 1:
        raise ValueError(
            f"momentum: expected a number below 1, received {momentum}; from 1 on, no gradient is "
            "ever forgotten and steps grow without end: try 0.9"
        )


class OwnSgd:
    """`sgd_step` for all parameters of a model."""

    def __init__(
        self, model: nn.Module, step_size: float, momentum: float, weight_decay: float
    ) -> None:
        self._parameters, self._step_size = list(model.parameters()), step_size
        self._momentum, self._weight_decay = momentum, weight_decay
        self._velocities = [torch.zeros_like(theta) for theta in self._parameters]

    def step(self, measure: Callable[[], float]) -> float:
        """See `sgd_step`."""
        loss = measure()
        sgd_step(
            self._parameters,
            self._step_size,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            velocities=self._velocities,
        )
        return loss

    def end_epoch(self, loss: float) -> None:
        """Do nothing: the step size stays."""

    def too_large(self) -> str:
        """Name the step size."""
        return f"step_size={self._step_size:g} is too large, try {self._step_size / 10:g}"

    def state_dict(self) -> dict[str, Any]:
        """Return the velocities."""
        return {"velocities": self._velocities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up velocities."""
        for own, kept in zip(self._velocities, state["velocities"], strict=True):
            own.copy_(kept)


def _made(name: str, given: Any, of: Any, kind: type[Made], example: str) -> Made:
    """Return an optimizer or schedule, or make it of what it is for.

    Raises
    ------
    TypeError
        If it is none and makes none.
    """
    if isinstance(given, kind):
        return given
    remedy = f"such as functools.partial(torch.optim.{example})"
    if not callable(given):
        raise TypeError(
            f"{name}: expected one of torch's, or what makes it, {remedy}, received {given!r}"
        )
    made = given(of)
    if not isinstance(made, kind):
        raise TypeError(f"{name}: expected what makes one, {remedy}; it made {made!r}")
    return made


class TorchUpdates:
    """An optimizer of torch's, and what changes its step size."""

    def __init__(
        self,
        model: nn.Module,
        optimizer_given: OptimizerGiven,
        schedule_given: ScheduleGiven | None,
        rhythm: Rhythm,
    ) -> None:
        free = [theta for theta in model.parameters() if theta.requires_grad]
        if not free and not isinstance(optimizer_given, Optimizer):
            raise ValueError(
                "model: expected parameters to train, received a model that is frozen; "
                "unfreeze some with model.requires_grad_(True)"
            )
        optimizer = _made("optimizer", optimizer_given, free, Optimizer, "Adam, lr=0.002")
        schedule: LRScheduler | None = None
        if schedule_given is not None:
            example = "lr_scheduler.StepLR, step_size=9"
            schedule = _made("schedule", schedule_given, optimizer, LRScheduler, example)
        if any(group.get("maximize") for group in optimizer.param_groups):
            raise ValueError(
                "optimizer: expected one that minimises, received maximize=True, with which the "
                "loss rises; drop it"
            )
        own = {id(theta) for theta in model.parameters()}
        given = {id(theta) for group in optimizer.param_groups for theta in group["params"]}
        if not given <= own:
            raise ValueError(
                "optimizer: expected one of this model's parameters, received one of others; give "
                "what makes it, such as functools.partial(torch.optim.Adam, lr=0.002)"
            )
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ValueError(
                "schedule: expected one of the same optimizer, received one of another; give what "
                "makes it, such as functools.partial(torch.optim.lr_scheduler.StepLR, step_size=9)"
            )
        self._optimizer, self._schedule, self._rhythm = optimizer, schedule, rhythm
        asked = signature(type(optimizer).step).parameters.get("closure")
        # LBFGS is one that measures as often as it likes, and by itself.
        self._measures = asked is not None and asked.default is Parameter.empty

    def step(self, measure: Callable[[], float]) -> float:
        """Take the optimizer's step.

        Raises
        ------
        ValueError
            If a schedule has brought its size below 0.
        """
        size = min(float(group.get("lr", 0.0)) for group in self._optimizer.param_groups)
        if size < 0:
            raise ValueError(
                f"schedule: expected step sizes >= 0, received {size:g}, with which the loss "
                "rises; end it, or training, before"
            )
        if self._measures:
            loss = float(self._optimizer.step(measure))
        else:
            loss = measure()
            self._optimizer.step()
        if self._schedule is not None and self._rhythm == "minibatch":
            self._schedule.step()
        return loss

    def end_epoch(self, loss: float) -> None:
        """Take the schedule's step; one that waits for a plateau looks at the loss."""
        if self._schedule is None or self._rhythm != "epoch":
            return
        if isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(loss)
        else:
            self._schedule.step()

    def too_large(self) -> str:
        """Name the optimizer's step size."""
        size = float(self._optimizer.param_groups[0]["lr"])
        return f"lr={size:g} is too large, try {size / 10:g}"

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and the schedule's."""
        schedule = None if self._schedule is None else self._schedule.state_dict()
        return {"optimizer": self._optimizer.state_dict(), "schedule": schedule}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up both."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])
