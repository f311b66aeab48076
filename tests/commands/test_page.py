"""The page about the command line: every command on it is run."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from processes import environment, reports_in, torchrun
from safetensors.torch import save_file

from within_epsilon.data import digits
from within_epsilon.models import Classifier, mlp
from within_epsilon.threat import Ball
from within_epsilon.training import fit
from within_epsilon.verification import write_onnx, write_vnnlib

PAGE = Path(__file__).resolve().parents[2] / "chapters" / "command_line.md"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


def commands():
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if not line.startswith(("pip ", "eval "))]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def readers_files(folder, arrays, pictures):
    """What the page's reader has: pictures, a data set, a network and its weights."""
    arrays(n=40)
    pictures(n=60, called=lambda label: NAMES[label])
    (folder / "names.txt").write_text("\n".join(NAMES))
    images, labels = digits().test[:20]
    for label in (3, 8):
        image = images[labels.tolist().index(label), 0]
        Image.fromarray((image * 255).round().byte().numpy()).save(folder / f"{label}.png")
    torch.manual_seed(0)
    model = Classifier(mlp(64, 20, 10), 0.13, 0.31)
    fit(model, digits().train, epochs=5, batch_size=50, step_size=0.1, progress=False)
    save_file(model.body.state_dict(), folder / "mine.safetensors")
    (folder / "mine.py").write_text(
        "from within_epsilon.models import mlp\ndef net():\n    return mlp(64, 20, 10)\n"
    )
    write_onnx(folder / "net.onnx", model, (1, 8, 8))
    question = (images[:1], labels[:1], Ball("linf", 0.01))
    write_vnnlib(folder / "question.vnnlib", model, *question, version="1.0")
    return folder


def test_the_page_shows_every_verb_and_the_commands_can_be_read(call):
    words = [shlex.split(command) for command in commands()]
    assert len(words) >= 9
    assert {line[1] for line in words if line[0] == "within-epsilon"} >= {
        *("attack", "evaluate", "train", "verify"),
    }
    text = PAGE.read_text("utf-8")
    for line in words:
        verb = line[1] if line[0] == "within-epsilon" else line[line.index("within_epsilon") + 1]
        _, help_ = call(verb, "--help")
        own = line[line.index(verb) :]
        assert {word for word in own if word.startswith("--")} <= set(
            re.findall(r"--[a-z-]+", help_)
        )
    assert "torchrun" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_each_shell_names_the_command(shell):
    done = subprocess.run(
        [sys.executable, "-m", "within_epsilon"],
        env=environment(_WITHIN_EPSILON_COMPLETE=f"{shell}_source"),
        capture_output=True,
        text=True,
    )
    if shell == "bash" and "Bash" in done.stderr:
        pytest.skip("no bash here")
    assert done.returncode == 0, done.stderr
    assert "within-epsilon" in done.stdout
    assert f"_WITHIN_EPSILON_COMPLETE={shell}_complete" in done.stdout
    assert f"{shell}_source" in PAGE.read_text("utf-8")


def test_completion_offers_verbs_options_names_and_files():
    for words, offered in (
        ("within-epsilon ", "plain,evaluate"),
        ("within-epsilon train --ep", "plain,--epochs"),
        ("within-epsilon attack --model digits", "plain,digits_cnn_linf"),
        ("within-epsilon evaluate --attack fa", "plain,fab"),
        ("within-epsilon evaluate --data test", "file,test"),
        ("within-epsilon train --data ", "file,"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "within_epsilon"],
            env=environment(
                _WITHIN_EPSILON_COMPLETE="bash_complete",
                COMP_WORDS=words,
                COMP_CWORD=str(words.count(" ")),
            ),
            capture_output=True,
            text=True,
        )
        assert offered in done.stdout


@pytest.mark.slow
@pytest.mark.photo
def test_every_command_of_the_page_runs(call, readers_files):
    from skimage.data import chelsea

    Image.fromarray(chelsea()).save(readers_files / "cat.png")
    for command in commands():
        words = shlex.split(command)
        if words[0] == "torchrun":
            start = words.index("within_epsilon") + 1
            assert words[1] == "--nproc-per-node"
            line = torchrun(int(words[2]), *words[start:])
            done = subprocess.run(line, env=environment(), capture_output=True, text=True)
            status, said = done.returncode, done.stdout + done.stderr
        else:
            status, said = call(*words[1:])
        assert status == 0, (command, said)
    assert reports_in("together")[0]["outcomes"] == reports_in("evaluation")[0]["outcomes"]


@pytest.mark.slow
def test_the_script_for_slurm_runs(readers_files):
    """With what SLURM brings stood in for: one machine, srun and scontrol."""
    tools = readers_files / "tools"
    tools.mkdir()
    launcher = f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n'
    for name, text in (
        ("srun", '#!/bin/sh\nexec "$@"\n'),
        ("scontrol", "#!/bin/sh\necho 127.0.0.1\necho other\n"),
        ("torchrun", launcher),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (script,) = blocks("slurm")
    place = {"SLURM_JOB_NODELIST": "n", "SLURM_NNODES": "1", "SLURM_JOB_ID": "7"}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    script = script.replace(":29500", f":{free_port()}")
    env = environment(PATH=path, SLURM_GPUS_ON_NODE="2", **place)
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(reports_in("evaluation")[0]["outcomes"]) == 40


@pytest.mark.slow
def test_the_job_for_kubernetes_runs_on_two_machines(readers_files):
    """Each of the two with a launcher of its own, which meet at the address of the first."""
    service, job = yaml.safe_load_all(blocks("yaml")[0])
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    endpoint = "evaluation-0.evaluation:29500"
    assert spec["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"]
    assert container["command"][0] == "torchrun"
    assert all(isinstance(word, str) for word in container["command"])
    here = f"127.0.0.1:{free_port()}"
    words = [here if word == endpoint else word for word in container["command"][1:]]
    assert here in words
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    running = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(job["spec"]["completions"])
    ]
    said = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert "robust accuracy" in said[0] + said[1]
    assert len(reports_in("evaluation")[0]["outcomes"]) == 40
    assert np.isfinite(reports_in("evaluation")[0]["seconds"])
