"""Every mistake is answered in one sentence that says what to do, with exit status 2."""

from __future__ import annotations

import errno
import os
import pickle
import re
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from processes import reports_in
from torch import nn

from within_epsilon.commands.inputs import matching
from within_epsilon.commands.inputs.matching import better_names, labels_of
from within_epsilon.commands.processes.files import write_whole
from within_epsilon.data import digits
from within_epsilon.models import digits_classifier

QUICK = ("--epsilon", "0.1", "--attack", "pgd", "--steps", 2, "--check", 0, "--out", "out")


@pytest.fixture
def refused(call):
    """Evaluate, and return the sentence in which it is refused."""

    def evaluate(data, *more, model="digits_cnn"):
        status, said = call("evaluate", "--model", model, "--data", data, *QUICK, *more)
        assert status == 2, said
        assert said.startswith("Error: "), said
        assert said.count("\n") == 1, said
        return said

    return evaluate


def test_arrays(refused, arrays, folder):
    n = np.zeros((4, 8, 8), np.uint8)
    say = {
        "as many labels as images": {"labels": np.zeros(3, int)},
        "uint16": {"images": n.astype(np.uint16), "labels": np.zeros(4, int)},
        "before they are normalised": {"images": n - 0.4, "labels": np.zeros(4, int)},
        "divide by 255": {"images": n + 200.0, "labels": np.zeros(4, int)},
        "numpy.clip": {"images": n + 1.0000002, "labels": np.zeros(4, int)},
        "whole numbers": {"labels": np.eye(64)},
        "(N, H, W)": {"images": np.zeros((64, 1, 1, 8, 8), np.uint8)},
        "counted from 0": {"labels": np.full(64, 10)},
        "cannot be read": {"labels": np.array([1, None] * 32, object)},
        "(1, 8, 4)": {"images": np.zeros((64, 8, 4), np.uint8)},
        "at least one example": {"images": n[:0], "labels": np.zeros(0, int)},
        "arrays are taken as they are": {"images": np.zeros((64, 16, 16), np.uint8)},
    }
    for words, changed in say.items():
        assert words in refused(arrays(**changed)), words
    for more in (("--size", 4), ("--channels", 1)):
        assert "expected neither with test.npz" in refused(arrays(), *more)
    np.savez("others.npz", x=n, y=n)
    assert "received x, y" in refused("others.npz")
    (folder / "junk.npz").write_bytes(b"junk")
    assert "no .npz file" in refused("junk.npz")
    assert "there is no file" in refused("absent.npz")
    (folder / "table.csv").write_text("1,2")
    assert "an .npz or a .tar" in refused("table.csv")


def test_pictures(refused, pictures, folder):
    (folder / "empty" / "0").mkdir(parents=True)
    assert "no picture in them" in refused("empty")
    (file, *_) = sorted(pictures(n=10).rglob("*.png"))
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(file)
    assert "received 16" in refused("pictures")
    Image.fromarray(np.zeros((16, 8), np.uint8)).save(file)
    assert "cannot take images of shape (1, 16, 8)" in refused("pictures")
    for broken in pictures("damaged", n=3).rglob("*.png"):
        broken.write_bytes(b"")
    assert "none, or damaged" in refused("damaged")
    with tarfile.open("packed.tar", "w:gz") as archive:
        archive.add(file)
    assert "unpack it first" in refused("packed.tar")
    with tarfile.open("bare.tar", "w") as archive:
        archive.add(file, "0.png")
    assert "received neither" in refused("bare.tar")


def test_a_colour_picture_of_16_bits_is_found_out(refused, folder):
    """Pillow opens it as one of 8 bits, and says nothing."""
    import struct
    import zlib

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + struct.pack(">6H", *range(6)))
    (folder / "deep" / "0").mkdir(parents=True)
    path = folder / "deep" / "0" / "a.png"
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with Image.open(path) as opened:
        assert opened.mode == "RGB"
    assert "received 16" in refused("deep")


def test_what_was_done_before_a_bad_picture_is_kept(call, refused, pictures, folder, monkeypatch):
    monkeypatch.setattr(matching, "_LOOK", 4)
    files = sorted(pictures(n=20).rglob("*.png"))
    good = files[-1].read_bytes()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(files[-1])
    assert "received 16" in refused("pictures", "--batch-size", 8)
    lines = [p.read_text().splitlines() for p in (folder / "out" / "parts").glob("*.jsonl")]
    assert sum(map(len, lines)) == 2
    files[-1].write_bytes(good)
    words = ("--model", "digits_cnn", "--data", "pictures", *QUICK, "--batch-size", 8)
    assert call("evaluate", *words)[0] == 0


def test_classes_in_another_order_than_the_models_outputs(call, refused, arrays, pictures, folder):
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    pictures("named", n=200, called=lambda label: names[label])
    assert "in the order of the model's outputs" in refused("named")
    # With the names of the outputs, the order of the folders does not matter.
    (folder / "names.txt").write_text("\n".join(names))
    words = ("--model", "digits_cnn", "--data", "named", *QUICK, "--limit", 60)
    status, said = call("evaluate", *words, "--classes", "names.txt")
    assert status == 0, said
    (folder / "others.txt").write_text("\n".join(["nought", *names[1:]]))
    assert "received 'zero' beside" in refused("named", "--classes", "others.txt")
    shifted = (digits().test.labels[:200].numpy() + 1) % 10
    assert "its output 9" in refused(arrays(n=200, labels=shifted))


