"""From the options of a verb to its work."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from within_epsilon.commands.inputs import networks
from within_epsilon.commands.inputs.matching import Matched, require_pictures, spread
from within_epsilon.commands.inputs.pictures import DamagedError, prepared_for
from within_epsilon.commands.inputs.sources import open_source
from within_epsilon.commands.processes.files import write_whole
from within_epsilon.commands.processes.journal import Journal
from within_epsilon.commands.processes.workers import Workers, workers
from within_epsilon.commands.work.evaluating import Experiment, ending_clearly, evaluate
from within_epsilon.commands.work.threats import attack_of, balls_of
from within_epsilon.commands.work.writing import write_reports
from within_epsilon.evaluation import sanity_report
from within_epsilon.reports import RobustReport, SanityReport

# The checklist's share of time: so many examples, and of large ones so many pixel values.
_CHECKED, _CHECKED_NUMBERS = 100, 2**20


def run_evaluate(**options: Any) -> None:
    """Evaluate as the options of `evaluate` ask.

    Parameters
    ----------
    **options
        By the names that click gives them.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        If something asked for is not there or does not go together.
    """
    folder = Path(options["out"]).expanduser()
    journal = Journal(folder / "parts")

    def work() -> None:
        with workers(options["device"], options["threads"]) as all_of_them:
            _evaluate(options, folder, journal, all_of_them)

    def kept() -> str:
        n = sum(len(entry.positions) for entry in journal.entries())
        return f"{n:,} examples are finished and safe in {folder / 'parts'}"

    ending_clearly(work, kept)


def _evaluate(options: Mapping[str, Any], folder: Path, journal: Journal, workers: Workers) -> None:
    attack = attack_of(options["attack"], options["steps"], dict(options["settings"]))
    balls = balls_of(options["norm"], options["epsilons"])
    network = load_network(options, workers)
    prepare = prepared_for(network, options["size"], options["channels"])
    source = open_source(options["data"], prepare, root=options["root"], part=options["part"])
    require_pictures(source, options["size"], options["channels"])
    data = Matched(source, network)
    positions = spread(len(data), options["limit"])
    workers.by_first(lambda: data.check_order(positions))
    experiment = Experiment(data, attack, balls, options["seed"], positions, options["batch_size"])
    reports = evaluate(experiment, journal, workers)
    if workers.first:
        about = {
            "model": network.name,
            "architecture": type(getattr(network.model, "body", network.model)).__name__,
            "data": source.name,
            "examples": f"{len(positions):,} of {len(data):,}",
            "attack": reports[0].attack,
            "processes": workers.size,
            "device": str(workers.device.type),
            "threads": torch.get_num_threads(),
        }
        sanity = _checked(experiment, reports[-1], options["check"], folder)
        names = write_reports(folder, reports, sanity, about)
        _say(reports, sanity, folder, names)
    workers.wait()


def load_network(options: Mapping[str, Any], workers: Workers) -> networks.Network:
    """Load the network that the options name, onto the device of this process."""
    network = networks.load(
        options["model"],
        options["weights"],
        classes=options["classes"],
        mean=options["mean"],
        std=options["std"],
    )
    return replace(network, model=network.model.to(workers.device))


def _checked(
    experiment: Experiment, report: RobustReport, asked: int | None, folder: Path
) -> SanityReport | None:
    """Go through the checklist at the largest radius, unless it is on disk already."""
    numbers = max(1, int(torch.Size(experiment.data.shape).numel()))
    most = min(_CHECKED, max(4, _CHECKED_NUMBERS // numbers)) if asked is None else asked
    if not most:
        return None
    path, about = folder / "parts" / "sanity.json", f"{report.identity} {most}"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["about"] == about:
            return SanityReport.from_json(kept["sanity"])
    examples = []
    for number in spread(len(experiment.positions), most):
        with suppress(DamagedError):
            examples.append(experiment.data[experiment.positions[number]])
    shape = examples[0][0].shape
    alike = [(image, label) for image, label in examples if image.shape == shape]
    images, labels = zip(*alike, strict=True)
    print(f"going through the checklist on {len(alike)} of them ...", file=sys.stderr, flush=True)
    found = sanity_report(
        experiment.data.network.model,
        (torch.stack(images), torch.tensor(labels)),
        experiment.balls[-1],
        seed=experiment.seed,
    )
    write_whole(path, json.dumps({"about": about, "sanity": found.to_json()}))
    return found


def _say(
    reports: list[RobustReport], sanity: SanityReport | None, folder: Path, names: list[str]
) -> None:
    """Print the most important of it."""
    for report in reports:
        print(report)
        for finding in report.findings:
            if finding.doubtful:
                print(f"  doubt: {finding}")
    if sanity is not None:
        print(sanity)
        for check in sanity.failed:
            print(f"  {check}; {check.meaning}; {check.remedy}")
    if "report.png" not in names:
        print("no figure: it needs matplotlib, which is not installed", file=sys.stderr)
    print(f"written to {folder}: {', '.join(names)}")
