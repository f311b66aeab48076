"""`within-epsilon evaluate`: the library's numbers, on disk, whatever comes between."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from within_epsilon.attacks import pgd
from within_epsilon.commands.processes.journal import Journal
from within_epsilon.data import digits
from within_epsilon.evaluation import merge, robust_accuracy
from within_epsilon.models import digits_classifier, small_cnn
from within_epsilon.reports import RobustReport
from within_epsilon.threat import Ball

QUICK = ("--attack", "pgd", "--steps", 5, "--check", 0)


def written(folder, k=0):
    whole = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return RobustReport.from_json(json.dumps(whole["reports"][k]))


def test_the_numbers_are_those_of_the_library_and_all_forms_agree(call, folder):
    words = ("--model", "digits_cnn", "--data", "digits", "--out", "out", "--check", 20)
    radii = ("--epsilon", "0.1", "--epsilon", "0.05")
    status, said = call("evaluate", *words, *radii, "--attack", "pgd", "--batch-size", 150)
    assert status == 0, said
    images, labels = digits().test[:]
    for k, epsilon in enumerate((0.05, 0.1)):
        ball = Ball("linf", epsilon)
        expected = robust_accuracy(digits_classifier(), (images, labels), pgd, ball, batch_size=150)
        found = written(folder / "out", k)
        assert found.outcomes == expected.outcomes
        assert found.data == expected.data
        assert str(expected).removesuffix(")").split(" (doubtful")[0] in said
        page = (folder / "out" / "report.md").read_text(encoding="utf-8")
        assert f"{expected.robust} of {expected.n}" in page
    assert "sanity checks: " in said
    with Image.open(folder / "out" / "report.png") as figure:
        assert figure.width > 500


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_a_data_set_of_torchvisions_is_read_from_its_own_files(call, folder, arrays, name):
    """Files as MNIST is published, big-endian numbers before the bytes: pixels and labels."""
    images, labels = np.load(arrays(n=30)).values()
    for part, rows in (("train", slice(10)), ("t10k", slice(10, 30))):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            own = values[rows].astype(np.uint8)
            head = bytes([0, 0, 8, own.ndim]) + np.array(own.shape, ">i4").tobytes()
            file = folder / "root" / name / "raw" / f"{part}-{kind}-ubyte"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(head + own.tobytes())
    words = ("evaluate", "--model", "digits_cnn", "--epsilon", "0.1", *QUICK)
    status, said = call(*words, "--data", name, "--root", "root", "--out", "own")
    assert status == 0, said
    same = arrays("same.npz", images=images[10:], labels=labels[10:])
    assert call(*words, "--data", same, "--out", "all")[0] == 0
    assert written(folder / "own").outcomes == written(folder / "all").outcomes
    assert written(folder / "own").clean >= 18


def test_an_evaluation_goes_on_where_it_was_stopped(call, folder, arrays, monkeypatch):
    words = ("evaluate", "--model", "digits_cnn", "--data", arrays(), "--epsilon", "0.1", *QUICK)
    call(*words, "--out", "whole", "--batch-size", 10)
    add, added = Journal.add, []

    def interrupted(self, entry):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(entry)
        add(self, entry)

    monkeypatch.setattr(Journal, "add", interrupted)
    status, said = call(*words, "--out", "out", "--batch-size", 10)
    assert status == 1
    assert "27 examples are finished and safe" in said
    monkeypatch.setattr(Journal, "add", lambda self, entry: (added.append(entry), add(self, entry)))
    (part,) = (folder / "out" / "parts").glob("*.jsonl")
    with part.open("a") as file:
        file.write('{"reports": ["{')  # half a line, as a power cut leaves it
    assert call(*words, "--out", "out", "--batch-size", 10)[0] == 0
    assert len(added) == 7  # each of 64 examples once
    assert written(folder / "out") == written(folder / "whole")
    # Batches of another size may follow; what is done stays as it is.
    assert call(*words, "--out", "out", "--batch-size", 64)[0] == 0
    assert len(added) == 7
    assert written(folder / "out") == written(folder / "whole")


def test_another_experiment_or_other_examples_are_refused_and_nothing_is_lost(call, folder, arrays):
    words = ("evaluate", "--model", "digits_cnn", "--epsilon", "0.1", "--out", "out", *QUICK)
    assert call(*words, "--data", arrays())[0] == 0
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    other = arrays("other.npz", images=np.zeros((64, 8, 8), np.uint8))
    for changed in (
        ("--data", "test.npz", "--seed", 1),
        ("--data", "test.npz", "--set", "restarts=2"),
        ("--data", "test.npz", "--limit", 10),
        ("--data", "test.npz", "--norm", "l2"),
        ("--data", other),
    ):
        status, said = call(*words, *changed)
        assert status == 2, said
        assert "give another folder" in said
        assert said.count("\n") == 1
    assert call(*[w if w != "digits_cnn" else "digits_cnn_linf" for w in words], "--data",
                "test.npz")[0] == 2  # fmt: skip
    after = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    assert after == before


def test_folders_archives_and_arrays_of_the_same_pictures_give_the_same(call, folder, pictures):
    """Class folders, the same in a tar, WebDataset's pairs, and an array in their order."""
    place = pictures()
    files = sorted(place.rglob("*.png"))
    with tarfile.open("folders.tar", "w") as archive:
        for file in files:
            archive.add(file, file.relative_to(folder))
    with tarfile.open("pairs.tar", "w") as archive:
        for number, file in enumerate(files):
            for suffix, content in (
                ("png", file.read_bytes()),
                ("cls", file.parent.name.encode()),
                ("json", b'{"from": "a test"}'),
            ):
                member = tarfile.TarInfo(f"./{number:04d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    labels = np.array([int(file.parent.name) for file in files])
    np.savez_compressed("arrays.npz", images=pixels, labels=labels)
    words = ("evaluate", "--model", "digits_cnn", "--epsilon", "0.1", *QUICK, "--batch-size", 16)
    found = []
    for number, data in enumerate(("pictures", "folders.tar", "pairs.tar", "arrays.npz")):
        status, said = call(*words, "--data", data, "--out", f"out{number}")
        assert status == 0, said
        found.append(written(folder / f"out{number}"))
    assert found[0].clean > 30
    assert found == [found[0]] * 4


def test_models_from_files_and_functions_give_what_they_give_in_python(call, folder, arrays):
    """Weights, TorchScript, torch.export with any and with a fixed batch, a function."""
    arrays(n=30)
    body = digits_classifier().body
    save_file(body.state_dict(), "weights.safetensors")
    torch.save({"state_dict": body.state_dict()}, "weights.pt")
    torch.jit.script(body).save("script.pt")
    example = torch.rand(7, 1, 8, 8)
    free = ({0: torch.export.Dim("n", min=1, max=4096)},)
    torch.export.save(torch.export.export(body, (example,), dynamic_shapes=free), "any.pt2")
    torch.export.save(torch.export.export(body, (example,)), "seven.pt2")
    exported = [("any.pt2",), ("seven.pt2",)]
    with zipfile.ZipFile("any.pt2") as archive:
        if "serialized_exported_program.json" in archive.namelist():  # of an older torch
            words = ("--model", "any.pt2", "--data", "test.npz", "--epsilon", "0.1")
            status, said = call("evaluate", *words, *QUICK)
            assert status == 2
            assert "export it again" in said
            exported = []
    (folder / "own.py").write_text(
        "from within_epsilon.models import small_cnn\ndef net():\n    return small_cnn()\n"
    )
    attack, ball = partial(pgd, steps=5), Ball("linf", 0.1)
    split = digits().test
    rounded = (split.images[:30] * 255).round() / 255
    expected = robust_accuracy(body, (rounded, split.labels[:30]), attack, ball)
    for number, model in enumerate(
        (
            ("small_cnn", "--weights", "weights.safetensors"),
            ("small_cnn", "--weights", "weights.pt"),
            ("own:net", "--weights", "weights.safetensors"),
            ("script.pt",),
            *exported,
        )
    ):
        out = folder / f"out{number}"
        words = ("--data", "test.npz", "--epsilon", "0.1", "--out", out)
        for _ in range(2):  # and is known again
            status, said = call("evaluate", "--model", *model, *words, *QUICK)
            assert status == 0, said
        found = written(out)
        assert (found.clean, found.robust) == (expected.clean, expected.robust), model
        assert not [finding.name for finding in found.findings if finding.doubtful]


def test_networks_of_torchvision_are_known_by_name(call, folder):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18(num_classes=2).state_dict(), "two.safetensors")
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        pixels = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name / "a.jpg")
        Image.fromarray(pixels[..., 0]).save(folder / "photos" / name / "grey.jpg")
    words = ("--data", "photos", "--size", 40, "--epsilon", "1/255", "--out", "out", *QUICK)
    model = ("--model", "resnet18", "--weights", "two.safetensors")
    status, said = call("evaluate", *model, *words)
    assert status == 0, said
    assert written(folder / "out").n == 4
    status, said = call("evaluate", "--model", "resnet1", *words)
    assert status == 2
    assert "did you mean resnet1" in said
    status, said = call("evaluate", "--model", "resnet34", *model[2:], *words)
    assert status == 2
    assert "of another network" in said


