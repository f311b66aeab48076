"""The loop around the steps: epochs, validation, checkpoints, and what to do when it fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from within_epsilon.checks import check_counts, check_model
from within_epsilon.data.examples import Examples, Given
from within_epsilon.runtime import device_of, progress_bar
from within_epsilon.threat import Ball
from within_epsilon.training.checkpoints import Checkpoint, run_settings
from within_epsilon.training.history import History
from within_epsilon.training.objectives import Attack, Objective, check_objective, standard
from within_epsilon.training.run import Run
from within_epsilon.training.updates import OptimizerGiven, Rhythm, ScheduleGiven, updates
from within_epsilon.training.validation import Validation


def fit(
    model: nn.Module,
    split: Given,
    objective: Objective = standard,
    *,
    epochs: int,
    batch_size: int,
    step_size: float | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    optimizer: OptimizerGiven | None = None,
    schedule: ScheduleGiven | None = None,
    schedule_every: Rhythm = "epoch",
    validation: Given | None = None,
    attack: Attack | None = None,
    ball: Ball | None = None,
    keep: Literal["last", "best"] = "last",
    checkpoint: str | Path | None = None,
    key: str | None = None,
    seed: int = 0,
    progress: bool = True,
    callback: Callable[[int, History], None] | None = None,
) -> History:
    r"""Train a classifier: minimise the mean of an objective by minibatch SGD.

    .. math:: \min_\theta \frac1m \sum_{i=1}^m \ell(h_\theta(x_i), y_i)

    Parameters
    ----------
    model : nn.Module
        Takes images, returns logits (N, k). Trained in place, on its own device, and
        left in eval mode.
    split : Labelled, pair of Tensors, Dataset or DataLoader
        Training examples: ``.images`` in [0, 1] and ``.labels``; the two as a pair; or a
        data set of such pairs, read anew in every epoch. A DataLoader brings its own
        minibatches, shuffled by itself.
    objective : callable
        ``objective(model, images, labels)`` returns the losses (N,) whose mean is to fall, with
        a graph to the parameters: `standard`, the default, is the cross-entropy; `Adversarial`,
        `Trades`, `SingleStep`, `Atta` and `Free` train against an adversary. One that takes
        ``indices`` is told where in the split the examples stand, (N,).
    epochs : int
        Passes over the training examples.
    batch_size : int
        Examples in a minibatch; those of a DataLoader stay as they are.
    step_size, momentum, weight_decay : float
        See `sgd_step`.
    optimizer : torch.optim.Optimizer or callable, optional
        In their place: an optimizer of the model's parameters, or what makes it of them, such as
        ``functools.partial(torch.optim.Adam, lr=0.002)``.
    schedule : LRScheduler or callable, optional
        What changes the optimizer's step size, or what makes it of the optimizer.
    schedule_every : {"epoch", "minibatch"}
        When the schedule takes its step.
    validation : as `split`, optional
        Examples to measure accuracy on after every epoch. Never the test split.
    attack : callable, optional
        ``attack(model, images, labels, ball)``, to measure robust accuracy on `validation`.
    ball : Ball, optional
        The threat model of `attack`; by default the objective's.
    keep : {"last", "best"}
        Which epoch's weights the model has at the end: the last one's, or those of the highest
        accuracy on `validation`, under `attack` if there is one. See `History.best_epoch`.
    checkpoint : path, optional
        A file for the state of the run, written whole after every epoch. If it is there, the run
        goes on from it, and ends with the same bits as one that was never interrupted, on the
        same machine. A larger `epochs` prolongs it.
    key : str, optional
        A name of your own for what `checkpoint` cannot see, such as functions of a notebook.
    seed : int
        Seed of the shuffles, of attacks, and of dropout if there is any.
    progress : bool
        Show a progress bar on a terminal.
    callback : callable, optional
        ``callback(epoch, history)`` after every epoch, from 0.

    Returns
    -------
    History
        Losses and accuracies per epoch.

    Raises
    ------
    TypeError
        If there are no images and labels where they are looked for, or something is of another
        kind than said above.
    ValueError
        If the data are unusable, settings contradict each other, no parameter can be trained,
        BatchNorm gets a minibatch of one, the checkpoint is damaged or of another run, or the
        loss stops being finite: then the model has the weights of the last good epoch.

    Notes
    -----
    An optimizer that measures the loss several times a step, such as LBFGS, does so on the same
    minibatch; attacks and dropout draw anew each time.

    A checkpoint is known by settings, architecture and training data, and holds weights, the
    optimizer's state, the schedule's and torch's generators, but not Python's and NumPy's, from
    which a data set's transforms may draw. It is read with ``weights_only=True``: it holds no
    code. An objective with ``state_dict`` and ``load_state_dict`` is kept too.
    """
    check_counts(epochs=epochs)
    check_model(model)
    check_objective(objective)
    device = device_of(model)
    examples = Examples(split, device)
    validated = Validation.of(validation, attack, ball, objective, device, keep)
    rule: dict[str, Any] = {
        "step_size": step_size,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "optimizer": optimizer,
        "schedule": schedule,
        "schedule_every": schedule_every,
    }
    moves = updates(model, **rule)
    run = Run(model, examples, objective, moves, batch_size, validated)
    kept = Checkpoint(None, {})
    if checkpoint is not None:
        others = rule | {"objective": objective, "batch_size": batch_size, "seed": seed}
        others["validation"] = validated.settings
        kept = Checkpoint(checkpoint, run_settings(model, examples, key, **others))
    with seeded(seed, device), run.ending_in_eval_mode():
        run.begin(seed, kept, epochs)
        rest = range(run.epochs, epochs)
        bar = progress_bar(rest, show=progress, label="training", unit="epoch", done=run.epochs)
        for epoch in bar:
            run.epoch(epoch)
            kept.save(run.state)
            bar.set_postfix_str(str(run.history))
            if callback is not None:
                callback(epoch, run.history)
    run.finish()
    return run.history


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator, from which dropout and attacks draw, and put it back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
