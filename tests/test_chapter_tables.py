"""Tables that chapters write out hold what the benchmarks' result files say."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINED = {
    "PGD, 7 steps": "PGD-7, fit",
    "PGD, 10 steps": "PGD-10, fit",
    "N-FGSM": "one step from noise, fit",
    "ATTA": "ATTA, one step, fit",
}


def test_chapter_10_has_the_performance_page_s_five_seeds():
    results = ROOT / "benchmarks" / "attacks" / "results" / "training.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    assert {row["seeds"] for row in rows} == {5}
    found = {(row["trained with"], row["epsilon"]): row for row in rows}
    chapter = ROOT / "chapters" / "10_adversarial_training.ipynb"
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for name, long in TRAINED.items():
        shares = (found[long, epsilon] for epsilon in (0.1, 0.2))
        wanted = [
            f"{100 * row['robust']:.1f} ± {100 * row['standard error']:.1f}" for row in shares
        ]
        lines = re.findall(rf"^\| {name} \|.*±.*$", text, re.MULTILINE)
        assert lines == [f"| {name} | {wanted[0]} | {wanted[1]} |"]
