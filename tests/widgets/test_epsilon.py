"""The ε explorer: what it records, and that the browser shows exactly that."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from within_epsilon.attacks import fgsm, random_noise
from within_epsilon.evaluation import verdict
from within_epsilon.models import Classifier
from within_epsilon.threat import Ball
from within_epsilon.widgets import EpsilonExplorer
from within_epsilon.widgets.recording import record_curve

NAMES = ("cat", "dog", "hen", "pig & sow", "<ram>", "yak", "zebu")


def linear(*shape: int) -> Classifier:
    """Return a linear model that ignores its last row of pixels: there the gradient is 0."""
    generator = torch.Generator().manual_seed(0)
    size = int(np.prod(shape))
    layer = nn.Linear(size, len(NAMES))
    with torch.no_grad():
        weight = torch.randn(len(NAMES), *shape, generator=generator) / size**0.5
        weight[..., -1, :] = 0
        layer.weight.copy_(8 * weight.flatten(1))
        layer.bias.zero_()
    return Classifier(nn.Sequential(nn.Flatten(), layer), categories=NAMES).eval()


def picture(*shape: int, levels: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, levels + 1, (1, *shape), generator=generator) / levels


def photo_explorer(**options: Any) -> EpsilonExplorer:
    """An 8-bit colour picture, which travels as a PNG."""
    return EpsilonExplorer(linear(3, 10, 12), picture(3, 10, 12, levels=255), **options)


def digit_explorer(**options: Any) -> EpsilonExplorer:
    """A grey picture in sixteenths, which no 8-bit PNG can hold."""
    return EpsilonExplorer(linear(1, 8, 8), picture(1, 8, 8, levels=16), **options)


# --- recording ---


def test_recorded_stops_are_what_the_model_says() -> None:
    model, images = linear(1, 8, 8), picture(1, 8, 8, levels=16)
    signs = torch.randint(-1, 2, images.shape, generator=torch.Generator().manual_seed(2))
    epsilons = [0.0, 0.1, 0.3]
    curve = record_curve(model, images, signs, epsilons, watch=[6], top=2, batch_size=2)
    assert len(curve) == 3
    for epsilon, stop in zip(epsilons, curve, strict=True):
        expected = model((images + epsilon * signs).clamp(0, 1)).detach().softmax(-1)[0]
        order = expected.argsort(descending=True).tolist()
        kept = [i for i in order if i == 6 or i in [j for j in order if j != 6][:2]]
        assert [i for i, _ in stop] == kept
        for index, probability in stop:
            assert probability == pytest.approx(float(expected[index]), rel=1e-5)


@pytest.mark.parametrize("make", [photo_explorer, digit_explorer])
def test_directions_are_the_attacks_of_the_library(make: Callable[..., EpsilonExplorer]) -> None:
    explorer = make(target="zebu", seed=3)
    model, images = linear(*explorer.shape), explorer._images
    true, goal = torch.tensor([explorer.label]), torch.tensor([NAMES.index("zebu")])
    for epsilon in explorer.epsilons[1::4]:
        explorer.epsilon = epsilon
        ball = Ball("linf", epsilon)
        expected = {
            "away": fgsm(model, images, true, ball),
            "towards": fgsm(model, images, goal, ball, targeted=True),
            "random": random_noise(images, ball, seed=3),
        }
        for explorer.direction, images_adv in expected.items():
            torch.testing.assert_close(explorer.perturbed(), images_adv, rtol=0, atol=0)


def test_defaults_suit_the_picture() -> None:
    photo = EpsilonExplorer(linear(3, 100, 100), picture(3, 100, 100, levels=255))
    assert photo.epsilons[0] == 0
    assert photo.epsilons[-1] == 16 / 255
    assert photo.epsilon == 1 / 255
    assert photo.label == int(linear(3, 100, 100)(photo._images).argmax())
    assert digit_explorer(epsilon=0.1).epsilons[-1] == 0.5


def test_own_epsilon_becomes_a_stop_and_others_snap() -> None:
    explorer = digit_explorer(epsilon=0.123)
    assert explorer.epsilon == 0.123
    explorer.epsilon = 0.39
    assert explorer.epsilon == 0.4
    with pytest.raises(Exception, match="expected one of away, random"):
        explorer.direction = "sideways"


def test_parameters_and_mode_stay_as_found() -> None:
    model = linear(1, 8, 8)
    EpsilonExplorer(model, picture(1, 8, 8, levels=16))
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": picture(1, 8, 8, levels=16).repeat(2, 1, 1, 1)}, r"one image.*images\[:1\]"),
        ({"images": 255 * picture(1, 8, 8, levels=16)}, "divide by 255"),
        ({"label": "unicorn"}, "expected a name from model.categories, received 'unicorn'"),
        ({"target": 7}, "expected a class from 0 to 6, received 7"),
        ({"direction": "towards"}, "name a target"),
        ({"epsilon": 8}, "8 / 255"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    arguments = {"images": picture(1, 8, 8, levels=16), **change}
    with pytest.raises(ValueError, match=message):
        EpsilonExplorer(linear(1, 8, 8), **arguments)


def test_html_is_deterministic_and_says_what_is_seen() -> None:
    one, two = photo_explorer(seed=1), photo_explorer(seed=1)
    assert one.to_html() == two.to_html()
    assert repr(one) == repr(two)
    name = NAMES[one.label].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f'alt="The clean image: {name}"' in one.to_html()
    assert "perturbation × 64" in one.to_html()


# --- browser ---

PIXELS = """(canvas) => {
  const { width, height } = canvas;
  return [height, width, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
}"""


def pixels(page: Any, place: int) -> np.ndarray:
    height, width, values = page.locator("canvas").nth(place).evaluate(PIXELS)
    return np.array(values).reshape(height, width, 4)


def expected_pixels(images: Tensor) -> np.ndarray:
    array = np.rint(images[0].permute(1, 2, 0).double().numpy() * 255)
    return np.broadcast_to(array, (*array.shape[:2], 3))


def assert_shows(page: Any, explorer: EpsilonExplorer, place: int, direction: str) -> None:
    """Compare all three canvases, the bars and the verdict with what Python computes."""
    explorer.epsilon, explorer.direction = explorer.epsilons[place], direction
    images_adv = explorer.perturbed()
    k = re.search(r"×\s(\d+)", page.locator("figcaption:visible").nth(1).inner_text())
    delta = images_adv.double() - explorer._images.double()
    middle = (0.5 + float(k[1] if k else 1) * delta).clamp(0, 1)
    for canvas, images in enumerate((explorer._images, middle, images_adv)):
        shown = pixels(page, canvas)
        np.testing.assert_array_equal(shown[..., :3], expected_pixels(images))
        assert (shown[..., 3] == 255).all()
    probabilities = linear(*explorer.shape)(images_adv).detach().double().softmax(-1)[0]
    rows = page.locator(".bars li")
    for row in range(rows.count()):
        name = rows.nth(row).locator(".name").inner_text().split("  ")[0]
        name = re.sub(r"\s*(clean answer|target)$", "", name)
        value = rows.nth(row).locator(".value").inner_text()
        percent = 100 * float(probabilities[NAMES.index(name)])
        shown_percent = float({"<0.1%": "0", ">99.9%": "100"}.get(value, value).removesuffix("%"))
        assert shown_percent == pytest.approx(percent, abs=0.0501)
    sentence = verdict(
        linear(*explorer.shape),
        explorer._images,
        images_adv,
        Ball("linf", explorer.epsilon),
        {"away": "FGSM", "towards": "FGSM towards zebu", "random": "random signs"}[direction],
    )
    assert page.locator(".verdict").inner_text().endswith(sentence)
    assert explorer.verdict() == sentence


@pytest.mark.browser
@pytest.mark.parametrize("make", [photo_explorer, digit_explorer])
def test_page_shows_exactly_what_python_computes(
    open_page: Callable[..., Any], make: Callable[..., EpsilonExplorer]
) -> None:
    explorer = make(target="zebu")
    page = open_page(explorer)
    slider = page.get_by_role("slider", name="Size of the perturbation")
    place = explorer.epsilons.index(explorer.epsilon)
    assert_shows(page, explorer, place, "away")
    last = len(explorer.epsilons) - 1
    for key, to in [("ArrowRight", place + 1), ("Home", 0), ("ArrowUp", 1), ("ArrowDown", 0),
                    ("End", last), ("ArrowLeft", last - 1), ("PageDown", None)]:  # fmt: skip
        slider.press(key)
        now = int(slider.input_value())
        assert now == to or (to is None and now < last - 2)
        assert_shows(page, explorer, now, "away")
        assert slider.get_attribute("aria-valuetext") == explorer.readouts[now]
    page.get_by_role("radio", name="towards zebu").check()
    assert_shows(page, explorer, now, "towards")
    page.keyboard.press("ArrowRight")
    assert_shows(page, explorer, now, "random")
    page.get_by_role("button", name="Reset").click()
    assert_shows(page, explorer, place, "away")
    page.wait_for_timeout(700)
    assert explorer.verdict() in page.get_by_role("status").inner_text()


@pytest.mark.browser
def test_widget_speaks_with_the_kernel(open_widget: Callable[..., Any]) -> None:
    explorer = digit_explorer(target="zebu", epsilon=0.1)
    page = open_widget(explorer)
    place = explorer.epsilons.index(0.1)
    assert_shows(page, explorer, place, "away")
    page.get_by_role("slider").press("ArrowRight")
    page.get_by_role("radio", name="random signs").check()
    sent = page.evaluate("sent.map(({ epsilon, direction }) => [epsilon, direction])")
    assert sent == [[explorer.epsilons[place + 1], "away"],
                    [explorer.epsilons[place + 1], "random"]]  # fmt: skip
    page.evaluate("epsilon => model.set('epsilon', epsilon)", 0.5)
    assert_shows(page, explorer, len(explorer.epsilons) - 1, "random")
    assert page.evaluate("sent.length") == 2  # what the kernel says is not sent back
    page.evaluate("close()")
    assert page.locator("#cell").inner_html() == ""


@pytest.mark.browser
def test_dragging_moves_both_ways_and_does_not_flood_the_live_region(
    open_page: Callable[..., Any],
) -> None:
    page = open_page(digit_explorer(epsilon=0.1))
    page.wait_for_timeout(700)
    page.evaluate(
        """() => {
          const { shadowRoot } = document.querySelector("[data-theme]:not(html)");
          globalThis.spoken = 0;
          new MutationObserver(() => { spoken += 1; }).observe(
            shadowRoot.querySelector("[role=status]"), { childList: true });
        }"""
    )
    box = page.get_by_role("slider").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * (0.5 + step / 40), box["y"] + 20)
    page.mouse.up()
    slider = page.get_by_role("slider")
    assert slider.input_value() == slider.get_attribute("max")
    page.wait_for_timeout(800)
    assert page.evaluate("spoken") == 1
    chart = page.locator(".curve").bounding_box()
    page.mouse.click(chart["x"] + 14, chart["y"] + 50)
    assert slider.input_value() == "0"


@pytest.mark.browser
def test_follows_the_theme_and_keeps_pixels(open_page: Callable[..., Any]) -> None:
    explorer = photo_explorer()
    head = "<style>html[data-theme=dark] img { filter: brightness(.8) }</style>"
    page = open_page(explorer, head=head)
    colour = "node => getComputedStyle(node).backgroundColor"
    light = page.locator(".card").evaluate(colour)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("document.querySelector('within-epsilon-explorer [data-theme=dark]')")
    assert page.locator(".card").evaluate(colour) != light
    assert_shows(page, explorer, explorer.epsilons.index(explorer.epsilon), "away")
    still = page.locator("within-epsilon-explorer img").first
    assert still.evaluate("node => getComputedStyle(node).filter") == "none"


@pytest.mark.browser
def test_nothing_is_given_away_before_a_touch(open_page: Callable[..., Any]) -> None:
    explorer = digit_explorer(epsilon=0)
    page = open_page(explorer)
    slider = page.get_by_role("slider")
    drawn = "line => (line.getAttribute('d').match(/[ML]/g) ?? []).length"
    lines = page.locator(".curve .line")
    assert slider.input_value() == "0"
    assert page.locator(".verdict .mark").inner_text() == "unchanged"
    assert [line.evaluate(drawn) for line in lines.all()] == [1, 1]
    for _ in range(3):
        slider.press("ArrowRight")
    slider.press("ArrowLeft")
    assert [line.evaluate(drawn) for line in lines.all()] == [4, 4]
    page.get_by_role("radio", name="random signs").check()
    assert [line.evaluate(drawn) for line in lines.all()] == [3, 3]
    page.get_by_role("button", name="Reset").click()
    assert [line.evaluate(drawn) for line in lines.all()] == [1, 1]


@pytest.mark.browser
def test_a_success_that_noise_has_too_is_none(open_page: Callable[..., Any]) -> None:
    for seed in range(100):
        explorer = digit_explorer(epsilon=0.5, seed=seed)
        ends = {way["key"]: way["curve"][-1][0][0] for way in explorer.directions}
        if explorer.label not in ends.values():
            break
    else:
        pytest.fail("no noise of these fools the model")
    page = open_page(explorer)
    mark = page.locator(".verdict .mark")
    assert mark.inner_text() == "noise does it too"
    page.get_by_role("radio", name="random signs").check()
    assert mark.inner_text() == "noise does it"
    page.get_by_role("radio", name="anything else").check()
    slider = page.get_by_role("slider")
    seen = set()
    for place in reversed(range(len(explorer.epsilons))):
        away, noise = (way["curve"][place][0][0] for way in explorer.directions)
        expected = (
            "unchanged" if place == 0
            else "holds" if away == explorer.label
            else "fooled" if noise == explorer.label
            else "noise does it too"
        )  # fmt: skip
        assert mark.inner_text() == expected
        seen.add(expected)
        slider.press("ArrowLeft")
    assert seen >= {"unchanged", "fooled", "noise does it too"}
