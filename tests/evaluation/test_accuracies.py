"""Accuracies counted by hand, on data of every kind, past what cannot be judged."""

import random
import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from within_epsilon.attacks import describe, fgsm, fmn, noise_control, pgd, square
from within_epsilon.checks import check_finite
from within_epsilon.data import Split, digits
from within_epsilon.evaluation import (
    DoubtfulEvaluationWarning,
    RobustReport,
    accuracy,
    merge,
    robust_accuracy,
    robust_curve,
    verdict,
)
from within_epsilon.evaluation.core.examples import Examples
from within_epsilon.losses import cross_entropy
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
        [images, labels],
        (images.numpy(), labels.numpy()),
        (images.numpy(), labels.tolist()),
        TensorDataset(images, labels),
        [(images[k], int(labels[k])) for k in range(10)],
        [(images[:7].numpy(), labels[:7].numpy()), (images[7:], labels[7:])],
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


class Scans(Dataset):
    """Negatives, which its transform turns; one of them cannot be read."""

    def __init__(self, images, labels, broken=None):
        self.images, self.labels, self.broken = 1 - images, labels, broken

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        if number == self.broken:
            raise OSError("the file is damaged")
        return 1 - self.images[number], self.labels[number]


def test_a_data_set_is_read_by_its_items_and_past_what_it_cannot_give():
    scans = Scans(*examples())
    report = robust_accuracy(Threshold().eval(), scans, fgsm, BALL)
    assert report.outcomes == "++aaaa++--"
    with pytest.warns(DoubtfulEvaluationWarning, match="bad examples: 1 of 10"):
        report = robust_accuracy(Threshold().eval(), Scans(*examples(), broken=6), fgsm, BALL)
    assert report.outcomes == "++aaaa!+--"
    assert report.bad == {6: "unreadable: OSError: the file is damaged"}
    assert (report.clean, report.robust, report.n) == (7, 3, 10)
    with pytest.warns(DoubtfulEvaluationWarning, match="bad examples"):
        assert accuracy(Threshold().eval(), Scans(*examples(), broken=6)) == 0.7


class Spoilt(Threshold):
    """NaN logits at pixels of 0.9, and a gradient that is not finite at 0.8."""

    def forward(self, images):
        logits = super().forward(images)
        first = images.flatten(1)[:, :1]
        root = (first - 0.8).abs().sqrt()  # whose slope at 0 is NaN
        return torch.where(first == 0.9, torch.nan, logits + 1e-9 * root)


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_an_example_that_cannot_be_judged_is_recorded_and_counts_as_lost(batch_size):
    images, labels = examples()
    images[1] = torch.nan
    with pytest.warns(DoubtfulEvaluationWarning, match="bad examples: 3 of 10"):
        report = robust_accuracy(
            Spoilt().eval(), (images, labels), square_free, BALL, batch_size=batch_size
        )
    assert report.outcomes == "+!aaaa!!--"
    assert {k: v.split(":")[0] for k, v in report.bad.items()} == {
        1: "images",
        6: "gradient",
        7: "logits",
    }
    assert report.outcome(7).startswith("bad: logits")


def square_free(model, images, labels, ball, *, indices):
    """Step as FGSM does, from where the gradient is asked for exactly."""
    leaf = images.clone().requires_grad_()
    losses = cross_entropy(model(leaf), labels)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    check_finite(gradient, losses.detach())
    return ball.perturb(images, ball.epsilon * gradient.sign())


