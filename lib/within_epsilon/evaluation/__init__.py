"""Evaluation: how often a classifier is right, with and without an adversary."""

from within_epsilon.evaluation.accuracies import accuracy, robust_accuracy
from within_epsilon.evaluation.curves import RobustCurve, robust_curve
from within_epsilon.evaluation.diagnosis import DoubtfulEvaluationWarning, diagnose
from within_epsilon.evaluation.examples import Data
from within_epsilon.evaluation.verdicts import verdict
from within_epsilon.evaluation.watching import check_stages
from within_epsilon.reports import Finding, RobustReport, Stage, merge, wilson_interval

__all__ = [
    "Data",
    "DoubtfulEvaluationWarning",
    "Finding",
    "RobustCurve",
    "RobustReport",
    "Stage",
    "accuracy",
    "check_stages",
    "diagnose",
    "merge",
    "robust_accuracy",
    "robust_curve",
    "verdict",
    "wilson_interval",
]
