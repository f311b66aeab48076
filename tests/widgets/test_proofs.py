"""What the page proves: the library's bounds to the last digits, and nothing that is not so."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon.data import digits
from within_epsilon.models import Classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.verification import branch_and_bound, crown
from within_epsilon.widgets import (
    BranchingExplorer,
    SandwichExplorer,
    TriangleExplorer,
    digits_mlp,
    disc_network,
)
from within_epsilon.widgets.base import FRONTEND
from within_epsilon.widgets.branching import GAP
from within_epsilon.widgets.triangle import relax

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "engine"))
import node_engine  # noqa: E402


@pytest.fixture(scope="session")
def node() -> None:
    """Skip without Node; fail where it has to be there."""
    if node_engine.missing():
        leave = pytest.fail if os.environ.get("CI") else pytest.skip
        leave(f"skipped, because {node_engine.missing()}")


def compute(jobs: list[dict[str, Any]]) -> list[Any]:
    """Let the page's modules answer, under Node."""
    message = json.dumps({"frontend": str(FRONTEND), "jobs": jobs})
    done = subprocess.run(
        ["node", HERE / "proofs.mjs"], input=message, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


# --- the triangle ---


def test_lines_hold_relu_and_the_area_is_theirs() -> None:
    generator = np.random.default_rng(0)
    for lower, upper in np.sort(generator.uniform(-3, 3, (50, 2)), axis=1):
        slope = generator.uniform()
        lines = relax(lower, upper, slope)
        z = np.linspace(lower, upper, 2001)
        above, below, relu = lines.slope * z + lines.height, lines.lower * z, np.maximum(z, 0)
        assert (above >= relu - 1e-12).all()
        assert (below <= relu + 1e-12).all()
        assert lines.area == pytest.approx(np.trapezoid(above - below, z), abs=1e-9)
        assert (lines.area == 0) == (lower >= 0 or upper <= 0)


def test_ends_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="exchange them"):
        TriangleExplorer(1, -1)


# --- the sandwich ---


def sandwiches() -> list[SandwichExplorer]:
    """Return explorers of test digits at several radii, some of another network."""
    torch.manual_seed(3)
    other = Classifier(mlp(64, 12, 9, 8, 10), categories="0123456789").eval()
    images, labels = digits().test[:24]
    radii = (0.0, 0.005, 0.03, 0.08, 0.12, 0.2)
    return [
        SandwichExplorer(
            None if i % 3 else other,
            images=images[i : i + 1],
            label=int(labels[i]) if i % 4 else None,
            epsilon=radii[i % 6],
        )
        for i in range(24)
    ]


def test_bounds_are_the_librarys_and_no_input_beats_them(node: None) -> None:
    made = sandwiches()
    answers = compute(
        [
            {
                "task": "sandwich",
                "layers": explorer.layers,
                "pixels": explorer.pixels,
                "epsilon": explorer.epsilon,
                "label": explorer.true_class,
            }
            for explorer in made
        ]
    )
    generator = torch.Generator().manual_seed(0)
    for explorer, answer in zip(made, answers, strict=True):
        known, image, rows = explorer.sandwich(), explorer.image.double(), answer["rows"]
        found = {key: np.array([row[key] for row in rows]) for key in ("ibp", "crown", "attack")}
        assert [row["rival"] for row in rows] == known.rivals.tolist()
        np.testing.assert_allclose(found["ibp"], known.ibp, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found["crown"], known.crown, rtol=0, atol=1e-9)
        model = deepcopy(explorer.model).double()
        ball = Ball("linf", explorer.epsilon)
        points = torch.tensor([row["point"] for row in rows], dtype=torch.float64)
        points = points.view(-1, 1, 8, 8)
        assert ((points - image).abs() <= ball.epsilon).all()
        assert ((points >= 0) & (points <= 1)).all()
        corners = torch.rand(200, 1, 8, 8, generator=generator).round().double() * 2 - 1
        tried = torch.cat([points, (image + ball.epsilon * corners).clamp(0, 1)])
        with torch.no_grad():
            logits = model(tried)
        margins = (logits[:, [explorer.true_class]] - logits[:, known.rivals]).numpy()
        np.testing.assert_allclose(np.diag(margins), found["attack"], rtol=0, atol=1e-9)
        assert (margins >= found["crown"]).all()
        assert (found["crown"] >= found["ibp"]).all()


