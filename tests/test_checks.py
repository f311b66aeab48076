"""The checks themselves; that attacks and losses make them is tested there."""

import pytest
import torch

from within_epsilon import checks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_usable_arguments_pass(dtype):
    images = torch.tensor([[0.0, 1.0], [0.5, 1e-3]], dtype=dtype)
    checks.check_images(images)
    checks.check_labels(torch.tensor([0, 2]), 2)
    checks.check_labels(torch.tensor([0, 2]), 2, classes=3)
    assert checks.check_logits(images, 2) is images
    checks.check_losses(images[0], 2)
    checks.check_finite(images * -1e4, images)
    checks.check_finite(images, torch.tensor([[1.0, -torch.inf]] * 2))
    checks.check_no_nan(torch.tensor([[1.0, -torch.inf]]))
    assert checks.check_indices(None, 2) == [0, 1]
    assert checks.check_indices(torch.tensor([4, 9]), 2) == [4, 9]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(1, 3, 2, 2) * 255, ValueError, "divide by 255"),
        (torch.rand(1, 3, 2, 2) - 2, ValueError, "let the model normalise"),
        (torch.tensor([[0.0, 1.0 + 2e-7]]), ValueError, r"1\.0000\d+\]; .*clamp"),
        (torch.tensor([[-0.05, 1.0]]), ValueError, "clamp"),
        (torch.tensor([[0.0, 16.0]]), ValueError, "what else white is"),
        (torch.full((1, 2), torch.nan), ValueError, "NaN"),
        (torch.full((1, 2), torch.inf), ValueError, "inf"),
        (torch.tensor([0.5]), ValueError, "unsqueeze"),
        (torch.empty(0, 3), ValueError, r"at least one image.*received \(0, 3\); look at"),
        (torch.ones(1, 3, dtype=torch.uint8), TypeError, "/ 255"),
        (torch.ones(1, 3, dtype=torch.bool), TypeError, r"images.float\(\)$"),
        ([[0.5]], TypeError, "received list"),
    ],
)
def test_unusable_images_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        checks.check_images(images)


def test_one_bad_entry_among_many_is_found():
    for bad in (torch.inf, -torch.inf, torch.nan):
        gradient = torch.zeros(5, 40)
        gradient[3, 17] = bad
        with pytest.raises(ValueError, match="1 of 5 examples"):
            checks.check_finite(gradient, torch.zeros(5))
    with pytest.raises(checks.BadExampleError, match=r"logits.*1 of 5 examples"):
        checks.check_finite(
            torch.zeros(5, 40), torch.eye(5).where(torch.eye(5) == 0, torch.nan)[:, :1]
        )
    logits = torch.zeros(6, 3)
    logits[2, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 6 examples"):
        checks.check_no_nan(logits)


@pytest.mark.parametrize("indices", [[1], [1, 2.5], torch.arange(3)])
def test_indices_must_be_one_whole_number_each(indices):
    with pytest.raises(ValueError, match="expected 2 whole numbers"):
        checks.check_indices(indices, 2)


def test_labels_that_start_at_one_are_recognised():
    with pytest.raises(ValueError, match="subtract 1"):
        checks.check_labels(torch.tensor([1, 10]), 2, classes=10)