def test_a_damaged_picture_is_one_bad_example_and_the_others_count(call, folder, pictures):
    files = sorted(pictures(n=20).rglob("*.png"))
    files[5].write_bytes(b"no picture")
    files[7].write_bytes(files[7].read_bytes()[:60])
    words = ("--model", "digits_cnn", "--data", "pictures", "--epsilon", "0.1", "--out", "out")
    # Batches of 2: one of them has nothing else in it.
    files[4].write_bytes(b"")
    assert call("evaluate", *words, *QUICK, "--batch-size", 2)[0] == 0
    found = written(folder / "out")
    assert (found.n, sorted(found.bad)) == (20, [4, 5, 7])
    assert found.clean >= 15


OUTS = "quick", "shortened", "standard"


def test_a_record_is_as_robustbench_keeps_them(call, folder, arrays):
    """Its keys and kinds are those of the records in RobustBench's repository."""
    words = ("--model", "digits_cnn", "--data", arrays(n=20), "--epsilon", "8/255", "--check", 0)
    call("evaluate", *words, "--attack", "pgd", "--steps", 5, "--out", "quick")
    standard_version = ("--set", "version=standard")
    quickly = (*standard_version, "--set", "queries=20", "--steps", 5)
    call("evaluate", *words, *quickly, "--out", "shortened")
    wide = [1 if word == "8/255" else word for word in words]  # all fall to the first attack
    call("evaluate", *wide, *standard_version, "--out", "standard")
    paths = (next((folder / out).glob("model_info/test/Linf/digits_cnn_*.json")) for out in OUTS)
    quick, shortened, standard = (json.loads(path.read_text()) for path in paths)
    texts = {"link", "name", "authors", "dataset", "venue", "architecture", "eps", "footnote"}
    numbers = {"clean_acc", "reported"}
    others = {"additional_data", "number_forward_passes", "unreliable"}
    assert set(quick) == set(shortened) == texts | numbers | others | {"external"}
    assert set(standard) == texts | numbers | others | {"autoattack_acc"}
    assert all(isinstance(quick[name], str) for name in texts | numbers | {"external"})
    assert (shortened["eps"], standard["eps"]) == ("8/255", "1")
    report = written(folder / "standard")
    assert standard["autoattack_acc"] == f"{100 * report.robust_accuracy:.2f}"
    assert re.fullmatch(r"\d+\.\d\d", quick["clean_acc"])


