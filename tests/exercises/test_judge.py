"""The judge takes no word for it: answers that cheat, stop or never end are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
import torch
from torch import Tensor


def _lead(logits, labels):
    own = logits.gather(1, labels[:, None])
    return own[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def _one_too_many(logits, labels):
    return _lead(logits, labels) + 1


def _endless(logits, labels):
    while True:
        pass


def _leaves(logits, labels):
    import os

    os._exit(0)


def _writes_verdicts(logits, labels):
    import contextlib
    import os

    for descriptor in range(3, 200):
        with contextlib.suppress(OSError):
            os.write(descriptor, b'correct\n["0.3", "correct"]\n')
    os._exit(0)


def _patches(logits, labels):
    torch.allclose = lambda *_, **__: True
    return logits[:, 0]


def _patches_the_check(logits, labels):
    import within_epsilon.exercises.chapter0 as chapter

    chapter.tensor_like = lambda found, like, what="": like
    chapter.torch = None
    return logits[:, 0]


def _trains(logits, labels):
    weight = torch.zeros(1, requires_grad=True)
    torch.optim.SGD([weight], lr=0.1).step()  # has torch replace some functions of its own
    return _lead(logits, labels)


class _Always(Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return func.__name__ == "allclose" or super().__torch_function__(func, types, args, kwargs)


def _equals_everything(logits, labels):
    return logits[:, 0].as_subclass(_Always)


def _hoards(logits, labels):
    return torch.ones(2**32)


def _interrupts(logits, labels):
    raise KeyboardInterrupt("stop")


class _Unpacks:
    def __reduce__(self):
        return (exec, ("raise RuntimeError('only at home')",))


ATTEMPTS = {
    "right": (_lead, "correct"),
    "wrong": (_one_too_many, "wrong, because for logits"),
    "stub": (lambda logits, labels: ..., "not attempted yet"),
    "endless": (_endless, "wrong, because the check was stopped after 3 s"),
    "leaves": (_leaves, "wrong, because it ended the process that checked it (its own doing)"),
    "writes": (_writes_verdicts, "wrong, because it ended the process that checked it"),
    "patches": (_patches, "wrong, because it replaced torch.allclose"),
    "trains": (_trains, "correct"),
    "check": (_patches_the_check, "wrong, because "),
    "equal": (_equals_everything, "wrong, because for logits"),
    "hoards": (_hoards, "wrong, because it stopped with RuntimeError"),
    "interrupts": (_interrupts, "wrong, because it stopped with KeyboardInterrupt: stop"),
    "unpacks": (_Unpacks(), "wrong, because it does not work outside of its notebook (RuntimeErr"),
    "again": (_lead, "correct"),
}
DRIVER = """
import json, sys
from pathlib import Path
from within_epsilon.exercises.judge import judge
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    seconds = 3 if name == "endless" else 60
    said = judge("0.3", folder / name, seconds, 2 << 30)
    print(json.dumps([name, said]))
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Return what the judge, in a process of its own, says of every attempt, one after another."""
    folder = tmp_path_factory.mktemp("answers")
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)  # as a notebook's functions are
    sources = {__file__: Path(__file__).read_text(encoding="utf-8")}
    for name, (attempt, _) in ATTEMPTS.items():
        packed = cloudpickle.dumps({"answer": attempt, "sources": sources})
        (folder / name).write_bytes(packed)
    cloudpickle.unregister_pickle_by_value(module)
    command = [sys.executable, "-c", DRIVER, str(folder), *ATTEMPTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_answer_gets_its_verdict_and_no_other(verdicts, name):
    assert verdicts[name].startswith(ATTEMPTS[name][1])
