#!/bin/sh
# torchattacks' CW compares the label's logit with those of the others times a mask, in which the
# label's own place counts as a logit of 0. Subtract 20 from all logits, which changes no answer of
# the model, and 0 is above them all: the attack believes that it has won, and stands still.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torchattacks==3.5.1 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
import torch
import torchattacks

torch.manual_seed(0)
linear = torch.nn.Linear(64, 10)
model = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
images = 0.3 + 0.4 * torch.rand(60, 1, 8, 8)
labels = model(images).argmax(dim=1)
fooled = {}
for offset in (0, -20):
    with torch.no_grad():
        linear.bias += offset
    assert torch.equal(model(images).argmax(dim=1), labels)
    images_adv = torchattacks.CW(model, c=10, steps=100, lr=0.01)(images, labels)
    fooled[offset] = int((model(images_adv).argmax(dim=1) != labels).sum())
print(f"torchattacks {torchattacks.__version__}: CW fools {fooled[0]} of 60, ", end="")
print(f"{fooled[-20]} with 20 subtracted from all logits")
assert fooled[0] > 50
assert fooled[-20] == 0
PY
