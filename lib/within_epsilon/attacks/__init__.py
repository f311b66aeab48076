"""Attacks: functions that take a model, images and labels and return worse images."""

from within_epsilon.attacks.gradient import Callback, Loss, fgsm, input_gradient, pgd
from within_epsilon.attacks.noise import noise_control, random_noise

__all__ = [
    "Callback",
    "Loss",
    "fgsm",
    "input_gradient",
    "noise_control",
    "pgd",
    "random_noise",
]
