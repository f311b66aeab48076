"""An evaluation that was interrupted goes on where it ended, or says why it cannot."""

import json
import os
import subprocess
import sys
import warnings
from collections import deque
from datetime import date
from decimal import Decimal
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from within_epsilon.attacks import count_evaluations, fgsm, noise_control, pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import DoubtfulEvaluationWarning, robust_accuracy
from within_epsilon.evaluation.core import identity
from within_epsilon.losses import margin_loss
from within_epsilon.models import Classifier, digits_classifier, mlp
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
TEST = digits().test
IMAGES, LABELS = TEST.images[:90], TEST.labels[:90]
ATTACK = partial(pgd, steps=3)


def run(path, *, model=None, attack=ATTACK, data=(IMAGES, LABELS), ball=BALL, **options):
    options = {"batch_size": 20, "resume": path, **options}
    return robust_accuracy(model or digits_classifier(), data, attack, ball, **options)


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


class InterruptedWork(Exception):  # noqa: N818 - no error
    pass


class Diary:
    """Which examples the attack below has been given, call by call, and how many it may get."""

    def __init__(self):
        self.calls, self.pages = 99, []

    def begin(self, calls=99):
        self.calls, self.pages = calls, []

    def examples(self):
        return [index for page in self.pages for index in page]


DIARY = Diary()


def noted(model, images, labels, ball, *, indices):
    """Run PGD, keep a diary, and fail after as many calls as that allows."""
    if len(DIARY.pages) == DIARY.calls:
        raise InterruptedWork
    DIARY.pages.append(indices.tolist())
    return ATTACK(model, images, labels, ball, indices=indices)


@pytest.fixture
def half_done(tmp_path):
    """Return the path of a record that ends after 40 of 90 examples."""
    path = tmp_path / "record.json"
    DIARY.begin(2)
    with pytest.raises(InterruptedWork):
        run(path, attack=noted)
    DIARY.begin()
    return path


@pytest.mark.parametrize("calls", range(5))
@pytest.mark.parametrize("batch_size", [20, 7, 256])
def test_goes_on_without_repeating_work(tmp_path, calls, batch_size):
    path = tmp_path / "record.json"
    DIARY.begin(calls)
    with pytest.raises(InterruptedWork):
        run(path, attack=noted)
    assert len(DIARY.pages) == calls
    DIARY.begin()
    report, whole = run(path, attack=noted, batch_size=batch_size), run(None, attack=noted)
    assert report == whole
    assert report.identity == whole.identity
    DIARY.begin(0)
    with count_evaluations(model := digits_classifier()) as spent:
        assert run(path, model=model, attack=noted) == report
    assert spent.gradients == 0  # and no attack was called


def test_an_example_is_attacked_once_in_all(tmp_path):
    path = tmp_path / "record.json"
    DIARY.begin(2)
    with pytest.raises(InterruptedWork):
        run(path, attack=noted)
    before = DIARY.examples()
    DIARY.begin()
    report = run(path, attack=noted, batch_size=7)
    assert len(before) + len(DIARY.examples()) == len({*before, *DIARY.examples()}) == report.clean
    assert report.stages[0].gradients == 3 * report.clean


def test_an_interruption_between_two_attacks_of_an_ensemble(tmp_path):
    path = tmp_path / "record.json"
    DIARY.begin(2)
    with pytest.raises(InterruptedWork):
        run(path, attack=[fgsm, noted])
    first = DIARY.examples()
    DIARY.begin()
    report = run(path, attack=[fgsm, noted])
    assert max(first) < 40 <= min(DIARY.examples())
    assert report.outcomes == run(None, attack=[fgsm, ATTACK]).outcomes


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


class TwoHeads(nn.Module):
    """Two answers, of which Classifier takes one."""

    def __init__(self):
        super().__init__()
        self.network = digits_classifier()

    def forward(self, images):
        logits = self.network(images)
        return {"final": logits, "early": logits.flip(1)}


class Levels(nn.Module):
    """A plain number, deep in an attribute, that decides the answers."""

    def __init__(self, levels):
        super().__init__()
        self.network, self.options = digits_classifier(), {"pixels": [SimpleNamespace(n=levels)]}

    def forward(self, images):
        n = self.options["pixels"][0].n
        return self.network(images + ((images * n).round() / n - images).detach())


def quantised(seed):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantisation moves elsewhere
        return torch.ao.quantization.quantize_dynamic(mlp(64, 16, 10).eval(), {nn.Linear})


def soft(smoothing):
    return nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)


# What a record is told apart from, if it is not the run's default.
BEGUN_WITH = {
    "output": {"model": Classifier(TwoHeads(), output="final").eval()},
    "attribute": {"model": Levels(16).eval()},
    "quantised": {"model": quantised(0), "attack": noise_control},
    "smoothing": {"attack": partial(ATTACK, loss=soft(0.0))},
}

