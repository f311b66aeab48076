"""A run that is interrupted goes on to the same bits, or says why it cannot."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits
from within_epsilon.models import mlp
from within_epsilon.threat import Ball
from within_epsilon.training import Adversarial, Atta, Free, SingleStep, Trades, fit, standard

BALL = Ball("linf", 0.1)
TRAIN = digits().train.images[:150], digits().train.labels[:150]
HELD_OUT = digits().validation.images[:60], digits().validation.labels[:60]
PGD = partial(pgd, steps=2)
ADAM, OPTIMIZER = partial(Adam, lr=0.005), "optimizer"
OWN = {"step_size": 0.05, "momentum": 0.9}
RUNS = {
    "standard": {"objective": standard, **OWN},
    "adversarial": {"objective": Adversarial(PGD, BALL), OPTIMIZER: ADAM},
    "TRADES": {"objective": Trades(PGD, BALL), **OWN},
    "single step": {
        "objective": SingleStep(BALL),
        OPTIMIZER: partial(SGD, lr=0.1, momentum=0.9),
        "schedule": partial(OneCycleLR, max_lr=0.2, total_steps=40),
        "schedule_every": "minibatch",
    },
    "free": {
        "objective": Free(BALL),
        OPTIMIZER: ADAM,
        "schedule": partial(CosineAnnealingLR, T_max=5),
    },
    "ATTA": {"objective": Atta(BALL), **OWN},
    "LBFGS": {"objective": standard, OPTIMIZER: partial(LBFGS, lr=0.1, max_iter=3)},
    "best": {
        "objective": Adversarial(fgsm, BALL),
        **OWN,
        "validation": HELD_OUT,
        "attack": PGD,
        "keep": "best",
    },
}
EPOCHS = 5
every_run = pytest.mark.parametrize("name", RUNS)


def network():
    """Return a network with dropout, which draws, and batch statistics, which go on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*mlp(64, 16, 10), nn.BatchNorm1d(10), nn.Dropout(0.1))


def train(path=None, name="adversarial", *, model=None, split=TRAIN, **options):
    model = network() if model is None else model
    options = {"epochs": EPOCHS, "batch_size": 32, "seed": 1, **RUNS[name], **options}
    history = fit(model, split, checkpoint=path, progress=False, **options)
    return model.state_dict(), history


def assert_same(one, other):
    assert one[1] == other[1]
    for key, value in one[0].items():
        assert torch.equal(value, other[0][key]), key


def stopping_after(epochs):
    def stop(epoch, history):
        if epoch + 1 == epochs:
            raise KeyboardInterrupt

    return stop


@every_run
@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(tmp_path, name, stop):
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(path, name, callback=stopping_after(stop))
    torch.rand(7)  # whatever happens between the sessions
    assert_same(train(path, name), train(name=name))
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@every_run
def test_a_finished_run_is_not_repeated(tmp_path, name):
    path, epochs = tmp_path / "run.pt", []
    first = train(path, name)
    again = train(path, name, callback=lambda epoch, _: epochs.append(epoch))
    assert_same(again, first)
    assert epochs == []


def test_a_run_can_be_prolonged_but_not_shortened(tmp_path):
    path = tmp_path / "run.pt"
    train(path, epochs=2)
    assert_same(train(path), train())
    with pytest.raises(ValueError, match="at least the 5 that the checkpoint has behind it"):
        train(path, epochs=4)


def test_the_same_model_and_optimizer_go_on_in_the_same_session(tmp_path):
    path, model = tmp_path / "run.pt", network()
    options = {"objective": Free(BALL), OPTIMIZER: Adam(model.parameters(), lr=0.005)}
    options["schedule"] = CosineAnnealingLR(options[OPTIMIZER], T_max=5)
    with pytest.raises(KeyboardInterrupt):
        train(path, "free", model=model, callback=stopping_after(2), **options)
    assert_same(train(path, "free", model=model, **options), train(name="free"))


def test_a_loaders_shuffles_go_on_too(tmp_path):
    path = tmp_path / "run.pt"

    def loader():
        return DataLoader(TensorDataset(*TRAIN), 32, shuffle=True)

    with pytest.raises(KeyboardInterrupt):
        train(path, split=loader(), callback=stopping_after(2))
    assert_same(train(path, split=loader()), train(split=loader()))


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import torch
import test_checkpoints as module

path, name, when, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
calls = 0

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def after_an_epoch(epoch, history):
    if when == "between epochs" and epoch == 1:
        kill()

if when == "in an epoch":
    from within_epsilon.training import run
    minibatches = run.minibatches
    def cut(n, batch_size, generator):
        global calls
        calls += 1
        for number, batch in enumerate(minibatches(n, batch_size, generator)):
            if calls == 3 and number == 2:
                kill()
            yield batch
    run.minibatches = cut
if when == "in a write":
    save = torch.save
    def half(state, file):
        global calls
        calls += 1
        if calls == 3:
            file.write(b"half of it")
            file.flush()
            kill()
        save(state, file)
    torch.save = half
