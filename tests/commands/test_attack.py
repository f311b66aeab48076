"""`within-epsilon attack`: what is saved is what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from within_epsilon.attacks import pgd
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball


@pytest.fixture
def digit(folder):
    """Save a digit of the test set that is read right, and return its pixels and its label."""

    def save(name="digit.png", number=0):
        image, label = digits().test[number]
        levels = (image[0] * 255).round().byte().numpy()
        Image.fromarray(levels).save(folder / name)
        return torch.from_numpy(levels)[None, None] / 255, int(label)

    return save


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", "25.6/255"), ("l2", "1.5"), ("l1", "8")])
def test_the_verdicts_and_norms_are_those_of_the_files(call, folder, digit, norm, epsilon):
    image, label = digit()
    words = ("--model", "digits_cnn", "--epsilon", epsilon, "--norm", norm, "--out", "out")
    status, said = call("attack", "digit.png", *words, "--label", label, "--steps", 20)
    assert status == 0, said
    found = json.loads((folder / "out" / "digit.json").read_text(encoding="utf-8"))
    model = digits_classifier()
    ball = Ball(norm, eval(epsilon))
    images_adv = pgd(model, image, torch.tensor([label]), ball, steps=20, seed=0)
    with Image.open(folder / "out" / "digit_adversarial.png") as file:
        assert (file.mode, file.format) == ("L", "PNG")
        levels = torch.from_numpy(np.asarray(file).copy())[None, None]
    assert torch.equal(levels, (images_adv.double() * 255).round().byte())
    for pixels, said_of in (
        (image, "clean"),
        (images_adv, "adversarial"),
        (levels / 255, "as_saved"),
    ):
        probabilities = model(pixels).double().softmax(1)[0]
        verdict = found[said_of]
        assert verdict["class"] == int(probabilities.argmax())
        assert verdict["probability"] == pytest.approx(float(probabilities.max()), abs=1e-6)
        assert verdict["fooled"] == (verdict["class"] != label)
    delta = levels.double() / 255 - (image.double() * 255).round() / 255
    assert found["norm_as_saved"] == pytest.approx(float(ball.length(delta)), rel=1e-9)
    assert found["within_ball_as_saved"] == (found["norm_as_saved"] <= ball.epsilon * (1 + 1e-9))
    assert found["threat_model"] == {"norm": norm, "epsilon": pytest.approx(ball.epsilon)}
    assert found["attack"] == "PGD, 20 steps"
    if norm == "linf":  # 25.6 levels are 26 in the file
        assert "outside the ball" in said
        assert found["norm_as_saved"] == pytest.approx(26 / 255)
    with Image.open(folder / "out" / "digit_figure.png") as figure:
        assert figure.width > 2 * figure.height


def test_many_pictures_with_and_without_labels(call, folder, digit):
    (_, first), (_, second) = digit("a.png", 0), digit("b.png", 1)
    (folder / "more").mkdir()
    digit("more/a.png", 2)
    words = ("--model", "digits_cnn", "--epsilon", "0.2", "--out", "out", "--steps", 5)
    assert call("attack", "a.png", "b.png", "more/a.png", *words)[0] == 0
    assert {path.name for path in (folder / "out").glob("*.json")} == {
        *("a.json", "b.json", "a_2.json"),
    }
    status, said = call("attack", "a.png", "b.png", *words, "--label", first, "--label", second)
    assert status == 0, said
    status, said = call("attack", "a.png", "b.png", "more/a.png", *words, *["--label", "1"] * 2)
    assert status == 2
    assert "3, one each" in said
    assert call("attack", "a.png", *words, "--label", "fish")[0] == 2
    assert call("attack", "a.png", *words, "--label", "10")[0] == 2


def test_a_minimal_attack_and_settings_by_name(call, folder, digit):
    digit()
    words = ("--model", "digits_cnn", "--epsilon", "0.3", "--out", "out")
    status, said = call("attack", "digit.png", *words, "--attack", "fmn", "--steps", 20)
    assert status == 0, said
    found = json.loads((folder / "out" / "digit.json").read_text(encoding="utf-8"))
    assert found["attack"] == "FMN, 20 steps"
    assert found["norm"] <= 0.3 + 1e-6
    restarts = ("--attack", "apgd", "--set", "restarts=2", "--steps", 5)
    assert call("attack", "digit.png", *words, *restarts)[0] == 0
    found = json.loads((folder / "out" / "digit.json").read_text(encoding="utf-8"))
    assert "2 restarts" in found["attack"]
    for wrong in (("--attack", "nothing"), ("--set", "speed=3"), ("--set", "targeted=True")):
        status, said = call("attack", "digit.png", *words, *wrong)
        assert status == 2
        assert said.count("\n") == 1


def test_pictures_before_a_bad_one_are_saved(call, folder, digit):
    digit("good.png")
    (folder / "bad.png").write_bytes(b"no picture")
    words = ("--model", "digits_cnn", "--epsilon", "0.1", "--out", "out", "--steps", 2)
    status, said = call("attack", "good.png", "bad.png", *words)
    assert status == 2
    assert "bad.png: no picture, or damaged" in said
    assert (folder / "out" / "good.json").exists()
    status, said = call("attack", "absent.png", *words)
    assert status == 2
    assert "there is no file absent.png" in said


@pytest.mark.photo
def test_a_photo_is_prepared_as_the_network_wants_it(call, folder):
    from skimage.data import chelsea

    Image.fromarray(chelsea()).save(folder / "cat.png")
    words = ("--model", "squeezenet1_0", "--epsilon", "2/255", "--steps", 5, "--out", "out")
    status, said = call("attack", "cat.png", *words)
    assert status == 0, said
    assert "Egyptian cat" in said
    found = json.loads((folder / "out" / "cat.json").read_text(encoding="utf-8"))
    assert found["as_saved"]["fooled"]
    assert found["norm_as_saved"] == 2 / 255
    assert found["within_ball_as_saved"]
