#!/bin/sh
# Opacus' hooks write down per-example gradients of the weights in every backward pass, also where
# `autograd.grad` asks for the gradient of the pictures alone. Adversarial training with K steps of PGD then
# takes the mean of K + 1 clipped gradients of each example, K of them of pictures on the way, and divides
# the noise by K + 1: nine steps leave a tenth of the noise, and the most that one example can move is the
# same. The accountant counts a batch of K + 1 times the examples with all the noise, and so a much smaller ε.
# (With Poisson sampling, the default, it refuses instead.)
set -eu
. "$(dirname "$0")/environment.sh"

python_with opacus==1.6.0 torch==2.15.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from opacus import PrivacyEngine
from opacus.accountants import RDPAccountant
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

RATE, NOISE, CLIP, STEPS = 1.0, 1.0, 1.0, 9
torch.manual_seed(0)
images, labels = torch.rand(3200, 20), torch.randint(0, 3, (3200,))


def change(scale, noise, steps, seed=0, poisson=False):
    """How one step of training with PGD moves the weights, the first picture being multiplied by `scale`."""
    torch.manual_seed(0)
    network = torch.nn.Linear(20, 3)
    torch.manual_seed(seed)
    data = images.clone()
    data[0] *= scale
    loader = DataLoader(TensorDataset(data, labels), batch_size=32)
    engine = PrivacyEngine(accountant="rdp")
    model, optimiser, loader = engine.make_private(
        module=network, optimizer=torch.optim.SGD(network.parameters(), RATE), data_loader=loader,
        noise_multiplier=noise, max_grad_norm=CLIP, poisson_sampling=poisson,
    )
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    for batch, classes in loader:
        optimiser.zero_grad()
        start, batch_adv = batch, batch
        for _ in range(steps):
            leaf = batch_adv.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(model(leaf), classes), leaf)
            batch_adv = start + (batch_adv + 0.01 * gradient.sign() - start).clamp(-0.03, 0.03)
        cross_entropy(model(batch_adv), classes).backward()
        optimiser.step()
        break
    history[steps] = engine.accountant.history
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


seen, history = {}, {}
for steps in (0, STEPS):
    moved = (change(100, 0.0, steps) - change(-100, 0.0, steps)).norm()
    still = change(1, 0.0, steps)
    spread = torch.stack([change(1, NOISE, steps, seed) - still for seed in range(60)]).std()
    seen[steps] = round(float(32 * moved), 2), round(float(32 * spread), 3)
print(f"opacus {version('opacus')}, noise multiplier 1, clipping at 1, in units of one example of the batch's mean: ", end="")
print(f"the most that one picture moved, and the noise, by steps of PGD: {seen}")
of_hundred = {}
for name, noise, rate in (
    ("without the attack", *history[0][0][:2]),
    ("with it, as accounted for", *history[STEPS][0][:2]),
    ("with it, by the noise", NOISE / (STEPS + 1), history[0][0][1]),
):
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, 100)]
    of_hundred[name] = round(float(accountant.get_epsilon(1e-5)), 1)
print(f"ε of 100 steps, for δ = 1e-5: {of_hundred}")
assert max(abs(moved - 1) for moved, _ in seen.values()) < 0.01
assert abs(seen[0][1] - 1) < 0.05 and abs(seen[STEPS][1] - 0.1) < 0.005
assert of_hundred["without the attack"] < 2 and of_hundred["with it, as accounted for"] < 10
assert of_hundred["with it, by the noise"] > 500
try:
    change(1, NOISE, STEPS, poisson=True)
except ValueError as error:
    print("with Poisson sampling:", str(error)[:60])
else:
    raise AssertionError("Poisson sampling took the attack's gradients, too")
PY
