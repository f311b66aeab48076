"""Record what AutoAttack leaves of chapter 11's seven defences: a minute on one core.

    python .ci/record_autoattack.py

trains them as the chapter's own cells do and writes data/defences_autoattack.json, by the names of
the chapter's table: to attack them there would take too long beside all else that it runs.
"""

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

from within_epsilon import attacks

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = ROOT / "chapters" / "11_honest_evaluation.ipynb"
RECORD = ROOT / "data" / "defences_autoattack.json"
# Imports, the counting, and where each defence is made.
CELLS = (
    *("a6fe384c", "7e9bc15b", "5117b056", "51ce3818", "3697989a", "cc7e904d", "e52f6bce"),
    *("97b32a93", "0a61b2e4", "4b562f01", "6f137e09"),
)


def counts() -> dict[str, int]:
    """Train and attack; return how many of 200 digits stand, by defence."""
    mpl.use("agg")
    torch.set_num_threads(1)
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    sources = {cell["id"]: "".join(cell["source"]) for cell in cells}
    names: dict[str, Any] = {}
    for cell in CELLS:
        exec(compile(sources[cell], cell, "exec"), names)
    plain = attacks.autoattack
    unnoticed = partial(attacks.unnoticed, attack=plain)
    standing = names["standing"]
    warnings.simplefilter("ignore")  # that one is in train mode: we know
    return {
        "none": standing(names["model"], plain),
        "rounding": standing(names["quantised"], plain),
        "loud logits": standing(names["saturated"], plain),
        "transformation": standing(names["shaken"], plain, fresh=40),
        "train mode": standing(names["forgetful"], plain, fresh=40),
        "votes": standing(names["vote"], plain),
        "detector": standing(names["detector"], unnoticed),
        "k winners": standing(names["winners"], plain),
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(counts(), indent=1) + "\n", encoding="utf-8")
