"""Proofs that there is no adversarial example, and what they rest on."""

from within_epsilon.verification.branch_and_bound import branch_and_bound
from within_epsilon.verification.certificate import Certificate, certify
from within_epsilon.verification.domain import Box
from within_epsilon.verification.exact import exact, lp
from within_epsilon.verification.formats.onnx_file import read_onnx
from within_epsilon.verification.formats.onnx_writer import write_onnx
from within_epsilon.verification.formats.vnnlib import Query, read_vnnlib
from within_epsilon.verification.formats.vnnlib_writer import write_vnnlib
from within_epsilon.verification.interval import ibp
from within_epsilon.verification.linear import LinearBounds, crown
from within_epsilon.verification.objective import rivals
from within_epsilon.verification.query import Answer, answer
from within_epsilon.verification.search import Progress
from within_epsilon.verification.smoothing import (
    Smoothed,
    certify_smoothed,
    clopper_pearson_lower,
    count_votes,
    radius_of,
)
from within_epsilon.verification.values import Interval

__all__ = [
    "Answer",
    "Box",
    "Certificate",
    "Interval",
    "LinearBounds",
    "Progress",
    "Query",
    "Smoothed",
    "answer",
    "branch_and_bound",
    "certify",
    "certify_smoothed",
    "clopper_pearson_lower",
    "count_votes",
    "crown",
    "exact",
    "ibp",
    "lp",
    "radius_of",
    "read_onnx",
    "read_vnnlib",
    "rivals",
    "write_onnx",
    "write_vnnlib",
]
