#!/bin/sh
# The gradients that cleverhans' SPSA estimates are not its picture's: it hands the picture to a function
# that adds it to itself, and asks in every step about twice the clean picture, with pixels up to 2. A model
# that clamps its input is dark there, and stands; asked about the picture itself, all of them fall.
set -eu
. "$(dirname "$0")/environment.sh"

python_with cleverhans==4.0.0 torch==2.15.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import numpy as np
import torch
from cleverhans.torch.attacks.spsa import spsa

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
).eval()
images = 0.5 + 0.5 * torch.rand(40, 1, 8, 8)
asked = []


@torch.no_grad()
def model(pictures):
    asked.append(float(pictures.max()))
    return network(pictures.clamp(0, 1))


def fooled(moved):
    """How many SPSA fools, with the pictures of its estimates moved back by the image, or not."""
    count = 0
    for image, label in zip(images.split(1), labels.split(1)):
        options = {"eps": 0.06, "nb_iter": 20, "norm": np.inf, "clip_min": 0, "clip_max": 1, "y": label}
        options |= {"spsa_samples": 64, "spsa_iters": 1, "early_stop_loss_threshold": 0}
        found = spsa(lambda x: model(x - image if moved and len(x) > 1 else x), image, **options)
        count += int(model(found).argmax() != label)
    return count


labels = model(images).argmax(dim=1)
as_it_is = fooled(moved=False)
highest = max(asked)
asked.clear()
at_the_image = fooled(moved=True)
print(f"cleverhans {version('cleverhans')}: SPSA asks about pixels up to {highest:.2f} and fools {as_it_is} of 40; ", end="")
print(f"made to ask about the image, up to {max(asked):.2f}, it fools {at_the_image}")
assert highest > 1.9 and max(asked) < 1.1
assert as_it_is < 15 and at_the_image > 35
PY