def test_labels_follow_names_and_numbers_not_the_alphabet():
    tens = tuple(sorted(map(str, range(11))))  # "0", "1", "10", "2" ...
    assert labels_of(tens, (), 11) == (0, 1, 10, *range(2, 10))
    assert labels_of(("cat", "dog"), ("dog", "bird", "cat"), 3) == (2, 0)
    assert labels_of(("cat", "dog"), (), 2) is None
    with pytest.raises(ValueError, match="received 2"):
        labels_of(("cat", "dog"), (), 1000)
    with pytest.raises(ValueError, match="expected names that the model has once, received 'dog'"):
        labels_of(("cat", "dog"), ("dog", "dog", "cat"), 3)
    with pytest.raises(ValueError, match="received cat, dog and so on; name them alike"):
        labels_of(("cat", "dog"), ("Cat", "Dog"), 2, told=True)
    right = list(range(4)) * 20
    assert better_names(right, [(k + 1) % 4 for k in right], 4) == {0: 1, 1: 2, 2: 3, 3: 0}
    assert better_names(right, right, 4) is None
    generator = np.random.default_rng(0)
    assert better_names(right, generator.integers(0, 4, 80).tolist(), 4) is None


@pytest.mark.photo
def test_images_of_another_size(refused):
    assert "cannot take images" in refused("digits", model="squeezenet1_0")


def test_models(refused, arrays, folder):
    data = arrays(n=4)
    torch.save(digits_classifier().body.state_dict(), "weights.pt")
    torch.save(nn.Linear(2, 2), "whole.pt")
    (folder / "junk.pt").write_bytes(b"junk")
    (folder / "junk.onnx").write_bytes(b"junk")
    (folder / "junk.safetensors").write_bytes(b"junk")
    for name in ("weights.pt", "whole.pt", "junk.pt"):
        assert "weights alone, or a pickled object" in refused(data, model=name)
    refused(data, model="junk.onnx")
    assert "there is no file absent.pt2" in refused(data, model="absent.pt2")
    assert "no module 'absent'" in refused(data, model="absent:net")
    assert "it has" in refused(data, model="mine:absent")
    assert "received a int" in refused(data, model="mine:number")
    assert "did you mean" in refused(data, model="resnet")
    assert "did you mean mine:FUNCTION?" in refused(data, model="mine")
    assert "such as mine.py:net" in refused(data, model="mine.py")
    (folder / "few.txt").write_text("a\nb")
    assert "10 outputs of digits_cnn, received 2" in refused(data, "--classes", "few.txt")
    for weights in ("whole.pt", "junk.pt", "junk.safetensors", "absent.pt"):
        said = refused(data, "--weights", weights, model="mine:net")
        assert weights in said
    assert "of another network" in refused(data, "--weights", "weights.pt", model="mine:net")
    assert "there is no cuda" in refused(data, "--device", "cuda:77")


CODE = {
    "def net(:": "odd fails with SyntaxError: invalid syntax (odd.py, line 1)",
    "def net():\n    raise KeyError('k')": "odd:net fails with KeyError: 'k' (odd.py, line 2)",
    "import absent_one\ndef net(): 3": "odd imports 'absent_one', which is not installed",
    "def net(n): 3": "odd:net fails with TypeError: net() missing 1 required positional argument",
    """
from torch import nn
class Bad(nn.Module):
    def forward(self, images):
        return {}["logits"]
net = Bad
""": "odd:net cannot take images of shape (1, 8, 8) (KeyError: 'logits')",
    """
from torch import nn
class More(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 10)
    def forward(self, images):
        return {"logits": self.body(images[:, 0, 0])}
net = More
""": "return models.Classifier(network, output=...)",
}


@pytest.mark.parametrize("code", CODE)
def test_code_of_ones_own_that_fails(refused, arrays, folder, monkeypatch, code):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files of one second and one length
    (folder / "odd.py").write_text(code)
    assert CODE[code] in refused(arrays(n=4), model="odd:net")


@pytest.mark.parametrize("where", ["./inner/own.py", "inner/own", "{}/inner/own.py", "inner.own"])
def test_a_module_may_be_named_by_its_path(call, arrays, folder, where):
    (folder / "inner").mkdir()
    (folder / "mine.py").rename(folder / "inner" / "own.py")
    words = ("--model", f"{where.format(folder)}:net", "--data", arrays(n=4), *QUICK)
    status, said = call("evaluate", *words)
    assert status == 0, said


def test_an_image_that_is_no_numbers_is_a_bad_example_and_no_training_example(call, arrays):
    images = digits().test.images[:64].numpy()
    images[7] = np.nan
    data = arrays(images=images)
    status, said = call("evaluate", "--model", "digits_cnn", "--data", data, *QUICK)
    assert status == 0, said
    (report,) = reports_in("out")
    assert list(report["bad"]) == ["7"]
    assert "received NaN at position 7" in report["bad"]["7"]
    status, said = call("train", "--data", data, "--epsilon", "0.1", "--epochs", 1)
    assert status == 2
    assert "received NaN at position 7" in said


