"""Accuracies counted by hand, intervals against SciPy, warnings about what looks robust."""

import re
import warnings
from functools import partial

import pytest
import torch
from scipy.stats import binomtest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from within_epsilon.attacks import describe, fgsm, fmn, noise_control, pgd
from within_epsilon.data import Split, digits
from within_epsilon.evaluation import (
    RobustReport,
    accuracy,
    robust_accuracy,
    verdict,
    wilson_interval,
)
from within_epsilon.evaluation.examples import Examples
from within_epsilon.losses import margin_loss
from within_epsilon.models import Classifier, digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)


class Threshold(nn.Module):
    """Class 1 where the first pixel is over a half, in float64 to be exact."""

    def forward(self, images):
        score = images.flatten(1)[:, 0] - 0.5
        return torch.stack((-score, score), dim=1)


def examples():
    """Return pixels, with labels, of which Threshold gets 8 of 10 right, 4 by more than 0.1."""
    pixels = [0.1, 0.2, 0.45, 0.45, 0.55, 0.55, 0.8, 0.9, 0.2, 0.8]
    images = torch.tensor(pixels, dtype=torch.float64).view(-1, 1, 1, 1)
    return images, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])


def test_accuracy_counts():
    images, labels = examples()
    for batch_size in (1, 3, 10, 256):
        assert accuracy(Threshold().eval(), images, labels, batch_size=batch_size) == 0.8


@pytest.mark.parametrize("attack", [fgsm, pgd, partial(pgd, steps=3, restarts=2)])
@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_robust_accuracy_counts(attack, batch_size):
    report = robust_accuracy(Threshold().eval(), examples(), attack, BALL, batch_size=batch_size)
    assert (report.clean, report.robust, report.n) == (8, 4, 10)
    assert (report.clean_accuracy, report.robust_accuracy) == (0.8, 0.4)
    assert (report.ball, report.attack) == (BALL, describe(attack))
    assert report.outcomes == "++aaaa++--"


def test_every_kind_of_data_gives_the_same_report():
    images, labels = examples()
    sources = [
        (images, labels),
        Split(images, labels),
        DataLoader(TensorDataset(images, labels), batch_size=3),
        [(images[:7], labels[:7]), (images[7:], labels[7:])],
        ([images[k : k + 1], labels[k : k + 1], {"name": str(k)}] for k in range(10)),
        [{"images": images[:3], "labels": labels[:3], "names": "abc"}, Split(*examples())[3:]],
        [Split(images[:5], labels[:5]), Split(images[5:], labels[5:])],
    ]
    reports = {
        str(robust_accuracy(Threshold().eval(), source, noise_control, Ball("linf", 0.06)))
        for source in sources
    }
    assert len(reports) == 1


def test_only_what_is_still_right_is_attacked_and_keyed_by_its_place():
    calls = []

    def spy(model, images, labels, ball, *, indices):
        calls.append((images.flatten().tolist(), labels.tolist(), indices.tolist()))
        return images

    images, labels = examples()
    report = robust_accuracy(
        Threshold().eval(), (images, labels), spy, BALL, batch_size=5, diagnose=False
    )
    assert report.robust_accuracy == report.clean_accuracy == 0.8
    assert [places for _, _, places in calls] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert calls[1][:2] == ([0.55, 0.8, 0.9], [1, 1, 1])


def test_a_readers_own_attack_needs_only_four_arguments():
    def own(model, images, labels, ball):
        return ball.perturb(images, torch.where(labels == 0, 1.0, -1.0).double().view(-1, 1, 1, 1))

    report = robust_accuracy(Threshold().eval(), examples(), own, BALL)
    assert (report.robust_accuracy, report.attack) == (0.4, "own")


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda model, images, labels, ball: images + 0.2, r"within l∞ ε = 0\.1.*norm up to 0\.2"),
        (lambda model, images, labels, ball: images * torch.nan, "pixels in"),
        (partial(pgd, targeted=True), "targeted"),
    ],
)
def test_an_attack_that_proves_nothing_is_refused(attack, message):
    with pytest.raises(ValueError, match=message):
        robust_accuracy(Threshold().eval(), examples(), attack, BALL)