def test_nothing_that_is_handed_in_changes():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_classifier()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, images):
            self.calls += 1
            return self.network(images.mul_(3).round_().div_(3) + 0 * torch.rand(()))

    class Copies(Writes):
        def forward(self, images):
            return self.network((images * 3).round() / 3)

    test, model = digits().test, Writes().eval()
    images, labels = test.images[:60].clone(), test.labels[:60].clone()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    attack = partial(square, queries=60)
    reports = [
        robust_accuracy(each, (images, labels), attack, BALL, diagnose=False)
        for each in (model, Copies().eval())
    ]
    assert reports[0].outcomes == reports[1].outcomes
    assert accuracy(model, images, labels) == accuracy(model, images, labels) > 0.9
    assert verdict(model, images[:1], images[:1], BALL).endswith("ℓ∞ ε = 0.1")
    robust_curve(model, (images, labels), attack, "linf", [0.05])
    assert torch.equal(images, test.images[:60])
    assert torch.equal(labels, test.labels[:60])
    assert model.calls == 0
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_a_mask_for_each_image_follows_its_position():
    images, labels = examples()
    images, mask = images.expand(-1, 1, 1, 2), torch.ones(10, 1, 1, 2, dtype=torch.bool)
    mask[3] = mask[4] = False
    ball = Ball("linf", 0.1, mask=mask)
    whole = robust_accuracy(Threshold().eval(), (images, labels), fgsm, ball, batch_size=4)
    assert whole.outcomes == "++a++a++--"
    parts = [
        robust_accuracy(
            Threshold().eval(), (images[k::2], labels[k::2]), fgsm, ball, indices=range(k, 10, 2)
        )
        for k in (0, 1)
    ]
    assert merge(parts) == whole
    assert RobustReport.from_json(whole.to_json()) == whole


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
        (lambda model, images, labels, ball: images + 0.2, r"within ℓ∞ ε = 0\.1.*norm up to 0\.2"),
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
        ([(torch.rand(2, 1), ["a", "b"])], "tuple of Tensor, list"),
        ([(object(), 3)], "tuple of object, int"),
        ([torch.rand(2, 1)], "a Tensor"),
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
    with pytest.raises(ValueError, match=r"within ℓ∞ ε = 0\.1.*norm up to 0\.5"):
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


class Moody(Threshold):
    """The same, whose code asks for its mode."""

    def forward(self, images):
        logits = super().forward(images)
        return logits + 0.1 if self.training else logits


class Detached(Threshold):
    """The same, without a gradient."""

    def forward(self, images):
        return super().forward(images.detach())


@pytest.mark.parametrize(
    ("model", "attack", "message"),
    [
        (nn.Sequential(Threshold(), nn.Softmax(dim=1)).eval(), fgsm, "return the logits"),
        (Steps().eval(), noise_control, "zero for 10 of 10 examples"),
        (Detached().eval(), noise_control, "no gradient"),
        (Moody().train(), noise_control, "train mode"),
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
        accuracy(Moody().train(), *examples())
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

    for judge in (
        lambda: accuracy(Broken().eval(), *examples()),
        lambda: robust_accuracy(Broken().eval(), examples(), fgsm, BALL),
    ):
        with pytest.raises(ValueError, match=r"10 that cannot; the first, at position 0: .*NaN"):
            judge()


def test_a_verdict_is_a_sentence():
    class Fixed(nn.Module):
        def forward(self, images):
            chosen = images.flatten(1)[:, :1] > 0.5
            cat, airliner = torch.tensor([0.857, 0.143]), torch.tensor([0.0004, 0.9996])
            return torch.where(chosen, airliner, cat).log()

    model = Classifier(Fixed(), categories=("Egyptian cat", "airliner")).eval()
    image = torch.full((1, 3, 2, 2), 0.499)
    image_adv, ball = image + 2 / 255, Ball("linf", 2 / 255)
    said = "Egyptian cat 86% → airliner >99.9%, ℓ∞ ε = 2/255"
    assert verdict(model, image, image_adv, ball) == said  # no attack that nobody named
    assert verdict(model, image, image_adv, ball, pgd) == f"{said}, PGD, 40 steps"
    plain = verdict(model.body, image, image_adv, ball, "by hand")
    assert plain == "0 (86%) → 1 (>99.9%), ℓ∞ ε = 2/255, by hand"
    assert verdict(model, image, image, ball, fgsm) == (
        "Egyptian cat 86% → Egyptian cat 86%, ℓ∞ ε = 2/255, FGSM"
    )
    with pytest.raises(ValueError, match="within ℓ∞ ε = 1/255"):
        verdict(model, image, image_adv, Ball("linf", 1 / 255))
    with pytest.raises(ValueError, match="one image each"):
        verdict(model, image.expand(2, 3, 2, 2), image_adv, ball)


def test_a_default_batch_is_bounded_by_pixels_and_larger_ones_are_cut():
    seen = []

    def spy(model, images, labels, ball):
        seen.append(len(images))
        return images

    photos = torch.rand(30, 3, 224, 224), torch.zeros(30, dtype=torch.int64)
    model = nn.Sequential(nn.AvgPool2d(224), nn.Flatten(), nn.Linear(3, 2), Biased()).eval()
    for data in (photos, [photos]):
        robust_accuracy(model, data, spy, BALL, diagnose=False)
    assert seen == [27, 3] * 2


class Biased(nn.Module):
    def forward(self, logits):
        return logits + torch.tensor([9.0, 0.0])


def test_a_mistyped_setting_is_refused_in_our_words():
    with pytest.raises(TypeError, match="attack: expected"):
        robust_accuracy(digits_classifier(), digits().test, partial(pgd, step=3), BALL)
