"""Reports: a robust accuracy never travels without what it depends on."""

from within_epsilon.reports.intervals import wilson_interval
from within_epsilon.reports.parts import Finding, Stage
from within_epsilon.reports.report import RobustReport, differences, merge

__all__ = ["Finding", "RobustReport", "Stage", "differences", "merge", "wilson_interval"]