def test_sandwich_says_what_it_knows() -> None:
    image, labels = digits().test[19:20]
    said = [SandwichExplorer(epsilon=e).verdict() for e in (0.02, 0.1, 0.14, 0.2)]
    assert said[0] == "proved: no change within ℓ∞ ε = 0.02 makes the 0 another digit (intervals)"
    assert said[1] == "proved: no change within ℓ∞ ε = 0.1 makes the 0 another digit (CROWN)"
    assert said[2].startswith("unknown: ℓ∞ ε = 0.14")
    assert said[3] == "refuted: a change within ℓ∞ ε = 0.2 makes the 0 a 2"
    assert SandwichExplorer().verdict().startswith("ε = 0: nothing may change")
    five = SandwichExplorer(images=image, label=5, epsilon=0.1).verdict()
    assert five == "wrong already: the network reads this 5 as a 0"
    wide = SandwichExplorer(images=image, label=int(labels)).sandwich()
    np.testing.assert_allclose(wide.crown, wide.attack, atol=1e-5)  # at epsilon = 0


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), {}, ValueError, "10 logits, received 9"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), {}, TypeError, "Linear layers"),
        (Classifier(mlp(64, 10), mean=0.5), {}, TypeError, "without normalisation"),
        (mlp(32, 10), {}, ValueError, "64 inputs"),
        (mlp(64, 10).double(), {}, ValueError, "float32"),
        (mlp(64, 10), {"epsilon": 0.0123}, ValueError, "stops"),
    ],
)
def test_sandwich_refuses(
    model: nn.Module, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SandwichExplorer(model.eval(), **options)


# --- branch and bound ---


def squares() -> list[BranchingExplorer]:
    """Return explorers of small networks, trained and not, on squares of several sizes."""
    made = [
        BranchingExplorer(radius=radius, split=split)
        for radius in (0.35, 0.5, 0.55)
        for split in ("relus", "inputs")
    ]
    for seed, (hidden, classes) in enumerate([(4, 2), (8, 2), (7, 3), (8, 4)]):
        torch.manual_seed(seed)
        model = mlp(2, hidden, classes).eval()
        for split in ("relus", "inputs"):
            made.append(
                BranchingExplorer(
                    model, centre=(0.3, -0.2), radius=0.6 + seed / 4, radii=(0.6, 0.85, 1.1, 1.35),
                    split=split,
                )
            )  # fmt: skip
    return made


def search(explorer: BranchingExplorer, question: str, most: int = 200) -> dict[str, Any]:
    settings = {"split": explorer.split, "question": question}
    return {
        "task": "search",
        "settings": settings,
        "most": most,
        **{key: getattr(explorer, key) for key in ("layers", "centre", "radius", "label")},
    }


def area(polygon: list[list[float]]) -> float:
    x, y = np.array(polygon).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def test_search_ends_where_the_librarys_does(node: None) -> None:
    made = squares()
    answers = compute([search(one, q) for one in made for q in ("sign", "least")])
    generator = torch.Generator().manual_seed(0)
    for place, explorer in enumerate(made):
        sign, least = answers[2 * place : 2 * place + 2]
        model, box, label = explorer.problem()
        wide = deepcopy(model).double()
        (known,) = branch_and_bound(wide, box, label, arithmetic="real", gap=GAP / 10)
        assert sign["over"]
        assert least["over"]
        assert sign["status"] == least["status"] == known.status
        assert least["upper"] - least["lower"] <= GAP
        assert least["lower"] <= known.upper
        assert least["upper"] >= known.lower
        first = float(crown(wide, box, label, arithmetic="real").lower.min())
        assert sign["history"][0]["lower"] == pytest.approx(first, abs=1e-9)
        span = (box.upper - box.lower).double()
        points = box.lower + span * torch.rand(2000, 2, generator=generator).double()
        margins = margins_of(wide, points, explorer.label)
        at = margins_of(wide, torch.tensor([least["witness"]], dtype=torch.float64), explorer.label)
        assert at.item() == pytest.approx(least["upper"], abs=1e-9)
        for answer in (sign, least):
            areas = [area(leaf["polygon"]) for leaf in answer["leaves"] if leaf["polygon"]]
            assert sum(areas) == pytest.approx(float(span.prod()), abs=1e-6)
            for leaf in answer["leaves"]:
                if leaf["bound"] is not None:
                    inside = within(points, leaf["polygon"])
                    assert (margins[inside] >= leaf["bound"]).all()


def margins_of(model: nn.Module, points: torch.Tensor, label: int) -> torch.Tensor:
    """Return the margin over the best rival at each point, (N,)."""
    with torch.no_grad():
        logits = model(points)
    rivals = logits.clone()
    rivals[:, label] = -torch.inf
    return logits[:, label] - rivals.amax(dim=1)


def within(points: torch.Tensor, polygon: list[list[float]]) -> torch.Tensor:
    """Tell which points lie in a convex polygon, counter-clockwise, (N,), bool."""
    ends = torch.tensor(polygon, dtype=torch.float64)
    inside = torch.ones(len(points), dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(ends, ends.roll(-1, 0), strict=True):
        inside &= (bx - ax) * (points[:, 1] - ay) - (by - ay) * (points[:, 0] - ax) >= -1e-12
    return inside


def test_a_bracket_only_closes(node: None) -> None:
    explorer = BranchingExplorer(radius=0.5)
    (answer,) = compute([search(explorer, "sign")])
    lows, highs = ([step[key] for step in answer["history"]] for key in ("lower", "upper"))
    assert lows == sorted(lows)
    assert highs == sorted(highs, reverse=True)
    assert [step["bounds"] for step in answer["history"]] == list(range(1, 2 * len(lows), 2))
    assert lows[0] < 0 < lows[-1]  # what one bound leaves open, some splits prove
    assert len(lows) > 4


def test_a_tie_has_no_class_to_keep() -> None:
    model = mlp(2, 4, 2).eval()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    with pytest.raises(ValueError, match="one largest logit"):
        BranchingExplorer(model)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (mlp(2, 4, 4, 2), {}, "received 3 Linear layers"),
        (mlp(2, 9, 2), {}, "1 to 8 ReLUs"),
        (mlp(2, 4, 1), {}, "two logits"),
        (mlp(3, 4, 2), {}, "2 inputs"),
        (mlp(2, 4, 2), {"centre": (0.0, float("nan"))}, "two finite numbers"),
        (mlp(2, 4, 2), {"radius": 0.123}, "one of some positive"),
    ],
)
def test_branching_refuses(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BranchingExplorer(model.eval(), **options)


# --- the networks ---


def test_networks_do_what_their_script_says() -> None:
    model, test = digits_mlp(), digits().test
    right = (model(test.images).argmax(dim=1) == test.labels).double().mean()
    assert 0.9 < right < 0.97
    inputs = 2 * torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) - 1
    inside = (inputs.square().sum(dim=1) < 0.55).long()
    assert (disc_network()(inputs).argmax(dim=1) == inside).double().mean() > 0.95


