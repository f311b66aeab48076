#!/bin/sh
# Saved by matplotlib's imsave with its "gray" colours, 24 of the 256 grey levels come back one darker, of
# 8-bit pictures as of floats: the table of colours holds floats, which are cut off, not rounded. In
# colour no level is lost, but whatever lies between two levels is cut off, too, so steps of 0.9 are gone.
set -eu
. "$(dirname "$0")/environment.sh"

python_with matplotlib==3.11.2 pillow==13.0.0 numpy==2.4.6 <<'PY'
import io

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("agg")
from matplotlib import pyplot


def saved(picture, **options):
    file = io.BytesIO()
    pyplot.imsave(file, picture, format="png", **options)
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


levels = np.arange(256).reshape(16, 16)
wrong = {
    "8 bits": saved(levels.astype(np.uint8), cmap="gray", vmin=0, vmax=255)[..., 0] - levels,
    "floats": saved(levels / 255, cmap="gray", vmin=0, vmax=1)[..., 0] - levels,
    "in colour": saved(np.stack([levels / 255] * 3, axis=2))[..., 0] - levels,
}
counts = {name: int((one != 0).sum()) for name, one in wrong.items()}
draws = np.random.default_rng(0).random((64, 64, 3))
off = saved(draws) - 255 * draws
print(f"matplotlib {matplotlib.__version__}: of 256 grey levels, come back another: {counts}; ", end="")
print(f"floats in colour come back off by {off.min():.2f} to {off.max():.2f} levels")
assert counts == {"8 bits": 24, "floats": 24, "in colour": 0}
assert all(set(one.flat) <= {-1, 0} for one in wrong.values())
assert off.min() < -0.99 and off.max() <= 0
PY
