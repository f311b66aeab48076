"""An evaluation that was interrupted goes on where it ended, or says why it cannot."""

import json
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from within_epsilon.attacks import count_evaluations, fgsm, noise_control, pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import DoubtfulEvaluationWarning, robust_accuracy
from within_epsilon.evaluation.fingerprint import experiment
from within_epsilon.losses import margin_loss
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
TEST = digits().test
IMAGES, LABELS = TEST.images[:90], TEST.labels[:90]
ATTACK = partial(pgd, steps=3)


def run(path, *, model=None, attack=ATTACK, data=(IMAGES, LABELS), ball=BALL, batch_size=20):
    model = model or digits_classifier()
    return robust_accuracy(model, data, attack, ball, batch_size=batch_size, resume=path)


class InterruptedWork(Exception):  # noqa: N818 - no error
    pass


class Diary:
    """Which examples an attack has been given, call by call, and how many calls it may get."""

    def __init__(self, calls):
        self.calls, self.pages = calls, []

    def __getstate__(self):
        return None  # keeping a diary makes no other attack

    def examples(self):
        return [index for page in self.pages for index in page]


def noted(diary):
    """Return PGD that keeps a diary, and fails after as many calls as that allows."""

    def attack(model, images, labels, ball, *, indices):
        if len(diary.pages) == diary.calls:
            raise InterruptedWork
        diary.pages.append(indices.tolist())
        return ATTACK(model, images, labels, ball, indices=indices)

    return attack


@pytest.fixture
def half_done(tmp_path):
    """Return the path of a record that ends after 40 of 90 examples."""
    path = tmp_path / "record.json"
    with pytest.raises(InterruptedWork):
        run(path, attack=noted(Diary(2)))
    return path


@pytest.mark.parametrize("calls", range(5))
@pytest.mark.parametrize("batch_size", [20, 7, 256])
def test_goes_on_without_repeating_work(tmp_path, calls, batch_size):
    path, first, second = tmp_path / "record.json", Diary(calls), Diary(99)
    with pytest.raises(InterruptedWork):
        run(path, attack=noted(first))
    with count_evaluations(model := digits_classifier()) as spent:
        report = run(path, model=model, attack=noted(second), batch_size=batch_size)
    whole = run(None)
    assert report == replace(whole, attack="attack")
    before, after = first.examples(), second.examples()
    assert len(first.pages) == calls
    assert len(before + after) == len({*before, *after}) == round(90 * whole.clean_accuracy)
    looked_at = min(len(after), max(0, 64 - len(before)))
    assert spent.gradients == 3 * len(after) + looked_at
    assert spent.forwards == 90 - 20 * calls + (3 + 1) * len(after) + 2 * looked_at
    with count_evaluations(model) as spent:
        assert run(path, model=model, attack=noted(Diary(0))) == report
    assert (spent.forwards, spent.gradients) == (0, 0)


def test_an_interruption_between_two_attacks_of_an_ensemble(tmp_path):
    path, first, second = tmp_path / "record.json", Diary(2), Diary(99)
    with pytest.raises(InterruptedWork):
        run(path, attack=[fgsm, noted(first)])
    report = run(path, attack=[fgsm, noted(second)])
    assert max(first.examples()) < 40 <= min(second.examples())
    assert report == replace(run(None, attack=[fgsm, ATTACK]), attack="FGSM + attack")


def shuffled():
    generator = torch.Generator().manual_seed(3)
    return DataLoader(TensorDataset(IMAGES, LABELS), 20, shuffle=True, generator=generator)


def other_weights():
    model = digits_classifier()
    model.body[0].bias.data[0] += 1e-6
    return model


def other_statistics():
    model = digits_classifier()
    model.std *= 1 + 1e-6  # too little to be printed
    assert repr(model) == repr(digits_classifier())
    return model


def other_normalisation():
    model = digits_classifier()
    model.mean += 0.01
    return model


