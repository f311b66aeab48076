"""The tables of the shipped networks' cards, as the training scripts fill them in."""

import re
from pathlib import Path
from statistics import mean, stdev

from within_epsilon.evaluation import wilson_interval
from within_epsilon.threat import Ball


def table(seeds: list[dict[str, float]], ball: Ball, n: int) -> str:
    """Write accuracies as the table of a card; the first seed's are those of what is shipped."""
    rows = []
    for threat in seeds[0]:
        shares = [numbers[threat] for numbers in seeds]
        low, high = wilson_interval(round(shares[0] * n), n)
        spread = f"{mean(shares):.2%} ± {stdev(shares) / len(shares) ** 0.5:.2%}"
        rows.append(f"| {threat} | {shares[0]:.2%} | {low:.1%} to {high:.1%} | {spread} |")
    head = f"| adversary, {ball} | accuracy | 95% interval | mean of {len(seeds)} seeds |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def fill_in(card: Path, rows: str) -> None:
    """Put the table in the place of the one that a card has."""
    old = card.read_text(encoding="utf-8")
    new = re.sub(r"\| adversary.*?(?=\n\n)", lambda _: rows, old, count=1, flags=re.DOTALL)
    card.write_text(new, encoding="utf-8")