def test_script_makes_the_disc_network_again() -> None:
    place = HERE.parents[1] / ".ci" / "train_proof_networks.py"
    spec = importlib.util.spec_from_file_location("train_proof_networks", place)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made, shipped = script.train_disc(), disc_network()
    points = 2 * torch.rand(2000, 2, generator=torch.Generator().manual_seed(1)) - 1
    same = made(points).argmax(dim=1) == shipped(points).argmax(dim=1)
    assert same.double().mean() > 0.98


# --- what a reader sees ---


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.mark.browser
def test_a_reader_drags_the_triangle(open_widget: Callable[..., Any]) -> None:
    page = open_widget(TriangleExplorer(-1, 2, 0.5))
    said, cells = page.locator(".verdict"), page.locator("dd")
    lines = relax(-1, 2, 0.5)
    assert cells.all_inner_texts() == ["0.67 z + 0.67", "0.5 z", "1", f"{lines.area:g}"]
    assert "below ReLU by 0.5 at l and 1 at u" in said.inner_text()
    assert page.locator(".mark").inner_text() == "unstable"
    page.get_by_role("slider", name="Slope").press("End")
    assert "below ReLU by 1 at l; it adds 0.5" in said.inner_text()
    grip, plot = page.locator('[data-end="l"]'), page.locator(".triangle").bounding_box()
    box = grip.bounding_box()
    unit = (page.locator('[data-end="u"]').bounding_box()["x"] - box["x"]) / 3
    page.mouse.move(box["x"] + 24, box["y"] + 24)
    page.mouse.down()
    page.mouse.move(box["x"] + 24 + 1.5 * unit, box["y"] + 24, steps=4)
    page.mouse.up()
    assert page.evaluate("model.get('lower')") == pytest.approx(0.5)
    assert page.locator(".mark").inner_text() == "stable, on"
    assert "No triangle, and nothing is lost" in said.inner_text()
    assert page.locator(".allowed").count() == 0
    assert plot["height"] < 400
    lowest = page.get_by_role("slider", name="Lower end")
    lowest.press("End")
    assert (page.evaluate("model.get('lower')"), page.evaluate("model.get('upper')")) == (3, 3)
    page.get_by_role("button", name="Reset").click()
    assert [page.evaluate(f"model.get('{key}')") for key in ("lower", "upper", "slope")] == [
        -1,
        2,
        0.5,
    ]


