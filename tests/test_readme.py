"""What the README and the notes promise, done as a reader would do it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


class _ReturnsDictionary(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return {"logits": self.network(images), "features": images}


@pytest.mark.filterwarnings("error")
def test_the_readme_attacks_a_model_of_ones_own(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    torch.manual_seed(0)
    images = torch.rand(6, 3, 224, 224)
    network = nn.Sequential(nn.AvgPool2d(56), nn.Flatten(), nn.Linear(48, 5)).eval()
    scope = {"images": images, "labels": network(images).argmax(1), "your_network": network}
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (300, 240), "olive").save("my_cat.jpg")

    exec(blocks[0].replace("steps=40", "steps=3"), scope)
    difference = (scope["adversarial"] - images).abs().max()
    assert 0 < difference <= 8 / 255 + 1e-6
    plain, from_dictionary = blocks[1].strip().splitlines()
    exec(plain, scope)
    expected = scope["model"](images)
    exec(from_dictionary, scope | {"your_network": _ReturnsDictionary(network)}, found := {})
    assert torch.equal(found["model"](images), expected)
    exec(blocks[2], scope)
    exec(blocks[3].replace("steps=40", "steps=3"), scope)
    quick = "partial(autoattack, steps=3, queries=10)"
    exec(blocks[4].replace("autoattack, ball", f"{quick}, ball"), scope)
    assert (tmp_path / "evaluation.json").exists()
    printed = capsys.readouterr().out
    assert printed.count("ℓ∞ ε = 8/255") == 2
    assert "6" in printed

    exec(blocks[5].replace("ball)", "ball, steps=5, queries=10)"), scope)
    assert "gradients predict the loss" in capsys.readouterr().out
    exec(blocks[6], scope)
    statuses = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert len(statuses) == 6
    assert set(statuses) <= {"proved", "refuted", "unknown"}


@pytest.mark.network
def test_the_notes_pig_on_resnet50():
    """Class 341, "hog", with the loss that the notes print: 0.00388 within 5%."""
    from within_epsilon.data import photo
    from within_epsilon.models import photo_classifier

    model = photo_classifier("resnet50", weights="IMAGENET1K_V1")
    logits = model(photo("pig"))
    assert logits.argmax(1).item() == 341
    assert model.categories[341] == "hog"
    loss = nn.functional.cross_entropy(logits, torch.tensor([341])).item()
    assert loss == pytest.approx(0.003882253309711814, rel=0.05)
