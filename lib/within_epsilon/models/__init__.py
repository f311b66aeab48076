"""Classifiers: one type for all, small networks for digits, ImageNet networks for photos."""

from within_epsilon.models.classifier import Classifier, Prediction
from within_epsilon.models.layers import Layer, read_layers
from within_epsilon.models.normalize import Normalize
from within_epsilon.models.photos import photo_classifier
from within_epsilon.models.residual import Residual
from within_epsilon.models.small import digits_classifier, mlp, small_cnn

__all__ = [
    "Classifier",
    "Layer",
    "Normalize",
    "Prediction",
    "Residual",
    "digits_classifier",
    "mlp",
    "photo_classifier",
    "read_layers",
    "small_cnn",
]
