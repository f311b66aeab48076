#!/bin/sh
# Between torch 2.13 and 2.14 the gradient of clamp at its bounds went from 1 to 0, with bounds
# given as tensors to 1/2. A model or an attack that clamps pixels to [0, 1] inside the graph has
# no gradient since then where pixels are black or white, and nothing says so.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import torch

expected = {"2.13.0": ([1, 1, 1], [1, 1, 1]), "2.14.0": ([0, 1, 0], [0.5, 1, 0.5])}
seen = []
for bounds in ((0.0, 1.0), (torch.zeros(3), torch.ones(3))):
    pixels = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    pixels.clamp(*bounds).sum().backward()
    seen.append(pixels.grad.tolist())
version = torch.__version__.split("+")[0]
print(f"torch {version}: gradient of clamp at 0, 1/2, 1: {seen[0]}, with tensors {seen[1]}")
assert tuple(seen) == expected[version], f"expected {expected[version]}"
PY
python_with torch==2.13.0 numpy==2.4.6 < "$program"
python_with torch==2.14.0 numpy==2.4.6 < "$program"
