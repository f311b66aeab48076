"""Adversarial robustness, from the first gradient on: the library under the book."""

__version__ = "0.1.0"
