"""What all labs share: the kernel's answers, and how a page writes numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from within_epsilon import attacks
from within_epsilon.attacks import input_gradient
from within_epsilon.data import digits
from within_epsilon.losses import cross_entropy
from within_epsilon.models import Classifier, digits_classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.widgets import DigitLab, EpsilonExplorer, LogitsExplorer, PhotoLab
from within_epsilon.widgets.kernel import Answers, _pack, _unpack
from within_epsilon.widgets.stills import triptych
from within_epsilon.wording import radius

IMAGE = digits().test.images[:1]
LABEL = digits().test.labels[:1]
EIGHTH = {"epsilon": 0.125}


def apart(task: Callable[[], Any]) -> Any:
    """Run on another thread: this one may have the event loop of a browser's driver."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(task).result()


class Front:
    """The front end's end of the line: asks, and keeps what comes back."""

    def __init__(self, *models: nn.Module) -> None:
        self.answers = Answers(self._hear, models or [digits_classifier()], (1, 8, 8))
        self.heard: list[dict[str, Any]] = []
        self.last = 0

    def _hear(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        assert content["line"] == "here"
        self.heard.append(_unpack(content["message"], buffers))

    def send(self, message: dict[str, Any], network: int = 0) -> None:
        buffers: list[bytes] = []
        packed = _pack(message, buffers)
        self.answers.hear({"line": "here", "network": network, "message": packed}, buffers)

    def ask(self, task: str, network: int = 0, **request: Any) -> int:
        self.last += 1
        self.send({"id": self.last, "task": task, **request}, network)
        return self.last

    def result(self, task: str, network: int = 0, **request: Any) -> Any:
        number = apart(lambda: self.ask(task, network, **request))
        (answer,) = [one for one in self.heard if one["id"] == number and "progress" not in one]
        return answer.get("result", answer.get("error"))


def attack(front: Front, name: str, **options: Any) -> Any:
    label = int(LABEL)
    return front.result("attack", name=name, image=IMAGE[0], label=label, options=options)


def as_image(numbers: Tensor) -> Tensor:
    return numbers.view(1, 1, 8, 8)


def test_answers_are_the_librarys() -> None:
    front, model = Front(), digits_classifier()
    facts = front.result("open")
    assert facts["classes"] == 10
    assert facts["kernels"] == "PyTorch, cpu"
    assert facts["categories"] == list("0123456789")
    seen = front.result("predict", image=IMAGE[0], label=int(LABEL))
    torch.testing.assert_close(seen["logits"], model(IMAGE)[0].detach())
    assert seen["loss"] == pytest.approx(cross_entropy(model(IMAGE).double(), LABEL).item())
    _, gradient = input_gradient(model, IMAGE, LABEL)
    found = front.result("gradient", image=IMAGE[0], label=int(LABEL))
    torch.testing.assert_close(as_image(found["gradient"]), gradient, rtol=0, atol=0)

    ball = Ball("linf", 0.125)
    call = (model, IMAGE, LABEL, ball)
    expected = {
        "fgsm": ({}, attacks.fgsm(*call)),
        "pgd": ({"steps": 7, "seed": 3}, attacks.pgd(*call, steps=7, seed=3)),
        "noise": ({"seed": 5}, attacks.random_noise(IMAGE, ball, seed=5)),
    }
    for name, (options, images_adv) in expected.items():
        point = attack(front, name, **EIGHTH, **options)
        torch.testing.assert_close(as_image(point["image"]), images_adv, rtol=0, atol=0)
        assert point["step"] == point["steps"] == options.get("steps", name == "fgsm")
        torch.testing.assert_close(point["logits"], model(images_adv)[0].detach())
    towards = attacks.pgd(*call, steps=4, step_size=0.03, random_start=False, targeted=True)
    options = {"steps": 4, "stepSize": 0.03, "randomStart": False, "targeted": True}
    point = attack(front, "pgd", **EIGHTH, **options)
    torch.testing.assert_close(as_image(point["image"]), towards, rtol=0, atol=0)


def test_each_network_is_asked_by_its_place_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    second = Classifier(mlp(64, 12, 10)).eval()
    front = Front(digits_classifier(), second)
    logits = front.result("predict", network=1, image=IMAGE[0])["logits"]
    torch.testing.assert_close(logits, second(IMAGE)[0].detach())
    front.result("gradient", network=1, image=IMAGE[0], label=0)
    assert all(parameter.grad is None for parameter in second.parameters())


def test_mistakes_and_broken_models_come_back_as_sentences() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("weights of another life")

    front = Front(digits_classifier(), Broken())
    assert "expected at most 1" in attack(front, "pgd", epsilon=8)
    wrong = front.result("gradient", image=IMAGE[0], label=10)
    assert wrong.startswith("ValueError: labels: expected")
    said = front.result("predict", network=1, image=IMAGE[0])
    assert said == "RuntimeError: weights of another life"
    assert front.result("predict", image=IMAGE[0])["logits"].shape == (10,)


class WithoutDoubles(Tensor):
    """As on an accelerator that knows no float64."""

    def double(self) -> Tensor:
        raise TypeError("no float64 on this device")

    def cpu(self) -> Tensor:
        return self.as_subclass(Tensor)


class OnAccelerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = digits_classifier()

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).as_subclass(WithoutDoubles)


