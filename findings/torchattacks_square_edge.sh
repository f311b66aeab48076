#!/bin/sh
# torchattacks' Square Attack draws a square's place below H - s instead of up to it, as the
# original's code does: no square ever touches the last row or the last column of an image.
set -eu
. "$(dirname "$0")/environment.sh"

python_with torchattacks==3.5.1 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 <<'PY'
import torch
import torchattacks


class Watched(torch.nn.Module):
    """Never fooled; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        self.asked.append(images.clone())
        return torch.stack([1 + 0 * images.mean(dim=(1, 2, 3)), 0 * images.mean(dim=(1, 2, 3))], 1)


model = Watched().eval()
images = torch.full((1, 1, 16, 16), 0.5)
torchattacks.Square(model, norm="Linf", eps=0.1, n_queries=2000)(images, torch.tensor([0]))
# The first query asks about the image, the next about stripes; squares are put on the stripes.
stripes = next(one for one in model.asked if not torch.equal(one, images))
squares = torch.stack([one for one in model.asked if not torch.equal(one, images)])
moved = (squares != stripes).any(dim=0)[0, 0]
rows, columns = moved.any(dim=1), moved.any(dim=0)
print(f"torchattacks {torchattacks.__version__}: {len(squares)} queries, 16 rows: moved in rows ", end="")
print(f"{rows.nonzero().flatten().tolist()}, columns {columns.nonzero().flatten().tolist()}")
assert rows[:15].all()
assert columns[:15].all()
assert not rows[15]
assert not columns[15]
PY