@pytest.mark.parametrize(
    ("attack", "error", "message"),
    [
        (partial(fmn, norm="l2"), TypeError, r"attack\(model, .*received FMN.*\.images_adv"),
        (lambda m, x, y, ball: fmn(m, x, y, norm="l2"), TypeError, r"Minimal; .*\.images_adv"),
        (lambda model, images, labels, ball: None, TypeError, "received NoneType"),
        (lambda model, images, labels, ball: images.float(), TypeError, "float64, received.*32"),
        (lambda model, images, labels, ball: images[:1], ValueError, r"\(8, .*received \(1, "),
        (lambda model, images, labels, ball: images.to("meta"), ValueError, "cpu, received meta"),
    ],
)
def test_an_attack_that_is_none_is_refused_with_a_remedy(attack, error, message):
    with pytest.raises(error, match=rf"(attack|images_adv): expected .*{message}"):
        robust_accuracy(Threshold().eval(), examples(), attack, BALL)


@pytest.mark.parametrize("wrap", [tuple, lambda pair: [pair]])
def test_unusable_data_are_refused(wrap):
    images, labels = examples()
    for pair, message in (
        ((images * 255, labels), "divide by 255"),
        ((images, labels[:3]), "(10,)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            robust_accuracy(Threshold().eval(), wrap(pair), fgsm, BALL)


@pytest.mark.parametrize(
    ("batches", "received"),
    [
        ([{"pixels": 0, "labels": torch.zeros(2)}], r"dict with keys \['pixels', 'labels'\]"),
        ([(torch.rand(2, 1), [0, 1])], "tuple of Tensor, list"),
        ([torch.rand(2, 1)], "a Tensor"),
        (TensorDataset(*examples()), "labels: expected"),
        ([[]], "list of nothing"),
    ],
)
def test_batches_without_images_and_labels_are_refused(batches, received):
    with pytest.raises((TypeError, ValueError), match=received) as caught:
        robust_accuracy(Threshold().eval(), batches, fgsm, BALL)
    assert "DataLoader" in str(caught.value) or "labels: expected" in str(caught.value)


@pytest.mark.parametrize(
    ("attack", "ball", "message"),
    [
        ("pgd", BALL, r"attack: expected one such as attacks\.pgd, received 'pgd'"),
        (None, BALL, "attack: expected one such as.*received None"),
        ([fgsm, None], BALL, "attack: expected one such as.*received None"),
        (fgsm, 0.1, r"ball: expected one such as Ball\(.*received 0\.1"),
    ],
)
def test_what_is_no_attack_or_no_ball_is_named(attack, ball, message):
    with pytest.raises(TypeError, match=message):
        robust_accuracy(Threshold().eval(), examples(), attack, ball)


def test_a_function_is_no_model():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, received function"):
        robust_accuracy(lambda images: images, examples(), fgsm, BALL)
    with pytest.raises(TypeError, match="received function"):
        accuracy(lambda images: images, *examples())


def test_an_attack_that_writes_into_its_images_or_labels_is_judged_by_what_was_there():
    def honest(model, images, labels, ball):
        images += torch.where(labels == 0, 0.1, -0.1).double().view(-1, 1, 1, 1)
        labels.zero_()
        return images.clamp_(0, 1)

    def far(model, images, labels, ball):
        images += torch.where(labels == 0, 0.5, -0.5).double().view(-1, 1, 1, 1)
        return images.clamp_(0, 1)

    report = robust_accuracy(Threshold().eval(), examples(), honest, BALL)
    assert (report.clean_accuracy, report.robust_accuracy) == (0.8, 0.4)
    with pytest.raises(ValueError, match=r"within l∞ ε = 0\.1.*norm up to 0\.5"):
        robust_accuracy(Threshold().eval(), examples(), far, BALL)


def test_a_batch_of_no_size_is_refused():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, received 0"):
        robust_accuracy(Threshold().eval(), examples(), fgsm, BALL, batch_size=0)


def test_the_progress_bar_gets_the_number_of_batches_where_there_is_one():
    images, labels = examples()
    assert len(Examples((images, labels), 4)) == 3
    assert len(Examples(DataLoader(TensorDataset(images, labels), batch_size=4))) == 3
    with pytest.raises(TypeError):
        len(Examples(((images, labels) for _ in range(2)), 4))


def test_data_without_examples_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        robust_accuracy(Threshold().eval(), [], fgsm, BALL)


class Steps(Threshold):
    """The same, of pixels rounded to 17 levels: a gradient of 0 everywhere."""

    def forward(self, images):
        return super().forward((images * 16).round() / 16)


class Detached(Threshold):
    """The same, without a gradient."""

    def forward(self, images):
        return super().forward(images.detach())


@pytest.mark.parametrize(
    ("model", "attack", "message"),
    [
        (nn.Sequential(Threshold(), nn.Softmax(dim=1)).eval(), fgsm, "return the logits"),
        (Steps().eval(), noise_control, "zero for 8 of the first 8 attacked"),
        (Detached().eval(), noise_control, "no usable gradient"),
        (Threshold().train(), noise_control, "train mode"),
    ],
)
def test_what_only_looks_robust_is_warned_about(model, attack, message):
    with pytest.warns(UserWarning, match=message) as caught:
        robust_accuracy(model, examples(), attack, BALL)
    assert caught[0].filename == __file__


def test_an_ensemble_leaves_to_each_attack_what_the_others_left_standing():
    seen = []

    def spy(name, fooled):
        def attack(model, images, labels, ball, *, indices):
            seen.append((name, indices.tolist()))
            step = ball.perturb(images, torch.where(labels == 0, 1.0, -1.0).view(-1, 1, 1, 1))
            chosen = torch.isin(indices, torch.tensor(fooled)).view(-1, 1, 1, 1)
            return torch.where(chosen, step, images)

        return attack

    attacks = [spy("first", [2, 4]), spy("second", [4, 5]), spy("third", [])]
    report = robust_accuracy(
        Threshold().eval(), examples(), attacks, BALL, batch_size=6, diagnose=False
    )
    assert seen == [
        ("first", [0, 1, 2, 3, 4, 5]),
        ("second", [0, 1, 3, 5]),
        ("third", [0, 1, 3]),
        ("first", [6, 7]),
        ("second", [6, 7]),
        ("third", [6, 7]),
    ]
    assert (report.clean_accuracy, report.robust_accuracy) == (0.8, 0.5)
    assert report.attack == "attack + attack + attack"
    with pytest.raises(ValueError, match="at least one, received none"):
        robust_accuracy(Threshold().eval(), examples(), [], BALL)
    with pytest.raises(ValueError, match="targeted"):
        robust_accuracy(Threshold().eval(), examples(), [fgsm, partial(pgd, targeted=True)], BALL)


@pytest.mark.parametrize("ball", [BALL, Ball("l2", 0.5), Ball("l1", 2.0)], ids=str)
def test_batches_of_any_size_give_the_same_result(ball):
    model, test = digits_classifier().double(), digits().test
    data = Split(test.images[:100].double(), test.labels[:100])
    attacks = [partial(pgd, steps=4, restarts=2), partial(pgd, steps=5, seed=1)]
    reports = {robust_accuracy(model, data, attacks, ball, batch_size=size) for size in (1, 7, 100)}
    assert len(reports) == 1
    assert 0.2 < reports.pop().robust_accuracy < 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_changes_the_result_little(dtype):
    test, attack = digits().test, partial(pgd, steps=10)
    whole = robust_accuracy(digits_classifier(), (test.images, test.labels), attack, BALL)
    data = test.images.to(dtype), test.labels
    # In float16 some gradients do vanish, and would be warned of.
    half = robust_accuracy(digits_classifier().to(dtype), data, attack, BALL, diagnose=False)
    assert half.clean_accuracy == pytest.approx(whole.clean_accuracy, abs=0.02)
    assert half.robust_accuracy == pytest.approx(whole.robust_accuracy, abs=0.04)


def test_accuracy_warns_of_train_mode_where_it_is_called():
    with pytest.warns(UserWarning, match="train mode") as caught:
        accuracy(Threshold().train(), *examples())
    assert [warning.filename for warning in caught] == [__file__]


def test_an_honest_model_gets_no_warning(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        robust_accuracy(Threshold().eval(), examples(), fgsm, BALL)
    assert capsys.readouterr() == ("", "")


def test_nan_does_not_pass_for_a_fooled_model():
    class Broken(Threshold):
        def forward(self, images):
            return super().forward(images) * torch.nan

    with pytest.raises(ValueError, match="NaN for 10 of 10"):
        accuracy(Broken().eval(), *examples())


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 7), (341, 1000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_interval_is_wilsons(successes, n, confidence):
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx(tuple(theirs), abs=1e-12)


def test_a_report_says_all_that_it_depends_on():
    report = RobustReport(0.978, 0.391, BALL, "PGD, 40 steps", 360)
    assert str(report) == (
        "clean accuracy 98%, robust accuracy 39% (95% interval 34% to 44%), "
        "l∞ ε = 0.1, PGD, 40 steps, 360 examples"
    )


def other_defaults(
    model, images, labels, ball, steps=3, queries=None, restarts=None, step_size="wide", loss="ce"
):
    return fgsm(model, images, labels, ball)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (fgsm, "FGSM"),
        (pgd, "PGD, 40 steps"),
        (partial(pgd, steps=1), "PGD, 1 step"),
        (
            partial(partial(pgd, steps=9), restarts=5),
            "PGD, 9 steps, 5 restarts",
        ),
        (
            partial(pgd, step_size=1 / 255, random_start=False, loss=margin_loss),
            "PGD, 40 steps, step size 1/255, clean start, margin loss",
        ),
        (partial(fgsm, targeted=True), "FGSM, targeted"),
        (partial(pgd, loss=partial(margin_loss)), "PGD, 40 steps, margin loss"),
        (partial(fgsm, loss=nn.CrossEntropyLoss(reduction="none")), "FGSM, CrossEntropyLoss"),
        (other_defaults, "other defaults, 3 steps"),
        (noise_control, "noise control"),
    ],
)
def test_attacks_are_described_by_what_makes_them_strong(attack, words):
    assert describe(attack) == words
    if "targeted" not in words:
        report = robust_accuracy(Threshold().eval(), examples(), attack, BALL)
        assert report.attack == words


def test_a_verdict_is_a_sentence():
    class Fixed(nn.Module):
        def forward(self, images):
            chosen = images.flatten(1)[:, :1] > 0.5
            cat, airliner = torch.tensor([0.857, 0.143]), torch.tensor([0.0004, 0.9996])
            return torch.where(chosen, airliner, cat).log()

    model = Classifier(Fixed(), categories=("Egyptian cat", "airliner")).eval()
    image = torch.full((1, 3, 2, 2), 0.499)
    image_adv, ball = image + 2 / 255, Ball("linf", 2 / 255)
    assert (
        verdict(model, image, image_adv, ball)
        == "Egyptian cat 86% → airliner 100%, l∞ ε = 2/255, PGD, 40 steps"
    )
    assert verdict(model, image, image, ball, fgsm) == (
        "Egyptian cat 86% → Egyptian cat 86%, l∞ ε = 2/255, FGSM"
    )
    with pytest.raises(ValueError, match="within l∞ ε = 1/255"):
        verdict(model, image, image_adv, Ball("linf", 1 / 255))
    with pytest.raises(ValueError, match="one image each"):
        verdict(model, image.expand(2, 3, 2, 2), image_adv, ball)
