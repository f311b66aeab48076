"""Attacks: functions that take a model, images and labels and return worse images."""

from within_epsilon.attacks.apgd import apgd, multi_targeted
from within_epsilon.attacks.common import Loss, input_gradient
from within_epsilon.attacks.counting import Evaluations, count_evaluations
from within_epsilon.attacks.description import Attack, describe, settings, takes
from within_epsilon.attacks.gradient import Callback, fgsm, pgd
from within_epsilon.attacks.noise import noise_control, random_noise
from within_epsilon.attacks.square import square

__all__ = [
    "Attack",
    "Callback",
    "Evaluations",
    "Loss",
    "apgd",
    "count_evaluations",
    "describe",
    "fgsm",
    "input_gradient",
    "multi_targeted",
    "noise_control",
    "pgd",
    "random_noise",
    "settings",
    "square",
    "takes",
]
