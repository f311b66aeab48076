#!/bin/sh
# torch.autograd.grad(losses, images, weights) has the gradient of (weights * losses).sum(), to the
# bit. The first call of a program imports sympy, with hundreds of modules of torch's compiler on
# top, and so takes seconds; the sum imports nothing. An attack's first step is where it is seen.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import sys
import time

import torch

images, weights = torch.rand(5, 64), torch.tensor([1.0, 2.0, 0.5, -1.0, 3.0])
gradients = []
for kind in ("weighted sum", "losses with weights"):
    leaf = images.clone().requires_grad_()
    losses = (leaf.square() * 0.3).sum(1)
    before, begun = set(sys.modules), time.perf_counter()
    if kind == "weighted sum":
        (gradient,) = torch.autograd.grad((weights * losses).sum(), leaf)
    else:
        (gradient,) = torch.autograd.grad(losses, leaf, weights)
    seconds, loaded = time.perf_counter() - begun, set(sys.modules) - before
    gradients.append(gradient)
    sympy = "sympy" in loaded
    print(f"torch {torch.__version__}, {kind}: {seconds:.2f} s, {len(loaded)} modules, sympy {sympy}")
    assert sympy == (kind != "weighted sum")
    assert (len(loaded) > 300) == sympy
assert gradients[0].equal(gradients[1])
PY
python_with torch==2.13.0 numpy==2.4.6 < "$program"
python_with torch==2.15.0 numpy==2.4.6 < "$program"
