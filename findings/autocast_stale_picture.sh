#!/bin/sh
# Inside a block of torch.autocast, the half-precision copy of a float32 leaf that requires a
# gradient is made once and kept to the end of the block. That is meant for weights, and hits
# pictures: an attack that moves its picture in place sees the first one in every step, and so does
# whoever asks for the answer inside the block. An attack that makes new pictures is right, but
# none of them is freed before the block ends.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torch==2.13.0 numpy==2.4.6 <<'PY'
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 10)
).eval()
images = torch.rand(64, 1, 8, 8)


def right(pictures):
    with torch.no_grad():
        return int((model(pictures).argmax(dim=1) == labels).sum())


def pgd(in_place):
    picture, slopes, kept = images.clone().requires_grad_(), [], []
    for _ in range(20):
        loss = functional.cross_entropy(model(picture), labels)
        slopes += torch.autograd.grad(loss, picture)
        kept.append(StorageWeakRef(picture.untyped_storage()))
        with torch.no_grad():
            moved = picture + 0.01 * slopes[-1].sign()
            moved = (images + (moved - images).clamp(-0.1, 0.1)).clamp(0, 1)
            if in_place:
                picture.copy_(moved)
            else:
                picture = moved.requires_grad_()
    alive = sum(not one.expired() for one in kept[:-1])
    return picture, len({one.numpy().tobytes() for one in slopes}), alive


for in_place in (True, False):
    labels = model(images).argmax(dim=1)
    without = right(pgd(in_place)[0])
    with torch.autocast("cpu", torch.bfloat16):
        labels = model(images).argmax(dim=1)
        picture, gradients, alive = pgd(in_place)
        inside = right(picture)
    with torch.autocast("cpu", torch.bfloat16):
        after = right(picture)
    how = "one picture moved in place" if in_place else f"new pictures, {alive} of 19 not freed"
    print(f"torch {torch.__version__}, {how}: {gradients} gradients in 20 steps; right of 64: ", end="")
    print(f"{without} without autocast, {inside} in the block, {after} in the next block")
    assert without < 8
    assert after < 8
    assert (gradients, inside) == ((1, 64) if in_place else (20, after))
    assert alive == 19
PY