OTHERS = {
    "weights": ({"model": other_weights()}, "model"),
    "normalisation": ({"model": other_normalisation()}, "model"),
    "statistics": ({"model": other_statistics()}, "model"),
    "precision": ({"model": digits_classifier().half()}, "model"),
    "mode": ({"model": digits_classifier().train()}, "model"),
    "attack": ({"attack": fgsm}, "attack"),
    "steps": ({"attack": partial(pgd, steps=4)}, "attack"),
    "seed": ({"attack": partial(ATTACK, seed=1)}, "attack"),
    "loss": ({"attack": partial(ATTACK, loss=margin_loss)}, "attack"),
    "ensemble": ({"attack": [ATTACK, fgsm]}, "attack"),
    "radius": ({"ball": Ball("linf", 0.1001)}, "ball"),
    "norm": ({"ball": Ball("l2", 0.1)}, "ball"),
    "one pixel": (
        {"data": (IMAGES - 1e-3 * IMAGES * (torch.arange(90) == 9).view(-1, 1, 1, 1), LABELS)},
        "examples",
    ),
    "one label": ({"data": (IMAGES, torch.where(torch.arange(90) == 39, 0, LABELS))}, "examples"),
    "order": ({"data": shuffled()}, "no shuffling"),
    "too few": ({"data": (IMAGES[:30], LABELS[:30])}, "40 examples"),
}


@pytest.mark.parametrize(("change", "message"), OTHERS.values(), ids=OTHERS)
@pytest.mark.filterwarnings("ignore:the model is in train mode")
def test_another_experiment_is_refused_and_its_record_left_alone(tmp_path, change, message):
    path = tmp_path / "record.json"
    run(path, data=(IMAGES[:40], LABELS[:40]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"resume:.*{message}"):
        run(path, **change)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_what_changes_nothing_is_no_other_experiment(tmp_path):
    path = tmp_path / "record.json"
    first = run(path, data=(IMAGES[:40], LABELS[:40]))
    assert first.n == 40
    loader = DataLoader(TensorDataset(IMAGES, LABELS), 16)
    # More data, in other batches, with the settings spelled otherwise, and a progress callback.
    attack = partial(partial(pgd, restarts=1), steps=3, callback=lambda *_: None)
    assert run(path, data=loader, attack=attack).n == 90


def closing_over(share):
    def own(model, images, labels, ball):
        return fgsm(model, images, labels, Ball(ball.norm, share * ball.epsilon))

    return own


@pytest.mark.filterwarnings("ignore:one step")
def test_a_record_knows_an_attack_of_ones_own_by_its_source_and_what_it_closes_over(tmp_path):
    def own(model, images, labels, ball):
        return images

    path = tmp_path / "record.json"
    run(path, attack=closing_over(0.5), data=(IMAGES[:40], LABELS[:40]))
    for other in (own, closing_over(0.6)):
        with pytest.raises(ValueError, match="of another attack"):
            run(path, attack=other)
    assert run(path, attack=closing_over(0.5)).n == 90


class Own:
    """An attack of one's own with a state, and with two methods that are attacks."""

    def __init__(self, share):
        self.share = share

    def __call__(self, model, images, labels, ball):
        return fgsm(model, images, labels, Ball(ball.norm, self.share * ball.epsilon))

    def idle(self, model, images, labels, ball):
        return images


class Idle(Own):
    def __call__(self, model, images, labels, ball):
        return images


def idle_if(idle, model, images, labels, ball):
    return images if idle else fgsm(model, images, labels, ball)


def soft(smoothing):
    return nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)


