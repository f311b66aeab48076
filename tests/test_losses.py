"""Losses against torch's own, and where torch's own round."""

import math

import pytest
import torch
import torch.nn.functional as F

from within_epsilon import losses

generator = torch.Generator().manual_seed(0)
LOGITS = torch.cat(
    [torch.randn(20, 7, dtype=torch.float64, generator=generator) * scale for scale in (1, 10, 1e4)]
)
LABELS = torch.randint(7, (60,), generator=generator)
PAIRS = {
    "softmax": (losses.softmax, lambda z: F.softmax(z, dim=-1)),
    "log_softmax": (losses.log_softmax, lambda z: F.log_softmax(z, dim=-1)),
    "log_sum_exp": (losses.log_sum_exp, lambda z: torch.logsumexp(z, dim=-1)),
    "cross_entropy": (
        lambda z: losses.cross_entropy(z, LABELS),
        lambda z: F.cross_entropy(z, LABELS, reduction="none"),
    ),
}


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.float16, 2e-3)]
)
@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_agree_with_torch(name, dtype, tolerance):
    ours, theirs = PAIRS[name]
    results = []
    for function in (ours, theirs):
        logits = LOGITS.to(dtype).requires_grad_()
        values = function(logits)
        assert values.dtype == dtype
        weights = torch.linspace(0.5, 1, values.numel(), dtype=dtype).view_as(values)
        (gradient,) = torch.autograd.grad(values, logits, weights)
        results.append((values.detach(), gradient))
    torch.testing.assert_close(results[0], results[1], rtol=tolerance, atol=tolerance)


def test_gradients_of_first_and_second_order_are_right():
    logits = LOGITS[:6].clone().requires_grad_()

    def loss(z):
        return losses.cross_entropy(z, LABELS[:6])

    for function in (loss, losses.softmax, losses.log_softmax, losses.log_sum_exp):
        assert torch.autograd.gradcheck(function, logits)
        assert torch.autograd.gradgradcheck(function, logits)
    assert torch.autograd.gradcheck(lambda z: losses.margin(z, LABELS[:6]), logits)


def test_extreme_logits_give_finite_losses_and_gradients():
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        logits = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
        values = losses.cross_entropy(logits, torch.tensor([1, 0]))
        expected = torch.tensor([2e4, 2e4 + math.log(2)]).to(dtype)
        torch.testing.assert_close(values.detach(), expected)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        expected = torch.tensor([[1, -1, 0], [-1, 0.5, 0.5]]).to(dtype)
        torch.testing.assert_close(gradient, expected)


def test_a_confident_example_keeps_its_loss_and_its_gradient():
    # p_y = 1 - 2e-22: torch's float32 loss is exactly 0, and so is the gradient's label entry.
    logits = torch.tensor([[50.0, 0.0, -1.0]], requires_grad=True)
    value = losses.cross_entropy(logits, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    rivals = [math.exp(-50), math.exp(-51)]
    torch.testing.assert_close(value.item(), sum(rivals), rtol=1e-6, atol=0)
    expected = torch.tensor([[-sum(rivals), *rivals]])
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=0)


def test_an_impossible_class_counts_for_nothing():
    logits = torch.tensor([[1.0, -torch.inf, 2.0]])
    without = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(losses.log_sum_exp(logits), losses.log_sum_exp(without))
    torch.testing.assert_close(
        losses.cross_entropy(logits, torch.tensor([2])),
        losses.cross_entropy(without, torch.tensor([1])),
    )
    assert losses.log_sum_exp(torch.full((2, 3), -torch.inf)).tolist() == [-torch.inf] * 2


def test_margin_is_the_gap_to_the_best_rival():
    for z, y, gap in zip(LOGITS, LABELS, losses.margin(LOGITS, LABELS), strict=True):
        rivals = [value for j, value in enumerate(z.tolist()) if j != y]
        assert gap.item() == pytest.approx(z[y].item() - max(rivals))
    assert torch.equal(losses.margin_loss(LOGITS, LABELS), -losses.margin(LOGITS, LABELS))


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin])
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([1, 3]), ValueError, "classes 0 to 2, received 1 to 3"),
        (torch.tensor([0, -1]), ValueError, "classes 0 to 2, received -1 to 0"),
        (torch.tensor([0.0, 1.0]), TypeError, "torch.int64"),
        (torch.tensor([[0], [1]]), ValueError, r"shape \(2,\)"),
    ],
)
def test_unusable_labels_are_refused(loss, labels, error, message):
    with pytest.raises(error, match=message):
        loss(torch.zeros(2, 3), labels)
