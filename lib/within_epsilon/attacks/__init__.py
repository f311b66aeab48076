"""Attacks: functions that take a model, images and labels and return worse images."""

from within_epsilon.attacks.common import Loss, input_gradient
from within_epsilon.attacks.counting import Evaluations, count_evaluations
from within_epsilon.attacks.description import Attack, describe, settings, takes
from within_epsilon.attacks.gradient import Callback, fgsm, pgd
from within_epsilon.attacks.noise import noise_control, random_noise

__all__ = [
    "Attack",
    "Callback",
    "Evaluations",
    "Loss",
    "count_evaluations",
    "describe",
    "fgsm",
    "input_gradient",
    "noise_control",
    "pgd",
    "random_noise",
    "settings",
    "takes",
]
