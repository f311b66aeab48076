"""Many processes: every example once, the verdicts of one, and a clear end if one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter

import pytest
from processes import environment, reports_in, together, torchrun

from within_epsilon.commands.processes import speaking
from within_epsilon.commands.processes.journal import Journal

WORDS = ("evaluate", "--model", "digits_cnn", "--epsilon", "0.1", "--check", 0)
QUICK = ("--attack", "pgd", "--steps", 5, "--set", "restarts=2", "--batch-size", 7)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_as_many_as_there_are_find_what_one_finds(call, folder, arrays, processes):
    """61 examples in 9 batches of 6 or 7: nothing is padded or repeated."""
    words = (*WORDS, *QUICK, "--data", arrays(n=61), "--epsilon", "0.05")
    assert call(*words, "--out", "one")[0] == 0
    said = together(processes, *words, "--out", "many")
    assert "robust accuracy" in said[0]
    assert said[1:] == [""] * (processes - 1)
    one, many = reports_in("one"), reports_in("many")
    for left, right in zip(one, many, strict=True):
        same = {key for key in left if left[key] == right[key]}
        assert same >= {"outcomes", "positions", "data", "model", "stages", "findings", "bad"}
    entries = Journal(folder / "many" / "parts").entries()
    counts = Counter(position for entry in entries for position in entry.positions)
    assert counts == dict.fromkeys(range(61), 1)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_clearly_and_no_batch_is_lost(call, folder, arrays):
    words = (*WORDS, "--data", arrays(n=64), "--attack", "pgd", "--steps", 150, "--batch-size", 2)
    command = torchrun(2, *words, "--out", "out")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = subprocess.Popen(command, env=environment(), **pipes)
    parts = folder / "out" / "parts"
    begun = time.monotonic()
    finished, files = 0, []
    while finished < 3 or len(files) < 2:
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < begun + 200
        time.sleep(0.05)
        files = sorted(parts.glob("*.jsonl"))
        finished = sum(path.read_bytes().count(b"\n") for path in files)
    victim = next(path for path in files if path.stem.split("-")[1] == "1")
    os.kill(int(victim.stem.split("-")[2]), signal.SIGKILL)
    said = running.communicate(timeout=200)[0]
    assert running.returncode != 0
    assert "examples are finished and safe in out" in said, said
    assert "the same command goes on from there" in said
    before = Journal(parts).entries()
    assert 3 <= len(before) < 32
    status, said = call(*words, "--out", "out")  # with one process now
    assert status == 0, said
    after = Journal(parts).entries()
    assert {entry.reports[0].identity for entry in before} <= {
        entry.reports[0].identity for entry in after
    }
    assert call(*words, "--out", "whole")[0] == 0
    assert reports_in("out")[0]["outcomes"] == reports_in("whole")[0]["outcomes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--data", "absent.npz"), "Error: --data: there is no file or folder absent.npz"),
        (("--data", "test.npz", "--epsilon", "x"), "Error: Invalid value for '--epsilon'"),
    ],
)
def test_a_mistake_ends_all_processes_and_one_says_it(folder, arrays, more, sentence):
    arrays()
    command = torchrun(3, *WORDS, *QUICK, *more, "--out", "out")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert done.stderr.count(sentence) == 1
    assert done.stderr.count("Error: ") == done.stderr.count("ChildFailedError: ") + 1
    assert "told to end" not in done.stderr
    assert "Traceback (most recent call last):\n  File" not in done.stderr.split(sentence)[0]


def test_who_speaks(monkeypatch):
    """A process alone; before they are connected, the others wait for the first; then whoever asks
    first, or all if nobody can be asked."""
    waited, asked = [], iter([True, False])
    monkeypatch.setattr(speaking, "_asked", [])
    monkeypatch.setattr(speaking.time, "sleep", waited.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert speaking.speaks()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for local, waits in (("0", 0), ("1", 1)):
        monkeypatch.setenv("LOCAL_RANK", local)
        assert speaking.speaks()
        assert len(waited) == waits
    speaking.ask_by(lambda: next(asked))
    assert [speaking.speaks(), speaking.speaks()] == [True, False]
    assert speaking.speaks()  # the iterator has ended: out of reach
    assert len(waited) == 1
