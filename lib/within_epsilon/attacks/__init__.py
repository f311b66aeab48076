"""Attacks: functions that take a model, images and labels and return worse images."""

from within_epsilon.attacks.apgd import apgd, multi_targeted
from within_epsilon.attacks.boundary import boundary
from within_epsilon.attacks.carlini_wagner import carlini_wagner
from within_epsilon.attacks.common import Loss, input_gradient
from within_epsilon.attacks.counting import Evaluations, count_evaluations
from within_epsilon.attacks.deepfool import deepfool
from within_epsilon.attacks.description import Attack, describe, settings, takes
from within_epsilon.attacks.ensemble import StageCallback, autoattack
from within_epsilon.attacks.fmn import fmn
from within_epsilon.attacks.gradient import Callback, fgsm, pgd
from within_epsilon.attacks.minimal import Minimal
from within_epsilon.attacks.noise import noise_control, random_noise, starting_points
from within_epsilon.attacks.patch import adversarial_patch, apply_patch
from within_epsilon.attacks.square import square
from within_epsilon.attacks.universal import universal_perturbation

__all__ = [
    "Attack",
    "Callback",
    "Evaluations",
    "Loss",
    "Minimal",
    "StageCallback",
    "adversarial_patch",
    "apgd",
    "apply_patch",
    "autoattack",
    "boundary",
    "carlini_wagner",
    "count_evaluations",
    "deepfool",
    "describe",
    "fgsm",
    "fmn",
    "input_gradient",
    "multi_targeted",
    "noise_control",
    "pgd",
    "random_noise",
    "settings",
    "square",
    "starting_points",
    "takes",
    "universal_perturbation",
]
