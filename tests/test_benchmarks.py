"""The comparisons with others: they run without them, and their results hold what is said."""

from __future__ import annotations

import json
import re
import sys
from math import inf, sqrt
from pathlib import Path

import pytest

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.evaluation import robust_accuracy

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "attacks"
ENGINE = FOLDER.parent / "engine"
OURS = "within-epsilon"


@pytest.fixture
def compare(monkeypatch):
    """Import the benchmark, as if no other library were installed."""
    monkeypatch.syspath_prepend(FOLDER.parent)
    monkeypatch.syspath_prepend(FOLDER)
    import compare
    import contestants

    monkeypatch.setattr(contestants, "_installed", list)
    yield compare
    for path in [*FOLDER.glob("*.py"), FOLDER.parent / "tables.py"]:
        sys.modules.pop(path.stem, None)


def test_strength_is_what_an_evaluation_would_say(compare):
    subject = compare.standard_digits(20)
    rows = list(compare.strength.rows([subject], only=("FGSM", "PGD-40")))
    assert [row["library"] for row in rows] == [OURS] * 6
    for row, ball in zip(rows[::2], subject.balls(), strict=True):
        report = robust_accuracy(subject.model, (subject.images, subject.labels), fgsm, ball)
        standing = report.robust_accuracy * len(subject.images)
        assert row["robust_accuracy"] == pytest.approx(standing / subject.n)
        assert (row["attack"], row["gradients"], row["n"], row["outside"]) == ("FGSM", 1, 20, 0)
    assert [row["gradients"] for row in rows[1::2]] == [40] * 3


def test_the_bare_loop_is_pgd(compare):
    """The floor that PGD's time is measured by takes the same steps to the same place."""
    subject = compare.standard_digits(20)
    given = subject.model.double(), subject.images.double(), subject.labels
    for ball in subject.balls():
        bare = compare.speed.bare_loop(*given, ball, 5, 0.02)
        ours = pgd(*given, ball, steps=5, step_size=0.02, random_start=False)
        assert ball.admits(given[1], bare, atol=1e-5).all()
        assert (bare - ours).abs().flatten(1).amax(dim=1).median() < 1e-9


@pytest.mark.parametrize("table", ["speed", "ensemble", "minimal"])
def test_every_table_can_be_made_written_and_read(compare, table, tmp_path):
    subject = compare.standard_digits(6)
    makers = {
        "speed": lambda: compare.speed.rows([subject], rounds=1),
        "ensemble": lambda: compare.ensemble.rows([subject]),
        "minimal": lambda: compare.minimal.rows([subject]),
    }
    rows = list(makers[table]())
    compare.write(table, rows, compare.versions(compare.PEERS), tmp_path)
    read = json.loads((tmp_path / f"{table}.json").read_text(encoding="utf-8"))
    assert read["rows"] == json.loads(json.dumps(rows))
    assert read["versions"]["within-epsilon"]
    assert len(compare.text(rows).splitlines()) == len(rows) + 1


def results(table):
    return json.loads((FOLDER / "results" / f"{table}.json").read_text(encoding="utf-8"))


def pairs(rows, *keys):
    """Yield our row and the others' of everything that is compared."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    for group, members in groups.items():
        (ours,) = [row for row in members if row["library"] == OURS]
        yield group, ours, [row for row in members if row["library"] != OURS]


TABLES = sorted(path.stem for path in FOLDER.glob("results/*.json"))


def all_results(kind):
    return [row for table in TABLES if table.endswith(kind) for row in results(table)["rows"]]


def test_every_table_has_results_but_perhaps_those_that_need_the_photo_network(compare):
    assert {name for name in compare.TABLES if not name.startswith("photos")} <= set(TABLES)
    assert set(TABLES) <= set(compare.TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_results_name_what_took_part(table):
    versions = results(table)["versions"]
    lock = (FOLDER.parent / "requirements.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))
    for name in ("torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox"):
        assert versions[name].split("+")[0] == locked[name]
    assert {"python", OURS} <= set(versions)
    assert "seconds" not in str(results(table)["rows"][0])


def test_no_library_is_stronger_at_the_same_cost_by_more_than_a_standard_error():
    compared = 0
    for group, ours, others in pairs(
        all_results("strength"), "subject", "norm", "epsilon", "attack"
    ):
        assert ours["outside"] == 0
        share = ours["robust_accuracy"]
        error = sqrt(share * (1 - share) / ours["n"])
        for other in others:
            compared += 1
            assert share <= other["robust_accuracy"] + error + 1e-9, (group, other["library"])
            if other["gradients"]:
                assert ours["gradients"] <= 1.01 * other["gradients"], (group, other["library"])
    assert compared >= 40


def test_minimal_norm_attacks_come_as_close_as_foolboxs():
    compared = set()
    for group, ours, others in pairs(all_results("minimal"), "subject", "norm", "attack"):
        distances = {row["library"]: row["median"] or inf for row in (ours, *others)}
        if "foolbox" in distances:
            compared.add(group)
            assert distances[OURS] <= 1.02 * distances["foolbox"], group
            assert ours["found"] == ours["n"], group
    assert len(compared) >= 12


def test_pgd_costs_little_more_than_its_gradients():
    for group, ours, _ in pairs(all_results("speed"), "subject", "norm", "batch"):
        # On 32 pictures of 64 pixels a step takes a millisecond, of which calls alone are a part.
        small = ours["subject"] == "digits" and ours["batch"] <= 32
        assert ours["ratio"] <= (1.1 if small else 1.05), group


def test_the_ensemble_saves_gradients():
    rows = all_results("ensemble")
    for row in rows:
        assert row["saving"] >= 3, row
        assert row["gradients"] <= row["gradients_if_standing"] < row["gradients_apart"]
        nine = row["robust_accuracy_nine_targets"]
        assert row["robust_accuracy"] <= nine + sqrt(nine * (1 - nine) / row["n"]), row
    # Not only where next to nothing stands to be attacked with everything.
    assert sum(row["robust_accuracy"] > 0.3 for row in rows) >= 2


def test_the_engine_keeps_within_its_share_of_onnxruntime_webs_time():
    found = json.loads((ENGINE / "results" / "engine.json").read_text(encoding="utf-8"))
    asked = json.loads((ENGINE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((ENGINE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, version in asked.items():
        assert found["versions"][name] == version == locked[f"node_modules/{name}"]["version"]
    assert all("integrity" in package for name, package in locked.items() if name)
    assert {row["what"]: row["limit"] for row in found["rows"]} == {
        "creation, session for logits": 0.3,
        "creation, session for both": 0.3,
        "logits": 1.1,
        "logits and gradient": 0.9,
    }
    for row in found["rows"]:
        assert row["ratio"] <= row["limit"], row
        assert row["lowest"] <= row["ratio"] <= row["highest"], row
        assert row["rounds"] >= 100, row
    logits = found["rows"][2]
    assert logits["difference"] <= 1e-4
