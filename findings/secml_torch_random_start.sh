#!/bin/sh
# SecML-Torch adds the noise of a random start to the picture, and projects the sum onto the ball around 0:
# what comes out is the picture itself, cut off or shrunk to size. Nearly all pixels begin at +eps, two
# starts differ in 4% of them, and restarts of PGD, or noise to compare with, are one and the same.
set -eu
. "$(dirname "$0")/environment.sh"

python_with secml-torch==1.5 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from secmlt.adv.evasion.perturbation_models import LpPerturbationModels
from secmlt.optimization.initializer import RandomLpInitializer
from torch.nn.functional import cosine_similarity

torch.manual_seed(0)
images = torch.rand(200, 1, 8, 8)
cosines = {}
for norm, radius in ((LpPerturbationModels.LINF, 0.03), (LpPerturbationModels.L2, 0.5)):
    start = RandomLpInitializer(radius, norm)
    one, other = start(images).flatten(1), start(images).flatten(1)
    true = torch.randn_like(one) if norm == LpPerturbationModels.L2 else torch.rand_like(one) - 0.5
    cosines[norm] = {
        "each other": round(float(cosine_similarity(one, other).mean()), 2),
        "the picture": round(float(cosine_similarity(one, images.flatten(1)).mean()), 2),
        "noise and the picture": round(float(cosine_similarity(true, images.flatten(1)).mean()), 2),
    }
    if norm == LpPerturbationModels.LINF:
        bright = float((one >= 0.9999 * radius).float().mean())
print(f"secml-torch {version('secml-torch')}, cosine of random starts with {cosines}; {bright:.0%} of pixels start at +eps")
assert bright > 0.9
assert all(one["each other"] > 0.95 and one["the picture"] > 0.8 for one in cosines.values())
assert all(abs(one["noise and the picture"]) < 0.05 for one in cosines.values())
PY
