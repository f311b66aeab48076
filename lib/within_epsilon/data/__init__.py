"""Data, checked on the way in: images as tensors in [0, 1] and files by their SHA-256."""

from within_epsilon.data.digit_sets import Digits, Split, digits, mnist
from within_epsilon.data.files import DataUnavailableError, available, fetch, shipped
from within_epsilon.data.photos import photo

__all__ = [
    "DataUnavailableError",
    "Digits",
    "Split",
    "available",
    "digits",
    "fetch",
    "mnist",
    "photo",
    "shipped",
]
