"""Grading notebooks that strangers wrote: run in a kernel, checked elsewhere, reported.

`grade` does one submission; `results` writes what came out. See the page "For lecturers".
"""

from within_epsilon.grading.grader import exercises_of, grade
from within_epsilon.grading.processes import Limits
from within_epsilon.grading.results import Grade, Mark

__all__ = ["Grade", "Limits", "Mark", "exercises_of", "grade"]
