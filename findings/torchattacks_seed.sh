#!/bin/sh
# torchattacks' APGD, FAB and Square set the seed of torch's global generator, to 0 by default:
# whatever is drawn after an attack is the same in every run, whichever seed the program chose.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torchattacks==3.5.1 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
import torch
import torchattacks

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
images = torch.rand(4, 1, 8, 8)
labels = model(images).argmax(dim=1)
attacks = {
    "PGD": torchattacks.PGD(model, eps=0.01, steps=2),
    "APGD": torchattacks.APGD(model, eps=0.01, steps=2),
    "FAB": torchattacks.FAB(model, eps=0.01, steps=2, n_classes=10),
    "Square": torchattacks.Square(model, eps=0.01, n_queries=2),
}
same = {}
for name, attack in attacks.items():
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        attack(images, labels)
        drawn.append(torch.initial_seed())
    same[name] = drawn[0] == drawn[1] == 0
print(f"torchattacks {torchattacks.__version__}: global seed is 0 after the attack: {same}")
assert same == {"PGD": False, "APGD": True, "FAB": True, "Square": True}
PY