def test_a_setting_that_is_no_number(refused, arrays):
    said = refused(arrays(n=4), "--set", "restarts=many")
    assert "expected a number for pgd's restarts, such as 1, received 'many'" in said


def test_a_part_that_torchvision_does_not_have(refused, folder):
    said = refused("MNIST", "--root", folder, "--part", "validation")
    assert "torchvision's MNIST has no validation part" in said


class Mischief:
    def __reduce__(self):
        return os.mkdir, ("mischief",)


def test_no_file_runs_code(refused, arrays, folder):
    """Pickles in weights and exported networks, formulas in an exported network's sizes."""
    data = arrays(n=4)
    torch.save({"a": Mischief()}, "evil.pt")
    refused(data, "--weights", "evil.pt", model="mine:net")
    (folder / "evil2.pt").write_bytes(pickle.dumps(Mischief()))
    refused(data, "--weights", "evil2.pt", model="mine:net")
    program = torch.export.export(digits_classifier().body, (torch.rand(2, 1, 8, 8),))
    torch.export.save(program, "fine.pt2")
    content = (folder / "evil.pt").read_bytes()

    def rewrite(name, change):
        with zipfile.ZipFile("fine.pt2") as old, zipfile.ZipFile(name, "w") as new:
            for part in old.namelist():
                new.writestr(part, change(part, old.read(part)))

    rewrite(
        "one.pt2", lambda part, old: content if part.endswith("sample_inputs/model.pt") else old
    )
    formula = b'{"as_expr": {"expr_str": "__import__(\'os\').mkdir(\'mischief\')", "hint": null}}'
    rewrite(
        "two.pt2",
        lambda part, old: (
            old.replace(b'{"as_int": 8}', formula) if part.endswith("model.json") else old
        ),
    )
    guard = b"\"guards_code\": [\"__import__('os').mkdir('mischief')\"]"
    rewrite("three.pt2", lambda part, old: old.replace(b'"guards_code": []', guard))
    for name in ("one", "two", "three"):
        assert "may run code" in refused(data, model=f"{name}.pt2")
    assert not (folder / "mischief").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
def test_a_full_disk_ends_in_a_sentence_and_keeps_what_there_is(call, arrays, folder, monkeypatch):
    from within_epsilon.commands.processes.journal import Journal

    words = ("--model", "digits_cnn", "--data", arrays(), *QUICK, "--batch-size", 16)
    add, added = Journal.add, []

    def full(self, entry):
        if len(added) == 2:
            self._file.close()
            self._file = open("/dev/full", "w")  # noqa: PTH123, SIM115
        added.append(entry)
        add(self, entry)

    monkeypatch.setattr(Journal, "add", full)
    status, said = call("evaluate", *words)
    assert status == 2
    assert "/dev/full: No space left on device; the batches before are safe" in said
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert sum(len(entry.positions) for entry in Journal(folder / "out" / "parts").entries()) == 32
    assert call("evaluate", *words)[0] == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_fails_before_the_work(refused, arrays, folder):
    (folder / "out").mkdir(mode=0o500)
    assert "Permission denied" in refused(arrays())


@pytest.mark.parametrize("verb", ["train", "attack", "grade"])
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    call, folder, pictures, monkeypatch, verb
):
    def full(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("pathlib.Path.touch", full)
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_: pytest.fail("work was done"))
    monkeypatch.setattr("within_epsilon.grading.grade", lambda *_, **__: pytest.fail("graded"))
    picture = next(pictures(n=2).rglob("*.png"))
    (folder / "one.ipynb").write_text("{}")
    words = {
        "train": ("--data", "digits", "--epsilon", 0.1, "--out", "n.safetensors"),
        "attack": (picture, "--model", "digits_cnn", "--epsilon", 0.1),
        "grade": ("one.ipynb", "--out", "grades"),
    }
    status, said = call(verb, *words[verb])
    assert status == 2
    assert re.search(r"(n\.safetensors\.checkpoint|grades\.csv|00\d\.json): Read-only file", said)


def test_a_file_that_does_not_fit_is_named_and_the_old_one_stays(folder, monkeypatch):
    path = folder / "weights"
    write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full") as caught:
        write_whole(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert {file.name for file in folder.iterdir()} == {"mine.py", "weights"}


def test_a_place_that_is_no_folder(call, arrays, folder):
    (folder / "taken").write_text("a file")
    words = ("--model", "digits_cnn", "--data", arrays(), *QUICK[:-1], "taken")
    status, said = call("evaluate", *words)
    assert status == 2
    assert "taken" in said


def test_where_an_error_came_from_is_shown_if_asked(call, arrays, monkeypatch):
    monkeypatch.setenv("WITHIN_EPSILON_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        call("evaluate", "--model", "digits_cnn", "--data", "absent.npz", *QUICK)
