"""The smoothing explorer: its votes, its arithmetic, and what it says of them."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import betaincinv
from scipy.stats import binomtest, norm
from traitlets import TraitError

from within_epsilon.data import digits
from within_epsilon.runtime import streams
from within_epsilon.widgets import SmoothingExplorer
from within_epsilon.widgets.base import FRONTEND
from within_epsilon.widgets.smoothing import ALPHAS, COUNTS, SHOWN, SIGMAS

EXPLORER = SmoothingExplorer()


@pytest.fixture(scope="module")
def script() -> Any:
    """The recording script, as a module."""
    place = Path(__file__).parents[2] / ".ci" / "record_votes.py"
    spec = importlib.util.spec_from_file_location("record_votes", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recorded_counts_are_possible_and_of_the_digits_that_are_shown(script: Any) -> None:
    votes = EXPLORER.votes
    assert (tuple(votes["ns"]), script.COUNTS, script.SIGMAS) == (COUNTS, COUNTS, SIGMAS)
    assert votes["labels"] == digits().test.labels[:100].tolist()
    for level in votes["levels"]:
        assert len(level["winners"]) == len(level["votes"]) == 100
        for counts in level["votes"]:
            # The first n of one run: neither more votes nor more of the others in a prefix.
            for more, fewer, n, m in zip(counts[1:], counts, COUNTS[1:], COUNTS, strict=False):
                assert 0 <= more - fewer <= n - m
        for place, prefixes in zip(SHOWN, level["counts"], strict=True):
            assert [sum(prefix) for prefix in prefixes] == list(COUNTS)
            winner = level["winners"][place]
            assert [prefix[winner] for prefix in prefixes] == level["votes"][place]


def test_the_script_reproduces_the_votes(script: Any) -> None:
    """Training rounds otherwise elsewhere, so that shares agree and not bits."""
    level, model = EXPLORER.votes["levels"][1], script.train(0.25)
    script.COUNTS, images = (1_000,), digits().test.images[:30]
    found = [
        script.votes_on(model, image, 0.25, generator)
        for image, generator in zip(images, streams(range(30), 0), strict=True)
    ]
    same = [winner == level["winners"][i] for i, (winner, _) in enumerate(found)]
    assert sum(same) >= 28
    gaps = [
        prefix[0][winner] / 1_000 - level["votes"][i][3] / 100_000
        for i, (winner, prefix) in enumerate(found)
        if same[i]
    ]
    assert torch.tensor(gaps).abs().mean() < 0.03


@pytest.mark.parametrize(
    "settings", [{"sigma": 0.3}, {"n": 500}, {"alpha": 0.0}, {"digit": len(SHOWN)}]
)
def test_other_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TraitError):
        SmoothingExplorer(**settings)


def test_abstentions_count_as_wrong() -> None:
    loud = SmoothingExplorer(sigma=1.0, n=1_000)
    found = loud.certificates()
    answered = [one for one in found if not one.abstained]
    assert len(found) == 100
    assert len(answered) < 40
    assert loud.certified(0.0) <= len(answered)


def test_the_pages_arithmetic_is_scipys() -> None:
    cases = [
        (hits, n, alpha)
        for n in (1, 10, 100, 1_000, 100_000)
        for hits in sorted({0, 1, n // 2, n // 2 + 1, int(0.99 * n), n})
        for alpha in (0.1, 0.001, 1e-6)
    ]
    probabilities = [0.5, 0.5001, 0.6, 0.9, 0.999, 0.99999]
    source = f"""
        import {{ lowerBound, normalQuantile }} from "{(FRONTEND / "binomial.js").as_uri()}";
        const bounds = {json.dumps(cases)}.map((given) => lowerBound(...given));
        console.log(JSON.stringify([bounds, {probabilities}.map(normalQuantile)]));"""
    command = ["node", "--input-type=module", "-e", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bounds, quantiles = json.loads(done.stdout)
    for (hits, n, alpha), bound in zip(cases, bounds, strict=True):
        test = binomtest(hits, n, alternative="greater")
        assert bound == pytest.approx(test.proportion_ci(1 - alpha).low, rel=1e-8, abs=1e-12)
    assert quantiles == pytest.approx(norm.ppf(probabilities), abs=1e-9)


def test_no_bound_is_printed_above_what_is_true() -> None:
    """Of every count of votes that could win, or of 400 of them: the share and the radius."""
    cases = [
        (hits, n, SIGMAS[hits % len(SIGMAS)], alpha)
        for n in COUNTS
        for alpha in ALPHAS
        for hits in sorted({n, n - 1, n // 2 + 1, *range(n // 10, n, max(1, n // 400))})
    ]
    source = f"""
        import {{ certificate }} from "{(FRONTEND / "binomial.js").as_uri()}";
        import {{ shareAtLeast }} from "{(FRONTEND / "rounding.js").as_uri()}";
        import {{ radiusInWords }} from "{(FRONTEND / "smoothing.js").as_uri()}";
        console.log(JSON.stringify({json.dumps(cases)}.map((given) => {{
          const {{ bound, radius }} = certificate(...given);
          return [shareAtLeast(bound), radius && radiusInWords(radius)];
        }})));"""
    command = ["node", "--input-type=module", "-"]  # too long for an argument
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for (hits, n, sigma, alpha), (share, radius) in zip(
        cases, json.loads(done.stdout), strict=True
    ):
        bound = betaincinv(hits, n - hits + 1, alpha)
        said = float(share.removesuffix("%")) / 100
        assert 0 <= bound - said <= max(0.1 * (1 - bound), 0.00101), (hits, n, alpha, share)
        if bound > 0.5:
            reach = sigma * norm.ppf(bound)
            assert 0 < float(radius) <= reach, (hits, n, sigma, alpha, radius)
            assert reach - float(radius) <= 0.00101


# --- browser ---


def slide(page: Any, name: str, key: str) -> None:
    page.get_by_role("slider", name=name).press(key)


@pytest.mark.browser
def test_page_and_kernel_certify_the_same(open_page: Callable[..., Any]) -> None:
    page = open_page(SmoothingExplorer())
    said, verdict = page.locator(".card .muted").all(), page.locator(".verdict")
    slide(page, "Votes n", "End")
    kernel = SmoothingExplorer(n=100_000)
    one = kernel.certificates()[SHOWN[0]]
    assert "share is at least 99.92%." in verdict.inner_text()
    reach = math.floor(1000 * one.radius) / 1000
    kept = f"No change of ℓ2 norm below {reach:.3f} alters the majority's answer"
    assert kept in verdict.inner_text()
    assert verdict.inner_text().startswith("certified")
    right = kernel.certified(0.0)
    abstained = sum(found.abstained for found in kernel.certificates())
    text = " ".join(part.inner_text() for part in said)
    assert f"{right} right and certified at some radius, {abstained} abstained" in text
    assert "100,100 forward passes" in text
    slide(page, "Noise σ", "End")
    slide(page, "Votes n", "Home")
    assert verdict.inner_text().startswith("abstains")
    page.get_by_role("radio", name="F").check()
    slide(page, "Noise σ", "Home")
    assert verdict.inner_text().startswith("certified, and wrong")


@pytest.mark.browser
def test_a_curve_is_kept_to_compare_with(open_page: Callable[..., Any]) -> None:
    page = open_page(SmoothingExplorer(), width=390)
    page.get_by_role("button", name="Keep this curve").click()
    before = page.locator(".plot .held").get_attribute("d")
    slide(page, "Noise σ", "ArrowRight")
    assert page.locator(".plot .held").get_attribute("d") == before
    assert page.locator(".plot .line").get_attribute("d") != before
    assert "Dashed: σ = 0.25, n = 100, α = 0.001." in page.locator(".card").inner_text()
    page.get_by_role("button", name="Reset").click()
    assert page.locator(".plot .held").count() == 0


@pytest.mark.browser
def test_a_kernel_hears_and_is_heard(open_widget: Callable[..., Any]) -> None:
    page = open_widget(SmoothingExplorer())
    slide(page, "Risk α", "Home")
    assert page.evaluate("sent.at(-1).alpha") == 0.1
    page.evaluate("() => { model.set('sigma', 0.5); }")
    assert page.get_by_role("slider", name="Noise σ").get_attribute("aria-valuetext") == "0.5"