@pytest.mark.browser
def test_a_reader_raises_epsilon(open_page: Callable[..., Any]) -> None:
    page = open_page(SandwichExplorer())
    mark, said = page.locator(".mark"), page.locator(".verdict")
    spoken = page.get_by_role("status").first
    assert mark.count() == 0
    assert "every margin is positive" in said.inner_text()
    slider = page.get_by_role("slider", name="Radius")
    seen = []
    for _ in range(40):
        slider.press("ArrowRight")
        seen.append(mark.inner_text())
    assert sorted(set(seen), key=seen.index) == ["proved", "unknown", "refuted"]
    assert seen == sorted(seen, key=["proved", "unknown", "refuted"].index)
    assert re.search(r"ℓ∞ change within ε = 0\.2 makes this 0 a 2", said.inner_text())
    for _ in range(20):
        slider.press("ArrowLeft")
    assert re.search(r"No ℓ∞ change within ε = 0\.1 .*another digit \(CROWN", said.inner_text())
    page.wait_for_timeout(700)
    assert spoken.inner_text().startswith("proved: No ℓ∞ change within ε = 0.1")
    page.get_by_text("The numbers as a table").click()
    rows = page.locator("tr").all()[1:]
    known = SandwichExplorer(epsilon=0.1).sandwich()
    shown = [[number(cell) for cell in row.locator("td").all_inner_texts()[:2]] for row in rows]
    lost = np.stack([known.ibp, known.crown], axis=1) - shown  # bounds are rounded down
    assert (lost > -1e-6).all()
    assert (lost < 0.0101).all()
    page.get_by_role("button", name="a 5 from the test set").click()
    assert mark.inner_text() == "wrong already"
    page.get_by_text("Draw a digit").click()
    pad = page.get_by_role("application", name="Draw a digit")
    pad.focus()
    for key in ("Space", *["ArrowDown"] * 6, "Space"):
        page.keyboard.press(key)
    slider.press("ArrowRight")
    assert re.search(r"the drawing, read as a \d", said.inner_text())


@pytest.mark.browser
def test_a_reader_splits_until_it_is_proved(open_widget: Callable[..., Any]) -> None:
    page = open_widget(BranchingExplorer(radius=0.5))
    mark, said = page.locator(".mark"), page.locator(".verdict")
    split = page.get_by_role("button", name="Split")
    assert mark.inner_text() == "unknown"
    assert "After 1 bound, the whole square is open, ℓ∞ ε = 0.5 of (0, 0)." in said.inner_text()
    assert "The least margin is between −4.37 and" in said.inner_text()
    name, dot = (page.locator(f".map .{part}").bounding_box() for part in ("named", "centre"))
    assert name["y"] + name["height"] <= dot["y"]  # it is not printed over the dot
    count = 0
    while split.get_attribute("aria-disabled") == "false":
        split.press("Enter")
        count += 1
        assert page.locator(".case").count() == count + 1
        assert page.evaluate("model.get('splits')") == count
    model, box, label = BranchingExplorer(radius=0.5).problem()
    (known,) = branch_and_bound(model, box, label, arithmetic="real", gap=GAP)
    assert mark.inner_text() == known.status == "proved"
    assert f"Every input within ℓ∞ ε = 0.5 of (0, 0) is class 1, after {2 * count + 1} bounds" in (
        said.inner_text()
    )
    assert page.locator(".case.proved").count() == count + 1
    page.get_by_role("button", name="Undo").click()
    assert mark.inner_text() == "unknown"
    page.get_by_role("radio", name="how small").check()
    page.get_by_role("button", name="To the end").click()
    low = number(re.search(r"least margin is (\S+), to 0.001", said.inner_text())[1])
    assert known.lower - 0.0051 <= low <= known.upper + 0.0051
    page.get_by_role("slider", name="Radius").press("ArrowRight")
    page.get_by_role("button", name="To the end").click()
    assert mark.inner_text() == "refuted"
    assert page.locator(".worst.below").count() == 1
    page.get_by_role("button", name="Reset").click()
    assert page.locator(".case").count() == 1