module.train(path, name, callback=after_an_epoch)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("name", "when"),
    [("adversarial", "between epochs"), ("best", "in an epoch"), ("free", "in a write")],
)
def test_a_process_that_is_killed_goes_on_in_another_to_the_same_bits(tmp_path, name, when):
    path = tmp_path / "run.pt"
    script = KILLED.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(path), name, when, str(torch.get_num_threads())]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    behind = len(torch.load(path, weights_only=True)["history"]["train_losses"])
    assert behind == {"between epochs": 2, "in an epoch": 2, "in a write": 1}[when]
    assert_same(train(path, name), train(name=name))


OTHERS = {
    "objective": {"objective": Adversarial(partial(pgd, steps=3), BALL)},
    "objective, by its ball": {"objective": Adversarial(PGD, Ball("linf", 0.2))},
    "batch_size": {"batch_size": 30},
    "seed": {"seed": 2},
    "optimizer": {OPTIMIZER: partial(Adam, lr=0.01)},
    "optimizer, step_size, momentum": {OPTIMIZER: None, **OWN},
    "schedule": {"schedule": partial(CosineAnnealingLR, T_max=5)},
    "schedule_every": {"schedule_every": "minibatch"},
    "data": {"split": (TRAIN[0][:140], TRAIN[1][:140])},
    "data, by a label": {"split": (TRAIN[0], TRAIN[1].flip(0))},
    "architecture": {"model": mlp(64, 17, 10)},
    "validation": {"validation": HELD_OUT},
    "key": {"key": "mine"},
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_checkpoint_of_another_run_is_refused_and_kept(tmp_path, what):
    path = tmp_path / "run.pt"
    train(path, epochs=1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="of another run, with another") as raised:
        train(path, **OTHERS[what])
    named = str(raised.value).split("with another ")[1].split(";")[0].split(", ")
    assert set(named) == set(what.split(", by")[0].split(", "))
    assert path.read_bytes() == before


def test_functions_without_a_name_need_a_key(tmp_path):
    path = tmp_path / "run.pt"
    objective = lambda *given: standard(*given)  # noqa: E731
    with pytest.raises(TypeError, match=r"recognise.*give a key="):
        train(path, "standard", objective=objective)
    assert not path.exists()
    train(path, "standard", objective=objective, key="mine", epochs=1)
    assert_same(train(path, "standard", objective=objective, key="mine"), train(name="standard"))


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"\x80\x04garbage"],
    ids=["empty", "half", "garbage"],
)
def test_a_damaged_checkpoint_is_reported_and_kept(tmp_path, damage):
    path = tmp_path / "run.pt"
    train(path, epochs=1)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"run\.pt is damaged.*left as it is"):
        train(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {"format": 0, "settings": {}}])
def test_a_file_of_another_kind_is_reported(tmp_path, content):
    path = tmp_path / "run.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="no checkpoint of fit"):
        train(path)


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    path = tmp_path / "run.pt"
    torch.save({"format": 1, "settings": partial(print, "run")}, path)
    with pytest.raises(ValueError, match="UnpicklingError"):
        train(path)


def test_a_state_that_could_not_be_read_back_fails_before_the_work(tmp_path):
    class Stateful:
        def __call__(self, model, images, labels):
            raise AssertionError("no epoch begins")

        def state_dict(self):
            return {"path": Path()}

    with pytest.raises(TypeError, match="cannot be read back safely"):
        train(tmp_path / "run.pt", objective=Stateful(), key="mine")
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_fails_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError):
        train(tmp_path / "nowhere" / "run.pt", callback=stopping_after(1))


def test_a_write_that_fails_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path, save, calls = tmp_path / "run.pt", torch.save, []

    def full_disk(state, file):
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half of it")
            raise OSError("no space left")
        save(state, file)

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        train(path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
    assert_same(train(path), train())


@pytest.mark.parametrize("begun", [False, True])
def test_a_full_disk_is_said_to_be_one(tmp_path, begun):
    """Torch raises an error of its own over that of the disk."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "run.pt"

    def run(**options):  # wide: weights of more than Python's buffer
        torch.manual_seed(0)
        return train(path, model=mlp(64, 512, 10), epochs=2, **options)

    if begun:
        with pytest.raises(KeyboardInterrupt):
            run(callback=stopping_after(1))
    before = path.read_bytes() if begun else None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # it is as if no more had room
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.filename == str(path)
    assert ("the epoch before is still there" in str(raised.value)) == begun
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before] * begun
    assert len(run()[1].train_losses) == 2


def test_a_schedule_made_of_functions_goes_on(tmp_path):
    path = tmp_path / "run.pt"
    options = {"schedule": partial(LambdaLR, lr_lambda=halved)}
    with pytest.raises(KeyboardInterrupt):
        train(path, callback=stopping_after(2), **options)
    assert_same(train(path, **options), train(**options))


def halved(epoch):
    return 0.5**epoch


def test_nan_leaves_the_checkpoint_of_the_last_good_epoch(tmp_path):
    path, model = tmp_path / "run.pt", network()

    def poison(epoch, history):
        if epoch == 1:
            with torch.no_grad():
                model[-3].bias.fill_(torch.nan)

    with pytest.raises(ValueError, match="weights of the end of epoch 1 again"):
        train(path, model=model, callback=poison)
    assert_same(train(path), train())
