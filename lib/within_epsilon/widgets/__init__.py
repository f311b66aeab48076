"""Explorers: one front end that is live beside a kernel and alive in the page without one.

Each explorer is a widget (`anywidget`) in JupyterLab, Colab and VS Code; in the rendered book the
same front-end module reads the same state from the page. Needs the `notebooks` extra.
"""

from within_epsilon.widgets.balls import BallExplorer
from within_epsilon.widgets.base import Explorer
from within_epsilon.widgets.branching import BranchingExplorer
from within_epsilon.widgets.broadcast import BroadcastExplorer
from within_epsilon.widgets.converter import EpsilonConverter
from within_epsilon.widgets.defence_rounds import digit_rounds, recorded_rounds
from within_epsilon.widgets.defences import Case, DefenceExplorer, record_case
from within_epsilon.widgets.digit_lab import DigitLab
from within_epsilon.widgets.epsilon import EpsilonExplorer
from within_epsilon.widgets.linear import LinearExplorer
from within_epsilon.widgets.logits import LogitsExplorer
from within_epsilon.widgets.margin import MarginExplorer
from within_epsilon.widgets.pgd import PGDExplorer
from within_epsilon.widgets.photo_lab import PhotoLab
from within_epsilon.widgets.proof_networks import digits_mlp, disc_network
from within_epsilon.widgets.sandwich import SandwichExplorer
from within_epsilon.widgets.sgd import SGDExplorer
from within_epsilon.widgets.smoothing import SmoothingExplorer
from within_epsilon.widgets.symbols import Symbol, SymbolExplorer
from within_epsilon.widgets.training import TrainingExplorer
from within_epsilon.widgets.triangle import TriangleExplorer

__all__ = [
    "BallExplorer",
    "BranchingExplorer",
    "BroadcastExplorer",
    "Case",
    "DefenceExplorer",
    "DigitLab",
    "EpsilonConverter",
    "EpsilonExplorer",
    "Explorer",
    "LinearExplorer",
    "LogitsExplorer",
    "MarginExplorer",
    "PGDExplorer",
    "PhotoLab",
    "SGDExplorer",
    "SandwichExplorer",
    "SmoothingExplorer",
    "Symbol",
    "SymbolExplorer",
    "TrainingExplorer",
    "TriangleExplorer",
    "digit_rounds",
    "digits_mlp",
    "disc_network",
    "record_case",
    "recorded_rounds",
]