OTHERS = {
    "weights": ({"model": other_weights()}, "model"),
    "normalisation": ({"model": other_normalisation()}, "model"),
    "statistics": ({"model": other_statistics()}, "model"),
    "precision": ({"model": digits_classifier().half()}, "model"),
    "mode": ({"model": digits_classifier().train()}, "model"),
    "attack": ({"attack": fgsm}, "stages"),
    "steps": ({"attack": partial(pgd, steps=4)}, "stages"),
    "seed": ({"attack": partial(ATTACK, seed=1)}, "stages"),
    "loss": ({"attack": partial(ATTACK, loss=margin_loss)}, "stages"),
    "smoothing": ({"attack": partial(ATTACK, loss=soft(0.1))}, "stages"),
    "ensemble": ({"attack": [ATTACK, fgsm]}, "stages"),
    "output": ({"model": Classifier(TwoHeads(), output="early").eval()}, "model"),
    "attribute": ({"model": Levels(4).eval()}, "model"),
    "quantised": ({"model": quantised(1)}, "model"),
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


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.filterwarnings("ignore:train mode")
def test_another_experiment_is_refused_and_its_record_left_alone(tmp_path, what):
    path, begun, (change, message) = (
        tmp_path / "record.json",
        BEGUN_WITH.get(what, {}),
        OTHERS[what],
    )
    run(path, data=(IMAGES[:40], LABELS[:40]), diagnose=False, **begun)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"resume:.*{message}"):
        run(path, diagnose=False, **{**begun, **change})
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


class Own:
    """An attack of one's own with a state."""

    def __init__(self, share):
        self.share = share

    def __call__(self, model, images, labels, ball):
        return fgsm(model, images, labels, Ball(ball.norm, self.share * ball.epsilon))

    def also(self, model, images, labels, ball):
        return self(model, images, labels, ball)


def weaker(share, model, images, labels, ball):
    return fgsm(model, images, labels, Ball(ball.norm, share * ball.epsilon))


LAMBDA = lambda model, images, labels, ball: images  # noqa: E731
UNNAMED = {
    "closure": {"attack": closing_over(0.5)},
    "lambda": {"attack": LAMBDA},
    "in a partial": {"attack": partial(ATTACK, loss=lambda z, y: margin_loss(z, y))},
    "in an object": {"attack": Own(closing_over(0.5))},
    "in the model": {"model": Does(lambda images: images.flatten(1)[:, :10])},
}


@pytest.mark.parametrize("what", UNNAMED)
def test_functions_without_a_name_need_a_key(tmp_path, what):
    path, change = tmp_path / "record.json", UNNAMED[what]
    with pytest.raises(TypeError, match=r"resume: expected functions .*key="):
        run(path, **change)
    assert not path.exists()
    if what in ("closure", "lambda"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DoubtfulEvaluationWarning)
            run(path, key="half", data=(IMAGES[:40], LABELS[:40]), **change)
            assert run(path, key="half", **change).n == 90
            with pytest.raises(ValueError, match="of another key"):
                run(path, key="whole", **change)


def test_a_function_of_a_notebook_needs_a_key(tmp_path):
    script = f"""if True:
        import {__name__} as module
        STEPS = 3
        def mine(model, images, labels, ball):
            return module.pgd(model, images, labels, ball, steps=STEPS)
        try:
            module.run({str(tmp_path / "record.json")!r}, attack=mine)
        except TypeError as error:
            print(error)
    """
    command, here = [sys.executable, "-c", script], Path(__file__).parent
    said = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert "__main__.mine; give a key=" in said.stdout, said.stderr


@pytest.mark.parametrize(
    "pair",
    [
        (Own(0.5), Own(0.6)),
        (Own(0.5).also, Own(0.6).also),
        (Own(0.5), Own(0.5).also),
        (partial(weaker, 0.5), partial(weaker, 0.6)),
        (Own(np.arange(2000) == 999), Own(np.arange(2000) == 1000)),
        (Own({"l2", "linf"}), Own({"l2", "l1"})),
    ],
)
def test_attacks_that_look_alike_are_told_apart(pair):
    described = [identity.stage(attack, []) for attack in pair]
    assert described[0] != described[1]
    assert described[0] == identity.stage(pair[0], [])


def test_another_process_recognises_model_and_attack():
    def identities():
        model = identity.model_hash(Levels(4).eval(), [])
        return [model, str(identity.stage(Own({"a", "b", "c"}), []))]

    script = f"import {__name__} as m, json; i = m.identity\n"
    script += "print(json.dumps([i.model_hash(m.Levels(4).eval(), []), "
    script += "str(i.stage(m.Own({'a', 'b', 'c'}), []))]))"
    command, here = [sys.executable, "-c", script], Path(__file__).parent
    there = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert json.loads(there.stdout) == identities(), there.stderr


