"""Models and data of odd form: evaluated as what they are, or named with a remedy."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from within_epsilon.attacks import fgsm
from within_epsilon.data import digits
from within_epsilon.evaluation import accuracy, robust_accuracy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
IMAGES, LABELS = digits().test.images[:40], digits().test.labels[:40]


def scripted():
    return torch.jit.script(digits_classifier().body)


def test_a_torchscript_model_needs_no_wrapper_to_be_evaluated():
    data = IMAGES[:20], LABELS[:20]
    report, plain = (
        robust_accuracy(m.eval(), data, fgsm, BALL) for m in (scripted(), digits_classifier().body)
    )
    assert report.outcomes == plain.outcomes
    assert report.stages[0].gradients == plain.stages[0].gradients > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_images_of_another_dtype_than_the_weights_are_named(dtype):
    for diagnose in (True, False):
        with pytest.raises(TypeError, match=r"images: expected torch\.float32, as the model's"):
            robust_accuracy(
                digits_classifier(), (IMAGES.to(dtype), LABELS), fgsm, BALL, diagnose=diagnose
            )


def test_lists_of_examples_and_mappings_are_read_as_what_they_are():
    net, few = digits_classifier(), (IMAGES[:12], LABELS[:12])
    expected = robust_accuracy(net, few, fgsm, BALL).outcomes
    pairs = list(zip(*few, strict=True))
    big_endian = few[0].numpy().astype(">f4"), few[1].numpy().astype(">i8")
    for data in (
        pairs,
        [(image, np.int64(label)) for image, label in pairs],
        {"images": few[0], "labels": few[1]},
        {"image": few[0], "label": few[1]},
        big_endian,
    ):
        assert robust_accuracy(net, data, fgsm, BALL).outcomes == expected


class InOneBuffer(Dataset):
    """Examples, or batches where it is iterated over, that all come in the same memory."""

    def __init__(self, images, labels):
        self.images_, self.labels_, self.buffer = images, labels, images[0].clone()

    def __len__(self):
        return len(self.labels_)

    def __getitem__(self, number):
        return self.buffer.copy_(self.images_[number]), self.labels_[number]

    def batches(self, size=10):
        buffer, labels = self.images_[:size].clone(), self.labels_[:size].clone()
        for some in torch.arange(len(self)).split(size):
            yield buffer.copy_(self.images_[some]), labels.copy_(self.labels_[some])


def test_examples_that_come_in_the_same_memory_are_kept_apart():
    net, data = digits_classifier(), InOneBuffer(IMAGES, LABELS)
    expected = robust_accuracy(net, (IMAGES, LABELS), fgsm, BALL)
    assert 0 < expected.robust < expected.clean
    for given in (data, data.batches()):
        assert robust_accuracy(net, given, fgsm, BALL).outcomes == expected.outcomes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (([*IMAGES[:3]], LABELS[:3]), "torch.stack"),
        (DataLoader(TensorDataset(IMAGES, LABELS), batch_size=None), "batch_size to a DataLoader"),
        ((IMAGES[:3].numpy(), np.eye(10)[LABELS[:3]]), "argmax"),
        ((IMAGES[:3].numpy(), LABELS[:3].numpy() / 1.0), "labels.long"),
        ((IMAGES[:3].numpy(), LABELS[:3].numpy()[:, None]), "labels: expected shape"),
        ((IMAGES[:3].numpy().astype(object), LABELS[:3].numpy()), "astype"),
        ({"pixel_values": IMAGES, "labels": LABELS}, "a dict with keys .*'pixel_values'"),
        (None, "received a NoneType"),
    ],
    ids=["list", "single", "one-hot", "floats", "column", "objects", "other keys", "nothing"],
)
def test_arrays_that_are_not_quite_right_get_a_remedy(data, message):
    with pytest.raises((TypeError, ValueError), match=message):
        robust_accuracy(digits_classifier(), data, fgsm, BALL)


def test_a_lazy_module_is_not_run_for_the_first_time_by_an_attack():
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    for use in (
        lambda: robust_accuracy(model, (IMAGES, LABELS), fgsm, BALL),
        lambda: accuracy(model, IMAGES, LABELS),
        lambda: fgsm(model, IMAGES, LABELS, BALL),
    ):
        with pytest.raises(ValueError, match="run the model on a batch once"):
            use()
