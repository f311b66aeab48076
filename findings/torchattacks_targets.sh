#!/bin/sh
# torchattacks' AutoAttack, told the number of classes as its documentation asks, attacks every
# other class; AutoAttack as published attacks nine. With 50 classes its targeted parts take 49
# runs each, with 1,000 they would take 999. Told a smaller number, it attacks so many but one.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torchattacks==3.5.1 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
import torch
import torchattacks

CLASSES = 50
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES)).eval()
images = torch.rand(2, 1, 8, 8)
labels = model(images).argmax(dim=1)
passes = 0


def count(*_):
    global passes
    passes += 1


model.register_forward_hook(count)
for part in (torchattacks.APGDT, torchattacks.FAB):
    more = {"multi_targeted": True} if part is torchattacks.FAB else {}
    taken = {}
    for n_classes in (2, 10, CLASSES):
        passes = 0
        # So small a radius that everything stands, and no run is cut short.
        part(model, eps=1e-6, steps=3, n_classes=n_classes, **more)(images, labels)
        taken[n_classes] = passes
    each = (taken[10] - taken[2]) / 8
    runs = {n: 1 + round((taken[n] - taken[2]) / each) for n in taken}
    print(f"torchattacks {torchattacks.__version__} {part.__name__}: passes {taken}, runs {runs}")
    assert runs == {2: 1, 10: 9, CLASSES: CLASSES - 1}
PY