def test_parts_on_disk_merge_to_the_report(call, folder, arrays):
    words = ("--model", "digits_cnn", "--data", arrays(), "--epsilon", "0.1", "--out", "out")
    call("evaluate", *words, *QUICK, "--batch-size", 20)
    entries = Journal(folder / "out" / "parts").entries()
    assert [len(entry.positions) for entry in entries] == [16, 16, 16, 16]  # alike
    assert merge(entry.reports[0] for entry in entries) == written(folder / "out")


@pytest.mark.parametrize("n", [7, 64])
def test_a_limit_is_spread_over_all_examples(call, folder, arrays, n):
    words = ("--model", "mine:net", "--data", arrays(), "--epsilon", "0.1", "--out", "out")
    status, said = call("evaluate", *words, *QUICK, "--limit", n)
    assert status == 0, said
    found = written(folder / "out")
    positions = [p for start, end in found.positions for p in range(start, end)]
    assert positions == [k * 64 // n for k in range(n)]


def test_small_cnn_without_weights_is_no_model_to_evaluate(call):
    assert isinstance(small_cnn(), torch.nn.Module)
    status, said = call("evaluate", "--model", "small_cnn", "--data", "digits", "--epsilon", "0.1")
    assert status == 2
    assert "digits_cnn" in said
