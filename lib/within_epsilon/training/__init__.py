"""Training: one loop for every objective, with and without an adversary."""

from within_epsilon.training.cheap import Free, SingleStep
from within_epsilon.training.history import History
from within_epsilon.training.loop import fit
from within_epsilon.training.objectives import Adversarial, Objective, Trades, standard
from within_epsilon.training.sgd import minibatches, sgd_step

__all__ = [
    "Adversarial",
    "Free",
    "History",
    "Objective",
    "SingleStep",
    "Trades",
    "fit",
    "minibatches",
    "sgd_step",
    "standard",
]
