#!/bin/sh
# The module that torch.export makes of a network in eval mode says of all its parts that they
# train, though its program is that of eval mode (dropout does nothing), and refuses eval(). And it
# takes no other batch than the one it was exported with, unless dynamic_shapes was given.
set -eu
. "$(dirname "$0")/environment.sh"

program=$(mktemp)
trap 'rm -f "$program"' EXIT
cat > "$program" <<'PY'
import torch
from torch import nn

network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).eval()
images = torch.rand(2, 3)
module = torch.export.export(network, (images,)).module()
says = [part.training for part in module.modules()]
still = torch.equal(module(images), network(images))
errors = []
for call in (module.eval, lambda: module(images[:1])):
    try:
        call()
    except Exception as error:
        errors.append(type(error).__name__)
print(f"torch {torch.__version__.split('+')[0]}: exported in eval mode, training is {set(says)}, "
      f"same answers {still}; eval() and a batch of one instead of two raise {errors}")
assert set(says) == {True} and still and errors == ["NotImplementedError", "AssertionError"]
PY
python_with torch==2.15.0 numpy==2.4.6 < "$program"
