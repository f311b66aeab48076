"""Reports: counts, words, JSON and back; intervals against SciPy."""

import json
from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest

from within_epsilon.reports import Finding, RobustReport, Stage, merge, wilson_interval
from within_epsilon.threat import Ball

FINDING = Finding("zero gradient", "8 of 9 examples", "too high", "look")
REPORT = RobustReport(
    Ball("linf", 8 / 255),
    "FGSM + PGD, 40 steps",
    (Stage("FGSM", "attacks.fgsm", {"seed": 0}), Stage("PGD, 40 steps", "attacks.pgd", {"a": 1.5})),
    outcomes="+-ab+!b+",
    positions=((0, 5), (7, 10)),
    bad={7: "NaN"},
    model="m",
    data="0f",
    versions={"torch": "2"},
    findings=(FINDING,),
    seconds=1.5,
)


def test_a_report_counts():
    assert (REPORT.n, REPORT.clean, REPORT.standing, REPORT.robust) == (8, 6, (5, 3), 3)
    assert (REPORT.clean_accuracy, REPORT.robust_accuracy) == (6 / 8, 3 / 8)
    assert REPORT.interval() == wilson_interval(3, 8)
    said = [REPORT.outcome(position) for position in (0, 1, 2, 3, 7, 8)]
    assert said == [
        *("stands", "wrong without attack", "fell to FGSM", "fell to PGD, 40 steps", "bad: NaN"),
        "fell to PGD, 40 steps",
    ]
    with pytest.raises(KeyError):
        REPORT.outcome(6)


def test_a_report_says_all_that_it_depends_on():
    assert str(REPORT) == (
        "clean accuracy 75% (6 of 8), robust accuracy 38% (3 of 8, 95% interval 14% to 69%, 1 bad "
        "counted as lost), ℓ∞ ε = 8/255, FGSM + PGD, 40 steps (doubtful: zero gradient)"
    )
    for text in (REPORT.to_text(), REPORT.to_markdown()):
        for part in (str(REPORT), "5 of 8", "attacks.pgd(a=1.5)", "0 to 4, 7 to 9", str(FINDING)):
            assert part in text
        assert REPORT.identity in text
    rows = REPORT.to_markdown().splitlines()
    assert {row.count("|") for row in rows} == {3}


def test_json_makes_an_equal_report_mask_included():
    mask = torch.rand(10, 1, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    for ball in (REPORT.ball, Ball("l2", 0.5, mask=mask)):
        report = replace(REPORT, ball=ball)
        again = RobustReport.from_json(report.to_json())
        assert again == report
        assert (again.findings, again.seconds) == (report.findings, report.seconds)
        assert again.identity == report.identity
        assert json.loads(report.to_json())["outcomes"] == report.outcomes
    for broken in ("{}", "[]", '{"ball": 3}', "no"):
        with pytest.raises(ValueError):  # noqa: PT011 - json's own words for the last
            RobustReport.from_json(broken)


@pytest.mark.parametrize(
    "change",
    [
        {"outcomes": "+-ab+!b-"},
        {"model": "n"},
        {"data": "1f"},
        {"seed": 1},
        {"key": "k"},
        {"versions": {"torch": "3"}},
        {"positions": ((0, 5), (8, 11))},
        {"ball": Ball("linf", 7 / 255)},
        {"stages": (REPORT.stages[0], replace(REPORT.stages[1], settings={"a": 2}))},
    ],
)
def test_what_differs_makes_another_report_and_time_does_not(change):
    other = replace(REPORT, **change)
    assert other != REPORT
    assert other.identity != REPORT.identity
    spent = tuple(replace(stage, gradients=9, forwards=9) for stage in REPORT.stages)
    same = replace(REPORT, seconds=99.0, findings=(), stages=spent)
    assert same == REPORT
    assert same.identity == REPORT.identity
    if change.keys() & {"model", "seed", "key", "versions", "ball", "stages"}:
        with pytest.raises(ValueError, match=r"parts of one experiment.*differ in"):
            merge([replace(REPORT, outcomes="+", positions=((20, 21),)), other])


def test_an_example_in_two_parts_is_refused():
    with pytest.raises(ValueError, match="position 3 twice"):
        merge([REPORT, replace(REPORT, outcomes="+", positions=((3, 4),))])
    with pytest.raises(ValueError, match="at least one, received none"):
        merge([])


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 7), (341, 1000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_interval_is_wilsons(successes, n, confidence):
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx(tuple(theirs), abs=1e-12)
