"""Small networks and data in a folder of their own, and commands called as users call them."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from within_epsilon.commands import main
from within_epsilon.data import digits

MINE = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

def number():
    return 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to work in, with nothing of another test's in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    (tmp_path / "mine.py").write_text(MINE)
    yield tmp_path
    for name, module in list(sys.modules.items()):  # a later test's may have the same name
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def call():
    """Call a verb in this process; returns the exit status and all that it said."""

    def run(*words):
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def arrays(folder):
    """Write an .npz file of digits, 8 bits a pixel."""

    def write(name="test.npz", n=64, **changed):
        images, labels = digits().test[:n]
        pixels = (images * 255).round().byte().squeeze(1).numpy()
        np.savez(folder / name, **({"images": pixels, "labels": labels.numpy()} | changed))
        return folder / name

    return write


@pytest.fixture
def pictures(folder):
    """Write a folder of digits as pictures, a folder for each class."""

    def write(name="pictures", n=40, called=str):
        images, labels = digits().test[:n]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / name / called(int(label))
            place.mkdir(parents=True, exist_ok=True)
            pixels = (image[0] * 255).round().byte().numpy()
            Image.fromarray(pixels).save(place / f"{number:03d}.png")
        return folder / name

    return write
