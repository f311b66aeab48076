"""Evaluation: how often a classifier is right, with and without an adversary."""

from within_epsilon.evaluation.accuracies import accuracy, robust_accuracy
from within_epsilon.evaluation.batches import Data
from within_epsilon.evaluation.doubts import DoubtfulEvaluationWarning
from within_epsilon.evaluation.verdicts import verdict
from within_epsilon.reports import RobustReport, wilson_interval

__all__ = [
    "Data",
    "DoubtfulEvaluationWarning",
    "RobustReport",
    "accuracy",
    "robust_accuracy",
    "verdict",
    "wilson_interval",
]
