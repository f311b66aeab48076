"""Evaluation: how often a classifier is right, with and without an adversary."""

from within_epsilon.evaluation.accuracies import accuracy, blank_report, robust_accuracy
from within_epsilon.evaluation.checklist.sanity import sanity_report
from within_epsilon.evaluation.core.examples import Data
from within_epsilon.evaluation.curves import RobustCurve, robust_curve
from within_epsilon.evaluation.diagnosis.diagnose import DoubtfulEvaluationWarning, diagnose
from within_epsilon.evaluation.diagnosis.stages import check_stages
from within_epsilon.evaluation.running import findings_of_parts
from within_epsilon.evaluation.verdicts import verdict
from within_epsilon.reports import (
    Check,
    Finding,
    RobustReport,
    SanityReport,
    Stage,
    merge,
    wilson_interval,
)

__all__ = [
    "Check",
    "Data",
    "DoubtfulEvaluationWarning",
    "Finding",
    "RobustCurve",
    "RobustReport",
    "SanityReport",
    "Stage",
    "accuracy",
    "blank_report",
    "check_stages",
    "diagnose",
    "findings_of_parts",
    "merge",
    "robust_accuracy",
    "robust_curve",
    "sanity_report",
    "verdict",
    "wilson_interval",
]
