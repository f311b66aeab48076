"""Record the rounds that the defence explorer of chapter 11 plays: two minutes on one core.

    python .ci/record_defences.py

writes defence_rounds.json into the library. `widgets.digit_rounds` trains the models, attacks them
and counts.
"""

import json
from dataclasses import asdict

import torch

from within_epsilon.widgets import digit_rounds
from within_epsilon.widgets.defence_rounds import ROUNDS


def main() -> None:
    """Write the rounds."""
    torch.set_num_threads(1)
    rounds = [[asdict(case) for case in cases] for cases in digit_rounds()]
    text = json.dumps(rounds, ensure_ascii=False, separators=(",", ":"))
    ROUNDS.write_text(text.replace('{"name"', '\n{"name"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
