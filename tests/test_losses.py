"""Losses against torch's own, and where torch's own round."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

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
    torch.testing.assert_close(value.item(), sum(rivals), rtol=1e-5, atol=0)
    expected = torch.tensor([[-sum(rivals), *rivals]])
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_slopes_are_those_of_autograd(dtype):
    extremes = torch.tensor([[50.0, 0, -1, 2, 3, 4, 5], [2e4, -2e4, 0, 0, 0, 0, 0]])
    logits = torch.cat([LOGITS, extremes.double(), extremes.double()]).to(dtype).requires_grad_()
    labels = torch.cat([LABELS, torch.tensor([0, 0, 1, 1])])
    values = losses.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    slopes = losses.cross_entropy_slopes(logits, labels)
    assert not slopes.requires_grad
    rtol = {torch.float64: 1e-9, torch.float32: 2e-5}.get(dtype, 1e-2)
    torch.testing.assert_close(slopes, gradient, rtol=rtol, atol=1e-30)


def test_an_impossible_class_counts_for_nothing():
    logits = torch.tensor([[1.0, -torch.inf, 2.0]])
    without = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(losses.log_sum_exp(logits), losses.log_sum_exp(without))
    torch.testing.assert_close(
        losses.cross_entropy(logits, torch.tensor([2])),
        losses.cross_entropy(without, torch.tensor([1])),
    )
    assert losses.log_sum_exp(torch.full((2, 3), -torch.inf)).tolist() == [-torch.inf] * 2
    # In the ratios it is as the lowest of the others, and passes on no gradient.
    logits = torch.tensor([[3.0, -torch.inf, 2.0, 0.0, -1.0]], requires_grad=True)
    lowest = torch.tensor([[3.0, -1.0, 2.0, 0.0, -1.0]])
    first, third = torch.tensor([0]), torch.tensor([2])
    for ratio, *rival in ((losses.dlr,), (losses.dlr_targeted, third)):
        value = ratio(logits, first, *rival)
        torch.testing.assert_close(value, ratio(lowest, first, *rival))
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert gradient.isfinite().all()
        assert gradient[0, 1] == 0


@pytest.mark.parametrize(
    ("loss", "rivals"),
    [(losses.margin_loss, ()), (losses.dlr, ()), (losses.dlr_targeted, (torch.tensor([2]),))],
)
def test_a_label_as_impossible_as_others_has_lost(loss, rivals):
    logits = torch.tensor([[-torch.inf, 1.0, 3.0, -torch.inf, 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([0]), *rivals)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.item() > 1e6
    assert gradient.isfinite().all()
    assert gradient[0, 2] > 0


def test_margin_is_the_gap_to_the_best_rival():
    for z, y, gap in zip(LOGITS, LABELS, losses.margin(LOGITS, LABELS), strict=True):
        rivals = [value for j, value in enumerate(z.tolist()) if j != y]
        assert gap.item() == pytest.approx(z[y].item() - max(rivals))
    assert torch.equal(losses.margin_loss(LOGITS, LABELS), -losses.margin(LOGITS, LABELS))


def test_a_sole_possible_class_has_neither_loss_nor_gradient():
    logits = torch.tensor([[1.0, -torch.inf], [3.0, -torch.inf]], requires_grad=True)
    value = losses.cross_entropy(logits, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.tolist() == [0, 0]
    assert (gradient == 0).all()


def written_out(z, y, t=None):
    """Compute both ratios of Croce and Hein for one list of logits."""
    ordered = sorted(z, reverse=True)
    if t is None:
        rival = max(value for j, value in enumerate(z) if j != y)
        return -(z[y] - rival) / (ordered[0] - ordered[2])
    return -(z[y] - z[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2)


def test_ratios_are_those_of_the_paper():
    targets = (LABELS + 1 + torch.arange(60) % 6) % 7
    ratios = losses.dlr(LOGITS, LABELS), losses.dlr_targeted(LOGITS, LABELS, targets)
    rows = zip(LOGITS.tolist(), LABELS.tolist(), targets.tolist(), strict=True)
    for i, (z, y, t) in enumerate(rows):
        assert ratios[0][i].item() == pytest.approx(written_out(z, y))
        assert ratios[1][i].item() == pytest.approx(written_out(z, y, t))
    assert torch.equal(ratios[0] > 0, LOGITS.argmax(dim=1) != LABELS)
    assert torch.autograd.gradcheck(losses.dlr, (LOGITS[:9].clone().requires_grad_(), LABELS[:9]))
    one_example = LOGITS[:9].clone().requires_grad_(), LABELS[:9], targets[:9]
    assert torch.autograd.gradcheck(losses.dlr_targeted, one_example)


@given(
    logits=st.lists(st.integers(-50, 50), min_size=4, max_size=8),
    label=st.integers(0, 3),
    target=st.integers(0, 3),
    scale=st.integers(-20, 20).map(lambda power: 2.0**power),
    shift=st.integers(-1000, 1000),
)
def test_ratios_ignore_shift_and_scale_even_among_ties(logits, label, target, scale, shift):
    # Whole numbers and powers of two, so that the logits themselves are not rounded.
    z = torch.tensor([logits, logits], dtype=torch.float64)
    z[1] = z[1] * scale + shift * scale
    z.requires_grad_()
    labels, targets = torch.tensor([label, label]), torch.tensor([target, target])
    for values in (losses.dlr(z, labels), losses.dlr_targeted(z, labels, targets)):
        (gradient,) = torch.autograd.grad(values.sum(), z)
        assert gradient.isfinite().all()
        assert values[0] == values[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ratios_survive_ties_of_all_that_they_divide_by(dtype):
    logits = torch.tensor([[2, 2, 2, 2, 1], [1, 1, 1, 1, 1]], dtype=dtype, requires_grad=True)
    for label, target, signs in ((4, 0, [1, 0]), (0, 1, [0, 0])):
        labels, targets = torch.full((2,), label), torch.full((2,), target)
        for values in (losses.dlr(logits, labels), losses.dlr_targeted(logits, labels, targets)):
            assert values.dtype == dtype
            assert torch.sign(values).tolist() == signs


def test_ratios_keep_a_gradient_where_cross_entropy_has_lost_its_own():
    logits = 1000 * torch.tensor([[2.0, 1.0, 0.5, 0.0]])
    logits.requires_grad_()
    label, target = torch.tensor([0]), torch.tensor([1])
    for values, flat in (
        (losses.cross_entropy(logits, label), True),
        (losses.dlr(logits, label), False),
        (losses.dlr_targeted(logits, label, target), False),
    ):
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert (gradient == 0).all() == flat


def test_ratios_ask_for_enough_classes():
    label = torch.tensor([0])
    with pytest.raises(ValueError, match=r"at least 3 classes.*received 2.*margin_loss"):
        losses.dlr(torch.zeros(1, 2), label)
    with pytest.raises(ValueError, match=r"at least 4 classes.*received 3.*margin_loss"):
        losses.dlr_targeted(torch.zeros(1, 3), label, label)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.dlr])
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


def test_the_divergence_is_torchs_and_knows_impossible_classes():
    before, after = LOGITS[:20], LOGITS[20:40] / 10
    after = after.clone().requires_grad_()
    found = losses.kl_divergence(before, after)
    theirs = F.kl_div(
        F.log_softmax(after, 1), F.log_softmax(before, 1), reduction="none", log_target=True
    ).sum(dim=1)
    torch.testing.assert_close(found, theirs)
    assert (losses.kl_divergence(before, before) == 0).all()
    barred = before.clone()
    barred[:, 3] = -torch.inf
    kept = [i for i in range(7) if i != 3]
    masked = losses.kl_divergence(barred, after)
    rest = losses.kl_divergence(before[:, kept], after[:, kept])
    # A class more in the second distribution alone takes its share of all the others.
    shift = after.log_softmax(1)[:, kept].logsumexp(1)
    torch.testing.assert_close(masked, rest - shift)
    (gradient,) = torch.autograd.grad(masked.sum(), after)
    assert gradient.isfinite().all()
