#!/bin/sh
# PReLU's derivative at 0 is its slope in reverse mode (`grad`, `jacrev`) and 1 in forward mode (`jvp`,
# `jacfwd`), where leaky ReLU's is the slope in both. Wherever features are exactly 0, as those of black
# pixels without a bias are, the two modes disagree, in float64 too: a slope along a direction is another,
# and a Jacobian too.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torch==2.15.0 numpy==2.4.6 scikit-learn==1.9.1 <<'PY'
import torch
from sklearn.datasets import load_digits
from torch.func import grad, jacfwd, jacrev, jvp
from torch.nn import Conv2d, Flatten, LeakyReLU, Linear, PReLU, Sequential


def slopes(activation):
    """In how many of 100 digits the two modes' slopes along a direction are not the same, and by what share."""
    torch.manual_seed(0)
    layers = Conv2d(1, 8, 3, padding=1, bias=False), activation, Flatten(), Linear(512, 10)
    network = Sequential(*layers).double().eval().requires_grad_(False)
    shares = []
    for image in torch.tensor(load_digits().images[:100] / 16).reshape(-1, 1, 1, 8, 8):
        direction = torch.randn_like(image)

        def loss(pixels):
            return network(pixels).logsumexp(dim=1).sum()

        forward = jvp(loss, (image,), (direction,))[1]
        reverse = (grad(loss)(image) * direction).sum()
        shares.append(float(abs(forward - reverse) / reverse.abs()))
    shares = torch.tensor(shares)
    return int((shares > 1e-9).sum()), round(float(shares.median()), 2)


zero = torch.zeros(1)
seen = {name: slopes(activation) for name, activation in (("PReLU", PReLU()), ("leaky ReLU", LeakyReLU(0.25)))}
modes = {name: float(way(PReLU())(zero)) for name, way in (("forward", jacfwd), ("reverse", jacrev))}
print(f"torch {torch.__version__.split('+')[0]}: PReLU's derivative at 0 by mode: {modes}; ", end="")
print(f"digits of 100 whose slopes along a direction differ by mode, and the median difference: {seen}")
assert modes == {"forward": 1.0, "reverse": 0.25}
assert seen["PReLU"][0] > 90 and seen["PReLU"][1] > 0.02 and seen["leaky ReLU"][0] == 0
PY
