#!/bin/sh
# Layers of deel-torchlip are 1-Lipschitz, so a margin over the square root of 2 certifies a radius. With
# ceil_mode=True, which they take, its pooling layers are not: a window that hangs over the edge is averaged
# over what it has, and scaled as if it were full. Nor is a convolution padded with padding_mode="reflect".
set -eu
. "$(dirname "$0")/environment.sh"

python_with deel-torchlip==1.0.5 torch==2.15.0 numpy==2.4.6 <<'PY'
from importlib.metadata import version

import torch
from deel import torchlip


def stretch(layer, size=5):
    """The greatest singular value of the layer's Jacobian at a picture."""
    pixels = 1 + torch.arange(size * size, dtype=torch.float32)
    jacobian = torch.func.jacrev(lambda x: layer(x.reshape(1, 1, size, size)).flatten())(pixels)
    return torch.linalg.matrix_norm(jacobian, 2)


torch.manual_seed(0)
seen = {}
for name in ("ScaledAvgPool2d", "ScaledL2NormPool2d"):
    for ceil in (False, True):
        seen[f"{name}, ceil_mode={ceil}"] = float(stretch(getattr(torchlip, name)(2, ceil_mode=ceil)))
for mode in ("zeros", "reflect"):
    # Trained to stretch, as far as the layer lets it.
    layer = torchlip.SpectralConv2d(1, 1, 3, padding=1, padding_mode=mode, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (-stretch(layer)).backward()
        optimizer.step()
    seen[f"SpectralConv2d, {mode}"] = float(stretch(layer.eval()))

# The corner's pixel is a window of its own, 0.1 brighter than the first window: 0.11 less, and it is not.
network = torch.nn.Sequential(torchlip.ScaledAvgPool2d(2, ceil_mode=True), torch.nn.Flatten())
image = torch.zeros(1, 1, 3, 3)
image[0, 0, :2, :2], image[0, 0, 2, 2] = 0.5, 0.6
near = image.clone()
near[0, 0, 2, 2] -= 0.11
best = network(image)[0].topk(2).values
radius, distance = float((best[0] - best[1]) / 2**0.5), float((near - image).norm())
classes = [int(network(one).argmax()) for one in (image, near)]
rounded = {name: round(one, 2) for name, one in seen.items()}
print(f"deel-torchlip {version('deel-torchlip')}, greatest singular values: {rounded}; ", end="")
print(f"a margin that certifies {radius:.2f}, and at {distance:.2f} class {classes[1]} for class {classes[0]}")
assert rounded["ScaledAvgPool2d, ceil_mode=True"] == rounded["ScaledL2NormPool2d, ceil_mode=True"] == 2
assert rounded["ScaledAvgPool2d, ceil_mode=False"] == rounded["ScaledL2NormPool2d, ceil_mode=False"] == 1
assert rounded["SpectralConv2d, zeros"] < 0.9 and rounded["SpectralConv2d, reflect"] > 1.05
assert distance < radius - 0.02 and classes == [3, 0]
PY
