"""`within-epsilon train`: fit's own result, saved so that it can be evaluated."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from processes import together
from safetensors.torch import load_file

from within_epsilon.attacks import pgd
from within_epsilon.commands.processes.sharing import SharedAttack, SharedObjective, SharedOptimizer
from within_epsilon.commands.processes.workers import Workers
from within_epsilon.data import digits
from within_epsilon.models import Classifier, small_cnn
from within_epsilon.threat import Ball
from within_epsilon.training import Adversarial, fit

BRIEF = ("--data", "digits", "--epsilon", "0.1", "--steps", 2, "--batch-size", 200)


def weights(path="out.safetensors"):
    return load_file(path)


def close(one, other, atol):
    return all(torch.allclose(one[name], other[name], atol=atol, rtol=0) for name in one)


def test_it_trains_as_fit_does_and_goes_on_to_the_same_weights(call, folder):
    assert call("train", *BRIEF, "--epochs", 1, "--out", "out.safetensors")[0] == 0
    status, said = call("train", *BRIEF, "--epochs", 2, "--out", "out.safetensors")
    assert status == 0, said
    assert "epoch 2 of 2" in said
    assert "epoch 1 of 2" not in said
    torch.manual_seed(0)
    model = Classifier(small_cnn())
    alone = Workers(0, 1, torch.device("cpu"))
    split = digits()
    history = fit(
        model,
        [split.train[k] for k in range(len(split.train))],
        SharedObjective(Adversarial(partial(pgd, steps=2), Ball("linf", 0.1)), alone),
        epochs=2,
        batch_size=200,
        optimizer=SharedOptimizer(partial(torch.optim.Adam, lr=0.002), alone, model),
        validation=split.validation,
        attack=SharedAttack(partial(pgd, steps=20), alone),
        keep="best",
    )
    assert close(weights(), model.body.state_dict(), 0)
    beside = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert beside["history"]["robust_accuracies"] == history.robust_accuracies
    line = next(line for line in said.splitlines() if "within-epsilon evaluate" in line)
    words = line.split("evaluate")[1].split("--data")[0].split()
    quick = ("--epsilon", "0.1", "--attack", "pgd", "--check", 0, "--limit", 40)
    status, said = call("evaluate", *words, "--data", "digits", *quick)
    assert status == 0, said


@pytest.mark.parametrize("objective", ["trades", "free", "single-step", "standard"])
def test_every_objective_trains(call, folder, objective):
    words = ("--objective", objective, "--epochs", 1, "--out", "out.safetensors")
    more = ("--optimizer", "sgd", "--lr", 0.05) if objective == "standard" else ()
    status, said = call("train", *BRIEF, *words, *more)
    assert status == 0, said
    assert set(weights()) == set(small_cnn().state_dict())


def test_mistakes_are_sentences_and_a_checkpoint_is_never_lost(call, folder, arrays):
    assert call("train", *BRIEF, "--epochs", 1, "--out", "out.safetensors")[0] == 0
    before = (folder / "out.safetensors.checkpoint").read_bytes()
    data = arrays()
    for name, side in (("0", 8), ("1", 9)):
        (folder / "mixed" / name).mkdir(parents=True)
        Image.new("L", (side, side)).save(folder / "mixed" / name / "a.png")
    for words, sentence in (
        ((*BRIEF, "--lr", 1), "of another run"),
        (("--data", data, "--epsilon", "0.1"), "of another run"),
        (("--data", "digits"), "--epsilon: expected the radius"),
        ((*BRIEF, "--out", "out.pt"), "ending in .safetensors"),
        ((*BRIEF, "--model", "resnet"), "did you mean"),
        ((*BRIEF, "--model", "mine:number"), "received a int"),
        (("--data", arrays("wide.npz", images=np.zeros((64, 28, 28), np.uint8)), *BRIEF[2:]),
         "cannot take images of shape (1, 28, 28)"),
        ((*BRIEF[:-2], "--validation", "wide.npz", "--data", data), "shape (1, 28, 28)"),
        ((*BRIEF[2:], "--data", data, "--keep", "best"), "--keep: expected --validation"),
        ((*BRIEF[2:], "--data", data, "--validation", "absent"), "--validation: there is no file"),
        ((*BRIEF[2:], "--data", data, "--validation", "digits"),
         "names as --data has, none and so on, received 0, 1, 2, 3"),
        ((*BRIEF, "--size", 9), "expected neither with digits"),
        ((*BRIEF, "--model", data), "test.npz, whose weights are fixed"),
        ((*BRIEF[2:], "--data", "mixed", "--out", "new.safetensors"), "pictures of one shape"),
        (("--data", arrays("many.npz", labels=np.arange(64)), *BRIEF[2:]), "each of 64 classes"),
    ):  # fmt: skip
        status, said = call("train", "--epochs", 1, "--out", "out.safetensors", *words)
        assert status == 2, said
        assert sentence in said
        assert said.count("\n") == 1
    assert (folder / "out.safetensors.checkpoint").read_bytes() == before


def test_outputs_without_a_class_of_the_data_get_names_too(call, folder, pictures):
    pictures(n=60, called=lambda label: "low" if label < 5 else "top")
    words = ("--data", "pictures", *BRIEF[2:], "--epochs", 1, "--out", "two.safetensors")
    status, said = call("train", *words)
    assert status == 0, said
    names = (folder / "two.classes.txt").read_text().split("\n")
    assert names == ["low", "top", *(f"output {k}" for k in range(2, 10)), ""]
    words = said.splitlines()[-1].split("evaluate")[1].split("--data")[0].split()
    quick = ("--epsilon", "0.1", "--attack", "fgsm", "--check", 0)
    status, said = call("evaluate", *words, "--data", "pictures", *quick)
    assert status == 0, said


@pytest.mark.parametrize(
    ("objective", "size"), [("standard", 1196), pytest.param("free", 200, marks=pytest.mark.slow)]
)
def test_two_processes_take_the_same_steps_as_one(call, folder, objective, size):
    """Losses and gradients of shares add up, also where a process has no row of the last one."""
    words = (*BRIEF[:-1], size, "--objective", objective, "--epochs", 2, "--keep", "last")
    assert call("train", *words, "--out", "one.safetensors")[0] == 0
    said = together(2, "train", *words, "--out", "two.safetensors")
    assert "epoch 2 of 2" in said[0]
    assert said[1] == ""
    one, two = (json.loads((folder / f"{name}.json").read_text()) for name in ("one", "two"))
    # Sums are rounded in another order; the adversary's signs may make more of it.
    atol = 1e-5 if objective == "standard" else 2e-2
    assert close(weights("one.safetensors"), weights("two.safetensors"), atol)
    losses = [found["history"]["train_losses"] for found in (one, two)]
    assert np.allclose(*losses, atol=10 * atol)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one_and_then_with_three(call, folder):
    """With running averages, and with an adversary that goes on from minibatch to minibatch."""
    (folder / "averages.py").write_text(
        "from torch import nn\ndef net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))\n"
    )
    words = ("train", "--model", "averages:net", "--data", "digits", "--epsilon", "0.1")
    words = (*words, "--objective", "free", "--batch-size", 240, "--out", "out.safetensors")
    together(2, *words, "--epochs", 1)
    status, said = call(*words, "--epochs", 2)
    assert status == 0, said
    said += together(3, *words, "--epochs", 3)[0]
    assert ["epoch 1" in said, "epoch 2 of 2" in said, "epoch 3 of 3" in said] == [
        False,
        True,
        True,
    ]
    history = json.loads((folder / "out.json").read_text())["history"]
    assert len(history["robust_accuracies"]) == 3
    assert history["train_losses"][2] < history["train_losses"][0]
