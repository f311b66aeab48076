"""Adversarial images kept on disk are those that were judged."""

import csv
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from within_epsilon.attacks import fgsm, pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL, TEST = Ball("linf", 0.1), digits().test
IMAGES, LABELS = TEST.images[:50], TEST.labels[:50]
ATTACK = partial(pgd, steps=3)


def run(keep, *, n=50, **options):
    data = IMAGES[:n], LABELS[:n]
    return robust_accuracy(
        digits_classifier(), data, ATTACK, BALL, batch_size=20, keep=keep, **options
    )


def assert_as_reported(kept, report):
    images_adv = torch.from_numpy(np.array(kept))
    assert BALL.admits(IMAGES, images_adv).all()
    right = digits_classifier()(images_adv).argmax(dim=1) == LABELS
    assert "".join("+" if r else "x" for r in right) == report.outcomes.translate(
        str.maketrans("-a", "xx")
    )


def test_numbers_are_those_that_were_judged_and_go_on_after_an_interruption(tmp_path):
    report = run(tmp_path / "adv.npy")
    kept = np.load(tmp_path / "adv.npy", mmap_mode="r")
    assert_as_reported(kept, report)
    paths = {"keep": tmp_path / "half.npz", "resume": tmp_path / "record.json"}
    run(tmp_path / "half.npz.npy", n=20, resume=paths["resume"])  # as an interruption leaves it
    assert run(**paths) == report
    archive = np.load(paths["keep"])
    assert np.array_equal(archive["images_adv"], kept)
    assert archive["indices"].tolist() == list(range(50))
    assert "".join(archive["outcomes"]) == report.outcomes
    before = paths["keep"].read_bytes()
    assert run(**paths) == report  # all on record, nothing to add
    assert paths["keep"].read_bytes() == before
    with pytest.raises(ValueError, match="50 images that were kept before"):
        run(tmp_path / "other.npy", resume=paths["resume"])


def test_pictures_say_how_large_their_changes_are(tmp_path):
    report = run(tmp_path / "pictures")
    rows = list(csv.DictReader((tmp_path / "pictures" / "norms.csv").open(encoding="utf-8")))
    assert [int(row["position"]) for row in rows] == list(range(50))
    for row, image in zip(rows, IMAGES, strict=True):
        pixels = np.asarray(Image.open(tmp_path / "pictures" / row["file"]), dtype=np.float64)
        change = np.abs(pixels / 255 - image[0].double().numpy()).max()
        assert float(row["norm_of_file"]) == pytest.approx(change, abs=1e-12)
        assert abs(change - float(row["norm"])) <= 0.5 / 255 + 1e-9
        wrong = report.outcome(int(row["position"])).startswith("wrong")
        assert float(row["norm"]) <= 0.1 + 1e-6 if not wrong else float(row["norm"]) == 0


def test_other_places_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"keep: expected a path ending in \.npy or \.npz"):
        run(tmp_path / "adv.jpg")
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "nowhere" / "adv.npy")
    columns = IMAGES[:4].expand(4, 2, 8, 8), LABELS[:4]
    with pytest.raises(ValueError, match=r"1, 3 or 4 channels.*npz"):
        robust_accuracy(
            torch.nn.Sequential(Half(), digits_classifier()),
            columns,
            fgsm,
            BALL,
            keep=tmp_path / "p",
        )


class Half(torch.nn.Module):
    def forward(self, images):
        return images[:, :1]


def test_a_folder_without_the_pictures_on_record_is_refused(tmp_path):
    def evaluate(**options):
        return robust_accuracy(
            digits_classifier(), (IMAGES[:6], LABELS[:6]), fgsm, BALL, diagnose=False, **options
        )

    evaluate(resume=tmp_path / "record.json", keep=tmp_path / "pictures")
    evaluate(resume=tmp_path / "record.json", keep=tmp_path / "pictures")
    with pytest.raises(ValueError, match="keep: expected the 6 images"):
        evaluate(resume=tmp_path / "record.json", keep=tmp_path / "others")


def test_a_folder_keeps_no_pictures_of_an_evaluation_before(tmp_path):
    for number in (6, 4):
        robust_accuracy(
            digits_classifier(),
            (IMAGES[:number], LABELS[:number]),
            fgsm,
            BALL,
            keep=tmp_path,
            diagnose=False,
        )
        assert len(list(tmp_path.glob("*.png"))) == number
