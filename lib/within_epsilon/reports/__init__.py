"""Reports: a robust accuracy never travels without what it depends on."""

from within_epsilon.reports.intervals import wilson_interval
from within_epsilon.reports.parts import Finding, Stage
from within_epsilon.reports.report import RobustReport, differences, merge
from within_epsilon.reports.sanity import Check, SanityReport

__all__ = [
    "Check",
    "Finding",
    "RobustReport",
    "SanityReport",
    "Stage",
    "differences",
    "merge",
    "wilson_interval",
]