class Sign(nn.Module):
    """Its answers hang on a module-level number, which no description of it shows."""

    def forward(self, images):
        return SIGN["sign"] * images.flatten(1)[:, :10]


SIGN = {"sign": 1}


def test_a_probe_of_answers_notices_what_no_description_shows(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    data = IMAGES[:40], LABELS[:40]
    run(path, model=Sign(), attack=noise_control, data=data, diagnose=False)
    monkeypatch.setitem(SIGN, "sign", -1)
    with pytest.raises(ValueError, match=r"another model \(its answers\)"):
        run(path, model=Sign(), attack=noise_control, diagnose=False)


DAMAGES = {
    "empty": lambda text: b"",
    "half": lambda text: text[: len(text) // 2],
    "all but a byte": lambda text: text[:-1],
    "an outcome": lambda text: text.replace(b'outcomes\\": \\"+', b'outcomes\\": \\"-'),
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
    before, fsync = half_done.read_bytes(), os.fsync

    def full_disk(file):
        os.ftruncate(file, 100)
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        run(half_done, attack=noted)
    assert half_done.read_bytes() == before
    assert [file.name for file in half_done.parent.iterdir()] == ["record.json"]
    monkeypatch.setattr(os, "fsync", fsync)
    assert run(half_done, attack=noted).n == 90


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_last_record_whole(half_done):
    before = half_done.read_bytes()
    script = f"""if True:
        import os, signal, sys
        import {__name__} as module

        def fsync(file):
            os.ftruncate(file, 100)
            os.kill(os.getpid(), signal.SIGTERM)

        os.fsync = fsync
        module.run(sys.argv[1], attack=module.noted)
    """
    command = [sys.executable, "-c", script, str(half_done)]
    killed = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert killed.returncode not in (0, 1), killed.stderr
    assert half_done.read_bytes() == before
    DIARY.begin()
    assert run(half_done, attack=noted).n == 90
    assert min(DIARY.examples()) >= 40


def test_a_place_that_cannot_be_written_fails_before_the_work(tmp_path):
    DIARY.begin()
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "nowhere" / "record.json", attack=noted)
    assert DIARY.pages == []


def test_doubts_are_remembered(tmp_path):
    path, weak = tmp_path / "record.json", partial(pgd, steps=1, step_size=1e-4)
    for _ in range(2):
        with pytest.warns(DoubtfulEvaluationWarning, match="FGSM is better") as caught:
            run(path, attack=weak)
        assert len({str(warning.message) for warning in caught}) == len(caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path / "other.json", attack=noise_control)


class Shifts(nn.Module):
    """Answers by an attribute of the class, which no description shows."""

    shift = 0

    def __init__(self, **kept):
        super().__init__()
        self.network = digits_classifier()
        self.__dict__.update(kept)

    def forward(self, images):
        return self.network(images).roll(self.shift, 1)


def test_a_finished_record_is_not_that_of_a_model_with_other_answers(tmp_path, monkeypatch):
    path, model = tmp_path / "record.json", Shifts().eval()
    report = run(path, model=model, diagnose=False)
    assert run(path, model=model, diagnose=False) == report
    monkeypatch.setattr(Shifts, "shift", 3)
    with pytest.raises(ValueError, match="its answers"):
        run(path, model=model, diagnose=False)


class Listed(list):
    pass


def listed(value):
    kept = Listed([0])
    kept.value = value
    return kept


KEPT = {
    "deque": lambda k: deque([k]),
    "range": range,
    "Decimal": Decimal,
    "date": lambda k: date(2020, 1, k + 1),
    "bytearray": lambda k: bytearray([k]),
    "bound method": lambda k: {0: k}.get,
    "itemgetter": itemgetter,
    "names": lambda k: np.array([f"class {k}"]),
    "objects": lambda k: np.array([k, "a"], dtype=object),
    "backwards": lambda k: np.arange(k + 1)[::-1],
    "big-endian": lambda k: np.array([k], dtype=">f4"),
    "days": lambda k: np.array([k], dtype="M8[D]"),
    "conjugate": lambda k: (k * torch.ones(2, dtype=torch.complex64)).conj(),
    "child of list": listed,
    "generator": lambda k: torch.Generator().manual_seed(k),
    "TorchScript": lambda k: torch.jit.script(Scripted(k)),
}


class Scripted(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, images):
        return images * self.k


@pytest.mark.parametrize("what", KEPT)
def test_attributes_of_every_kind_tell_models_apart(what):
    hashes = [identity.model_hash(Shifts(kept=KEPT[what](k)), []) for k in (1, 2, 1)]
    assert hashes[0] == hashes[2] != hashes[1]


def test_an_attribute_whose_name_speaks_of_hooks_counts():
    assert identity.model_hash(Shifts(my_hook_size=1), []) != identity.model_hash(
        Shifts(my_hook_size=2), []
    )
