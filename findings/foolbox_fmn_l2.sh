#!/bin/sh
# foolbox's L2FMNAttack never projects onto its ball: the factor that should shorten a
# perturbation is min(1, norms / norms), which is 1. On a linear model, where the least distance
# is known, it ends several times too far out, however many steps it takes; L2 DDN does not.
set -eu
. "$(dirname "$0")/environment.sh"

python_with foolbox==3.3.4 torch==2.15.0 numpy==2.4.6 "setuptools<81" <<'PY'
import foolbox
import torch

torch.manual_seed(0)
linear = torch.nn.Linear(64, 2)
model = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
images = 0.3 + 0.4 * torch.rand(50, 1, 8, 8)
with torch.no_grad():
    logits = model(images)
labels = logits.argmax(dim=1)
slope = (linear.weight[0] - linear.weight[1]).detach().norm()
least = (logits[:, 0] - logits[:, 1]).abs() / slope

wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))


def times_too_far(attack):
    _, images_adv, fooled = attack(wrapped, images, labels, epsilons=None)
    assert fooled.all()
    return ((images_adv - images).flatten(1).norm(dim=1) / least).median().item()


fmn = {steps: times_too_far(foolbox.attacks.L2FMNAttack(steps=steps)) for steps in (100, 1000)}
ddn = times_too_far(foolbox.attacks.DDNAttack(steps=100))
print(f"foolbox {foolbox.__version__}: median distance over the least: ", end="")
print(f"L2FMN {fmn[100]:.2f} (100 steps), {fmn[1000]:.2f} (1,000 steps), DDN {ddn:.2f}")
assert min(fmn.values()) > 2
assert ddn < 1.1
PY
