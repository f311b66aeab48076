"""Attacks: functions that take a model, images and labels and return worse images.

Each line below brings in one attack; its file marks it for the registry, from which reports,
tables and tests take what they know of it.
"""

from within_epsilon.attacks.black_box.hop_skip_jump import hop_skip_jump as hop_skip_jump
from within_epsilon.attacks.black_box.noise import noise_control as noise_control
from within_epsilon.attacks.black_box.noise import random_noise as random_noise
from within_epsilon.attacks.black_box.noise import starting_points as starting_points
from within_epsilon.attacks.black_box.square import square as square
from within_epsilon.attacks.core.counting import Evaluations as Evaluations
from within_epsilon.attacks.core.counting import count_evaluations as count_evaluations
from within_epsilon.attacks.core.description import describe as describe
from within_epsilon.attacks.core.in_turn import Fallen as Fallen
from within_epsilon.attacks.core.in_turn import StageCallback as StageCallback
from within_epsilon.attacks.core.in_turn import check_admitted as check_admitted
from within_epsilon.attacks.core.in_turn import in_turn as in_turn
from within_epsilon.attacks.core.minimal import Minimal as Minimal
from within_epsilon.attacks.core.objective import Callback as Callback
from within_epsilon.attacks.core.objective import Loss as Loss
from within_epsilon.attacks.core.objective import input_gradient as input_gradient
from within_epsilon.attacks.core.registry import REGISTRY as REGISTRY
from within_epsilon.attacks.core.registry import WithinBall as WithinBall
from within_epsilon.attacks.core.registry import attack as attack
from within_epsilon.attacks.core.registry import settings as settings
from within_epsilon.attacks.core.registry import stages_of as stages_of
from within_epsilon.attacks.core.registry import takes as takes
from within_epsilon.attacks.ensemble import autoattack as autoattack
from within_epsilon.attacks.minimal_norm.carlini_wagner import carlini_wagner as carlini_wagner
from within_epsilon.attacks.minimal_norm.ddn import ddn as ddn
from within_epsilon.attacks.minimal_norm.deepfool import deepfool as deepfool
from within_epsilon.attacks.minimal_norm.fab import fab as fab
from within_epsilon.attacks.minimal_norm.fmn import fmn as fmn
from within_epsilon.attacks.minimal_norm.sigma_zero import sigma_zero as sigma_zero
from within_epsilon.attacks.rejection import unnoticed as unnoticed
from within_epsilon.attacks.rejection import unnoticed_margin as unnoticed_margin
from within_epsilon.attacks.universal.patch import adversarial_patch as adversarial_patch
from within_epsilon.attacks.universal.patch import apply_patch as apply_patch
from within_epsilon.attacks.universal.perturbation import (
    universal_perturbation as universal_perturbation,
)
from within_epsilon.attacks.white_box.apgd import apgd as apgd
from within_epsilon.attacks.white_box.fgsm import fgsm as fgsm
from within_epsilon.attacks.white_box.multi_targeted import multi_targeted as multi_targeted
from within_epsilon.attacks.white_box.pgd import pgd as pgd
from within_epsilon.attacks.wrappers import Averaged as Averaged
from within_epsilon.attacks.wrappers import BackwardAs as BackwardAs