def test_needs_no_float64_of_the_models_device() -> None:
    there, here = OnAccelerator().eval(), digits_classifier()
    asked = {"image": IMAGE[0], "label": int(LABEL)}
    found, expected = (Front(model).result("predict", **asked) for model in (there, here))
    assert found["loss"] == expected["loss"]
    for make in (DigitLab, PhotoLab, EpsilonExplorer):
        one, other = (make(model, images=IMAGE, epsilons=[0.1]) for model in (there, here))
        assert one.verdict() == other.verdict()
        assert one.still() == other.still()
    logits = there(IMAGE)[0, :8]
    assert LogitsExplorer(logits).logits == LogitsExplorer(here(IMAGE)[0, :8]).logits
    images_adv = (IMAGE / 2).as_subclass(WithoutDoubles)
    assert triptych(IMAGE, images_adv, 0.1, "", "") == triptych(IMAGE, IMAGE / 2, 0.1, "", "")


def run_in_loop(talk: Callable[[Front], Any]) -> Front:
    """Let a conversation take place on an event loop, as a kernel's does."""
    front = Front()

    async def converse() -> None:
        await talk(front)

    apart(lambda: asyncio.run(converse()))
    return front


async def until(condition: Callable[[], Any]) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < 60
        await asyncio.sleep(0.002)


def ask_attack(front: Front, steps: int) -> int:
    options = {"epsilon": 0.1, "steps": steps}
    return front.ask("attack", name="pgd", image=IMAGE[0], label=0, options=options)


def test_progress_comes_from_the_first_step_and_a_cancelled_run_ends() -> None:
    """The loop stays free while an attack runs; what follows is answered in order."""

    async def talk(front: Front) -> None:
        long = ask_attack(front, 1_000_000)
        never = ask_attack(front, 1_000_000)
        after = front.ask("predict", image=IMAGE[0])
        await until(lambda: len(front.heard) >= 3)
        assert [one["progress"]["step"] for one in front.heard[:1]] == [0]
        assert {one["id"] for one in front.heard} == {long}
        front.send({"cancel": never})
        front.send({"cancel": long})
        await until(lambda: front.heard[-1]["id"] == after)

    front = run_in_loop(talk)
    assert {one["id"] for one in front.heard} == {1, 3}
    assert all("result" not in one for one in front.heard if one["id"] == 1)
    steps = [one["progress"]["step"] for one in front.heard if one["id"] == 1]
    assert steps == sorted(set(steps))


def test_no_more_is_sent_than_a_notebook_server_lets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("within_epsilon.widgets.kernel._PROGRESS_RATE", 1.0)  # 256 s an image
    front = Front()
    attack(front, "pgd", epsilon=0.1, steps=30)
    assert [one["progress"]["step"] for one in front.heard if "progress" in one] == [0]


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    ),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4),
)
def test_messages_survive_the_line(message: Any, numbers: list[float]) -> None:
    buffers: list[bytes] = []
    whole = {"message": message, "array": torch.tensor(numbers)}
    found = _unpack(_pack(whole, buffers), buffers) if numbers else whole
    assert found["message"] == message
    assert found["array"].tolist() == numbers


# --- browser ---


@pytest.mark.browser
def test_page_writes_radii_as_the_library_does(open_page: Callable[..., Any]) -> None:
    page = open_page()
    radii = [k / 255 / 16 for k in range(1, 400)] + [k / 1000 for k in range(1, 600)]
    radii += [0.1 + 0.2, 1 / 3, 0.12345, 1e-3 / 3]
    script = "async (radii) => radii.map((await import('/lab.js')).radius)"
    assert page.evaluate(script, radii) == [radius(number) for number in radii]
