"""What every explorer promises, wherever it stands."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from within_epsilon.models import Classifier, digits_classifier
from within_epsilon.threat import Ball
from within_epsilon.widgets import (
    BallExplorer,
    BranchingExplorer,
    BroadcastExplorer,
    Case,
    DefenceExplorer,
    DigitLab,
    EpsilonConverter,
    EpsilonExplorer,
    Explorer,
    LinearExplorer,
    LogitsExplorer,
    MarginExplorer,
    PGDExplorer,
    PhotoLab,
    SandwichExplorer,
    SGDExplorer,
    SmoothingExplorer,
    SymbolExplorer,
    TrainingExplorer,
    TriangleExplorer,
)
from within_epsilon.widgets.base import _IMPORT, FRONTEND, bundle
from within_epsilon.wording import with_share


def epsilon() -> EpsilonExplorer:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    model = Classifier(layers, categories=("ant", "bee", "cow", "doe", "elk")).eval()
    return EpsilonExplorer(model, torch.rand(1, 3, 8, 8), target="elk", epsilon=0.1)


def sgd() -> SGDExplorer:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 2, generator=generator)
    noise = torch.randn(100, generator=generator)
    labels = torch.where(inputs[:, 0] - inputs[:, 1] + noise > 0, 1, -1)
    return SGDExplorer(inputs, labels)


def linear() -> LinearExplorer:
    inputs = torch.tensor([[0.5, 0.1], [0.3, -0.2], [-0.4, 0.2], [-0.6, -0.1], [0.1, 0.2]])
    return LinearExplorer(inputs, [1, 1, -1, -1, -1])


def pgd() -> PGDExplorer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    image = 0.2 + 0.6 * torch.rand(1, 1, 8, 8)
    first, second = image + torch.rand(2, 1, 1, 8, 8) - 0.5
    label = model(image).argmax(dim=1)
    return PGDExplorer(model, image, label, Ball("linf", 0.1), first, second)


def defences() -> DefenceExplorer:
    lost = {"epsilon": tuple(range(0, 100, 10)), "steps": tuple(range(7)), "restarts": (9,) * 5}
    honest = Case("honest", 100, 0.1, lost)
    fake = Case("<fake>", 100, 0.1, lost, "an attack & a half", "It is.", tuple(range(10, 110, 10)))
    return DefenceExplorer([[honest, fake], [fake, honest, honest]])


def digit_lab() -> DigitLab:
    return DigitLab(digits_classifier(), target=7, epsilons=(0.0, 0.1, 0.12, 0.14, 0.2))


def photo_lab() -> PhotoLab:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    model = Classifier(layers, categories=("ant", "bee", "cow", "doe", "elk")).eval()
    return PhotoLab(model, torch.rand(1, 3, 8, 8), targets=["elk"], epsilon=0.1)


MAKERS: dict[str, Callable[[], Explorer]] = {
    "balls": BallExplorer,
    "branching": BranchingExplorer,
    "broadcast": BroadcastExplorer,
    "converter": EpsilonConverter,
    "defences": defences,
    "digit_lab": digit_lab,
    "epsilon": epsilon,
    "linear": linear,
    "logits": lambda: LogitsExplorer([3.0, 1.0, -2.0], ["cat", "dog & hound", "<hen>"]),
    "margin": MarginExplorer,
    "pgd": pgd,
    "photo_lab": photo_lab,
    "sandwich": SandwichExplorer,
    "sgd": sgd,
    "smoothing": SmoothingExplorer,
    "symbols": SymbolExplorer,
    "training": lambda: TrainingExplorer(epsilon=0.2),
    "triangle": TriangleExplorer,
}
each = pytest.mark.parametrize("kind", MAKERS)


@each
def test_same_inputs_same_bytes(kind: str) -> None:
    one, two = MAKERS[kind](), MAKERS[kind]()
    assert one.kind == kind
    assert one.to_html() == two.to_html()
    assert repr(one) == repr(two)
    assert len(repr(one)) < 100
    assert "object at 0x" not in repr(one)


@each
def test_front_end_asks_only_for_what_the_state_has(kind: str) -> None:
    asked = set(re.findall(r"\bget\(\"(\w+)\"\)", bundle(kind)))
    for listed in re.findall(r"\[([^\]]*)\]\s*\)?(?:\.map\(get\)|, show|, again)", bundle(kind)):
        asked |= set(re.findall(r"\"(\w+)\"", listed))
    assert asked
    assert asked <= set(MAKERS[kind]().page_state())


def modules(name: str, seen: set[str]) -> set[str]:
    """Collect a module and those that it imports, each by its path in the front end."""
    if name not in seen:
        seen.add(name)
        for needed in _IMPORT.findall((FRONTEND / f"{name}.js").read_text()):
            modules(
                (FRONTEND / name).parent.joinpath(needed).relative_to(FRONTEND).as_posix(), seen
            )
    return seen


@each
def test_a_page_loads_little_code_before_touch(kind: str) -> None:
    loaded = modules("entry", set()) | modules(kind, set())
    sizes = {name: len(gzip.compress((FRONTEND / f"{name}.js").read_bytes())) for name in loaded}
    runs_a_network, proves = {"lab", "training"} & set(sizes), "mlp" in sizes
    assert sum(sizes.values()) < (31_500 if runs_a_network else 20_800 if proves else 17_900), sizes


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_palette_stands_out_in_light_and_dark() -> None:
    style = (FRONTEND / "style.js").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block))
        for block in re.findall(r":host[^{]*\{([^}]*)\}", style)[:2]
    )
    assert set(light) == set(dark)
    for palette in (light, dark):
        paper = luminance(palette["surface"])
        for name in set(palette) - {"surface", "line", "track"}:
            ink = luminance(palette[name])
            contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
            least = 4.5 if "text" in name or name == "muted" else 3
            assert contrast >= least, (name, palette[name], contrast)


# --- browser ---


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_all_on_one_page_are_accessible_and_fit(
    open_page: Callable[..., Any], assert_sound: Callable[..., None], theme: str, width: int
) -> None:
    explorers = [make() for make in MAKERS.values()]
    page = open_page(*explorers, epsilon(), theme=theme, width=width)
    assert_sound(page, width)


@pytest.mark.browser
@each
def test_widget_is_the_same_and_closes(open_widget: Callable[..., Any], kind: str) -> None:
    page = open_widget(MAKERS[kind]())
    assert page.locator(".verdict").inner_text()
    page.evaluate("close()")
    assert page.locator("#cell").inner_html() == ""


def wait_until(page: Any, true: Callable[[], bool]) -> None:
    """Give a lab, which asks its network, five seconds to get there."""
    for _ in range(100):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.locator(".verdict").inner_text())


@pytest.mark.browser
@each
def test_keys_stay_in_the_explorer_and_reset_undoes(
    open_widget: Callable[..., Any], kind: str
) -> None:
    page = open_widget(MAKERS[kind]())
    page.evaluate(
        "() => { globalThis.keys = []; addEventListener('keydown', e => keys.push(e.key)); }"
    )
    verdict = page.locator(".verdict")
    before = verdict.inner_text()
    control = page.locator("input[type=range]:visible, input[type=radio]:checked").first
    control.press("ArrowRight")
    control.press("ArrowRight")
    wait_until(page, lambda: verdict.inner_text() != before)
    page.keyboard.press("Tab")
    page.keyboard.press("Control+s")
    assert page.evaluate("keys") == ["Tab", "Control", "s"]
    page.get_by_role("button", name="Reset").click()
    wait_until(page, lambda: verdict.inner_text() == before)


@pytest.mark.browser
@each
def test_still_stands_where_no_script_runs(open_page: Callable[..., Any], kind: str) -> None:
    explorer = MAKERS[kind]()
    page = open_page(explorer, java_script_enabled=False)
    stills = page.locator("within-epsilon-explorer").locator("img, table")
    assert stills.count() > 0
    for still in stills.all():
        assert still.is_visible()
        assert still.get_attribute("alt") or still.inner_text()


@pytest.mark.browser
def test_pages_write_a_class_and_its_probability_as_python_does(
    open_page: Callable[..., Any],
) -> None:
    names = ("Egyptian cat", "9", "10", "type 2", "²", "٣", "9 of clubs", "")
    shares = (0, 0.0004, 0.004, 0.125, 0.857, 0.9949, 0.9994, 1)
    pairs = [[name, share] for name in names for share in shares]
    said = open_page().evaluate(
        """async (pairs) => {
          const { withShare } = await import("./shares.js");
          return pairs.map(([name, share]) => withShare(name, share));
        }""",
        pairs,
    )
    assert said == [with_share(name, share) for name, share in pairs]