# On one line, so that their sources are the same.
LAMBDAS = (lambda model, images, labels, ball: images), (lambda *four, **more: fgsm(*four))
ALIKE = {
    "instances": (Own(0.5), Own(0.6)),
    "classes": (Own(0.5), Idle(0.5)),
    "methods": (Own(0.5).__call__, Own(0.5).idle),
    "methods of instances": (Own(0.5).__call__, Own(0.6).__call__),
    "methods of classes": (Own(0.5).__call__, Idle(0.5).__call__),
    "positional arguments": (partial(idle_if, True), partial(idle_if, False)),
    "lambdas": LAMBDAS,
    "modules": (partial(ATTACK, loss=soft(0.0)), partial(ATTACK, loss=soft(0.1))),
    "arrays": tuple(partial(ATTACK, loss=Own(np.arange(2000) == k)) for k in (999, 1000)),
    "sets": (closing_over({"l2", "linf"}), closing_over({"l2", "l1"})),
}


def descriptions():
    """Return what a record would say of those attacks."""
    return {
        name: [experiment(nn.Identity(), [attack], BALL)["attack"] for attack in pair]
        for name, pair in ALIKE.items()
    }


def test_attacks_that_look_alike_are_told_apart_and_recognised_by_another_process():
    here = descriptions()
    assert [name for name, (first, second) in here.items() if first == second] == []
    script = f"import json, {__name__} as module; print(json.dumps(module.descriptions()))"
    there = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert json.loads(there.stdout) == here, there.stderr


def test_an_attack_that_no_other_session_can_recognise_is_refused(tmp_path):
    path = tmp_path / "record.json"
    with pytest.raises(TypeError, match=r"resume: .*holds a lock.*leave out resume"):
        run(path, attack=closing_over(threading.Lock()))
    assert not path.exists()


DAMAGES = {
    "empty": lambda text: b"",
    "half": lambda text: text[: len(text) // 2],
    "all but a byte": lambda text: text[:-1],
    "an outcome": lambda text: text.replace(b'"outcomes": "+', b'"outcomes": "x'),
    "not json": lambda text: b"\x80\x04garbage",
    "other json": lambda text: b'{"a": 1}',
    "a list": lambda text: b"[1, 2]",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_reported_and_kept(half_done, damage):
    whole = half_done.read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    half_done.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"record\.json is damaged.*left\s+as it is"):
        run(half_done)
    assert half_done.read_bytes() == damaged


def test_a_write_that_fails_leaves_the_last_record_whole(half_done, monkeypatch):
    before, dump = half_done.read_bytes(), json.dump

    def full_disk(content, file):
        file.write(json.dumps(content)[:100])
        raise OSError("no space left")

    monkeypatch.setattr(json, "dump", full_disk)
    with pytest.raises(OSError, match="no space"):
        run(half_done, attack=noted(Diary(99)))
    assert half_done.read_bytes() == before
    assert [file.name for file in half_done.parent.iterdir()] == ["record.json"]
    monkeypatch.setattr(json, "dump", dump)
    assert run(half_done, attack=noted(Diary(99))).n == 90


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_last_record_whole(half_done):
    before = half_done.read_bytes()
    script = f"""if True:
        import json, os, signal, sys
        import {__name__} as module

        def dump(content, file):
            file.write(json.dumps(content)[:100])
            file.flush()
            os.kill(os.getpid(), signal.SIGTERM)

        json.dump = dump
        module.run(sys.argv[1], attack=module.noted(module.Diary(99)))
    """
    command = [sys.executable, "-c", script, str(half_done)]
    killed = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert killed.returncode not in (0, 1), killed.stderr
    assert half_done.read_bytes() == before
    diary = Diary(99)
    assert run(half_done, attack=noted(diary)).n == 90
    assert min(diary.examples()) >= 40


def test_a_place_that_cannot_be_written_fails_before_the_work(tmp_path):
    diary = Diary(99)
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "nowhere" / "record.json", attack=noted(diary))
    assert diary.pages == []


def test_doubts_are_remembered(tmp_path):
    path, weak = tmp_path / "record.json", partial(pgd, steps=1, step_size=1e-4)
    for _ in range(2):
        with pytest.warns(DoubtfulEvaluationWarning, match="one step") as caught:
            run(path, attack=weak)
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path / "other.json", attack=noise_control)
