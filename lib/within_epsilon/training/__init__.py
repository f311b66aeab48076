"""Training: one loop for every objective, with and without an adversary."""

from within_epsilon.training.certified import (
    IBP,
    CrownIBP,
    MtlIBP,
    bounded_margins,
    worst_cross_entropy,
)
from within_epsilon.training.cheap import Atta, Free, SingleStep
from within_epsilon.training.history import History
from within_epsilon.training.loop import fit
from within_epsilon.training.objectives import Adversarial, Objective, Trades, standard
from within_epsilon.training.sgd import minibatches, sgd_step

__all__ = [
    "IBP",
    "Adversarial",
    "Atta",
    "CrownIBP",
    "Free",
    "History",
    "MtlIBP",
    "Objective",
    "SingleStep",
    "Trades",
    "bounded_margins",
    "fit",
    "minibatches",
    "sgd_step",
    "standard",
    "worst_cross_entropy",
]
