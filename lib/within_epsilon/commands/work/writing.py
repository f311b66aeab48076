"""Reports on disk: JSON, Markdown, a figure, and a record as RobustBench keeps them."""

import importlib.util
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from within_epsilon import __version__
from within_epsilon.attacks import autoattack, describe
from within_epsilon.commands.processes.files import write_whole
from within_epsilon.reports import RobustReport, SanityReport, wilson_interval
from within_epsilon.wording import radius

# What RobustBench calls the threat models, and the data sets that it has.
_FOLDERS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_SIGNS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}


def write_reports(
    folder: Path,
    reports: Sequence[RobustReport],
    sanity: SanityReport | None,
    about: dict[str, Any],
) -> list[str]:
    """Write all that was found.

    Parameters
    ----------
    folder : Path
        Where to.
    reports : sequence of RobustReport
        One for each radius.
    sanity : SanityReport, optional
        The checklist.
    about : dict
        Model, data and settings, in words.

    Returns
    -------
    list of str
        The names of the files, within the folder.
    """
    whole = {
        "format": "within-epsilon evaluation 1",
        "version": __version__,
        "about": about,
        "accuracies": [_numbers(report) for report in reports],
        "reports": [json.loads(report.to_json()) for report in reports],
        "sanity": None if sanity is None else json.loads(sanity.to_json()),
    }
    write_whole(folder / "report.json", json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
    write_whole(folder / "report.md", _markdown(reports, sanity, about))
    names = ["report.json", "report.md"]
    if importlib.util.find_spec("matplotlib") is not None:
        _draw(folder / "report.png", reports)
        names.append("report.png")
    for report in reports:
        path = record_path(report, about)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / path, json.dumps(record(report, about), indent=2) + "\n")
        names.append(str(path))
    return names


def record_path(report: RobustReport, about: dict[str, Any]) -> Path:
    """Return where RobustBench looks for a record: data set, threat model, name of the model."""
    data = "".join(letter for letter in Path(about["data"]).stem.lower() if letter.isalnum())
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in about["model"])
    size = radius(report.ball.epsilon).replace("/", "_")
    folder = Path("model_info") / data / _FOLDERS[report.ball.norm]
    return folder / f"{name}_{size}.json"


def record(report: RobustReport, about: dict[str, Any]) -> dict[str, Any]:
    """Return a record in the format of RobustBench's ``model_info``.

    Its numbers are percentages in words, as there. ``autoattack_acc`` is there if the attack was
    the standard version of AutoAttack with the settings that are published; else the number is
    ``external``, which is what RobustBench calls another evaluation's, and its leaderboard the
    best known.

    Parameters
    ----------
    report : RobustReport
        At one radius.
    about : dict
        Model and data, in words.

    References
    ----------
    Croce et al., "RobustBench: a standardized adversarial robustness benchmark", NeurIPS 2021,
    Datasets and Benchmarks; robustbench 1.1.1, ``utils.py`` and ``leaderboard/template.py``.
    """
    robust = f"{100 * report.robust_accuracy:.2f}"
    doubts = sorted({finding.name for finding in report.findings if finding.doubtful})
    # Fewer steps or queries than published, and the number is not AutoAttack's.
    standard = report.attack == describe(partial(autoattack, version="standard"))
    note = f"{report.attack} on {report.n:,} examples, by within-epsilon {__version__}"
    return {
        "link": "",
        "name": about["model"],
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": record_path(report, about).parts[1],
        "venue": "",
        "architecture": about["architecture"],
        "eps": radius(report.ball.epsilon),
        "clean_acc": f"{100 * report.clean_accuracy:.2f}",
        "reported": robust,
        "autoattack_acc" if standard else "external": robust,
        "unreliable": bool(doubts),
        "footnote": note + (f"; doubtful: {', '.join(doubts)}" if doubts else ""),
    }


def _numbers(report: RobustReport) -> dict[str, Any]:
    return {
        "norm": report.ball.norm,
        "epsilon": report.ball.epsilon,
        "examples": report.n,
        "clean_accuracy": report.clean_accuracy,
        "robust_accuracy": report.robust_accuracy,
        "interval": list(report.interval()),
        "doubtful": [finding.name for finding in report.findings if finding.doubtful],
    }


def _markdown(
    reports: Sequence[RobustReport], sanity: SanityReport | None, about: dict[str, Any]
) -> str:
    parts = [f"# {about['model']} on {about['data']}\n"]
    parts += [f"{name}: {value}" for name, value in about.items() if value not in (None, "")]
    for report in reports:
        parts += ["", f"## {report.ball}\n", report.to_markdown()]
    if sanity is not None:
        parts += ["", "## Is the number honest?\n", sanity.to_markdown()]
    return "\n".join(parts) + "\n"


def _draw(path: Path, reports: Sequence[RobustReport]) -> None:
    """Draw the error at each radius that was evaluated, with intervals of 95%."""
    from within_epsilon.plots.style import TRUE, canvas

    first = reports[0]
    epsilons = [0.0, *(report.ball.epsilon for report in reports)]
    lost = [first.n - first.clean, *(report.n - report.robust for report in reports)]
    errors = [count / first.n for count in lost]
    ends = [wilson_interval(count, first.n) for count in lost]
    spans = [
        [max(0.0, error - low) for error, (low, _) in zip(errors, ends, strict=True)],
        [max(0.0, high - error) for error, (_, high) in zip(errors, ends, strict=True)],
    ]
    figure, axes = canvas()
    # Nothing was measured between two points; of several, a line guides the eye.
    line = ":" if len(reports) > 1 else "none"
    axes.errorbar(epsilons, errors, yerr=spans, fmt="o", linestyle=line, color=TRUE, capsize=4)
    axes.set(
        xlabel=f"ε ({_SIGNS[first.ball.norm]}, pixels from 0 to 1)",
        ylabel="share of examples lost",
        title=f"{first.n:,} examples, {first.attack.partition('(')[0].strip()}",
        ylim=(0, 1.02),
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    write_whole(path, buffer.getvalue())
