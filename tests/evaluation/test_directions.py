"""Gradients that point uphill and are not the loss's: found, and honest models left in peace."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from within_epsilon.attacks import pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import DoubtfulEvaluationWarning, diagnose, robust_accuracy
from within_epsilon.models import digits_classifier
from within_epsilon.threat import Ball

BALL = Ball("linf", 0.1)
IMAGES, LABELS = digits().test[range(40)]
KEPT = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
LEFT = (torch.arange(8) < 4).expand(1, 1, 8, 8)


def backwards(change):
    """Make the identity, whose gradient is changed on its way back."""

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(context, images):
            return images.clone()

        @staticmethod
        def backward(context, gradient):
            return change(gradient)

    return Identity.apply


class Behind(nn.Module):
    """A network behind something."""

    def __init__(self, before=None, network=None):
        super().__init__()
        self.before, self.network = before or nn.Identity(), network or digits_classifier()
        self.eval()

    def forward(self, images):
        return self.network(self.before(images))


class Casting(nn.Module):
    """A network in half precision that casts its own input, and its answers back if asked."""

    def __init__(self, dtype, before=None, back=False):
        super().__init__()
        self.behind, self.dtype, self.back = Behind(before).to(dtype), dtype, back
        self.eval()

    def forward(self, images):
        logits = self.behind(images.to(self.dtype))
        return logits.float() if self.back else logits


def rounded(levels):
    def change(gradient):
        largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        return (gradient / largest * levels).round() / levels * largest

    return backwards(change)


def straight_through(images):
    return images + ((images * 16).round() / 16 - images).detach()


def untrained(*layers):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
        network(IMAGES[:1])
    # So that logits are large enough for an attack to care.
    network[-1].weight.data *= 30
    return Behind(network=network)


def photo_network(before=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = resnet18(weights=None, num_classes=10)
    enlarge = lambda x: F.interpolate(x, 32).expand(-1, 3, -1, -1)  # noqa: E731
    return Behind(lambda x: enlarge(before(x) if before else x), network)


halved, left = backwards(lambda g: g * KEPT), backwards(lambda g: g * (torch.arange(8) % 2))
# What is wrong, and what it is called.
WRONG = {
    "zero at half of the pixels": (Behind(halved), "gradient with holes"),
    "zero at every fourth": (
        Behind(backwards(lambda g: g * (torch.arange(8) % 4 > 0))),
        "gradient with holes",
    ),
    "detached half": (Behind(lambda x: torch.where(KEPT, x, x.detach())), "gradient with holes"),
    "zero at half, double": (
        Behind(lambda x: halved(x.double()), digits_classifier().double()),
        "gradient with holes",
    ),
    "zero at half, half precision": (
        Behind(halved, digits_classifier()).half(),
        "gradient with holes",
    ),
    "rolled, bfloat16": (
        Behind(backwards(lambda g: g.roll(1, -1))).bfloat16(),
        "misleading gradient",
    ),
    "zero at half, cast": (Casting(torch.float16, halved), "gradient with holes"),
    "rolled, cast there and back": (
        Casting(torch.bfloat16, backwards(lambda g: g.roll(1, -1)), back=True),
        "misleading gradient",
    ),
    "straight-through with holes": (
        Behind(lambda x: straight_through(left(x))),
        "gradient with holes",
    ),
    "zero at half, robust": (Behind(halved, digits_classifier("linf")), "gradient with holes"),
    "zero at half, photos": (photo_network(halved), "gradient with holes"),
    "three levels": (Behind(rounded(1)), "gradient with holes"),
    "five levels": (Behind(rounded(2)), "gradient with holes"),
    "nine levels": (Behind(rounded(4)), "gradient with holes"),
    "a hundredth at half of the pixels": (
        Behind(backwards(lambda g: torch.where(KEPT, g, 0.01 * g))),
        "misleading gradient",
    ),
    "rolled by a pixel": (Behind(backwards(lambda g: g.roll(1, -1))), "misleading gradient"),
    "rolled down": (Behind(backwards(lambda g: g.roll(1, -2))), "misleading gradient"),
    "mirrored": (Behind(backwards(lambda g: g.flip(-1))), "misleading gradient"),
    "blurred": (
        Behind(backwards(lambda g: F.avg_pool2d(g, 3, 1, 1))),
        "misleading gradient",
    ),
}
HONEST = {
    "standard": digits_classifier(),
    "linf": digits_classifier("linf"),
    "l2": digits_classifier("l2"),
    "certified": digits_classifier("certified"),
    "double": Behind(lambda x: x.double(), digits_classifier().double()),
    "half": Behind(lambda x: x.half(), digits_classifier().half()),
    "half of itself": Behind().half(),
    "cast": Casting(torch.float16),
    "cast there and back": Casting(torch.bfloat16, back=True),
    "bfloat16": Behind(network=digits_classifier("linf")).bfloat16(),
    "clamp": Behind(lambda x: x.clamp(0, 1)),
    "crop": Behind(lambda x: F.pad(x[..., 2:-2, 2:-2], (2, 2, 2, 2))),
    "half of the pixels": Behind(lambda x: x * KEPT),
    "kink at a grey of the data": Behind(lambda x: 2 * (x - 0.5).abs()),
    "steep": Behind(lambda x: (1000 * (x - 0.5)).sigmoid()),
    "straight-through": Behind(straight_through),
    "straight-through, half of the pixels": Behind(lambda x: straight_through(x * KEPT)),
    "gradient of another length": Behind(backwards(lambda g: 1.5 * g)),
    "half of the gradient detached": Behind(lambda x: (x + x.detach()) / 2),
    "linear": untrained(),
    "max pooling of pixels": untrained(nn.MaxPool2d(2), nn.Conv2d(1, 16, 3), nn.ReLU()),
    "max pooling of a plain border": untrained(nn.Conv2d(1, 16, 3), nn.MaxPool2d(2)),
    "GELU": untrained(nn.Conv2d(1, 16, 3), nn.GELU()),
    "ReLU at its kink": untrained(nn.Conv2d(1, 16, 3, bias=False), nn.ReLU()),
    "photos": photo_network(),
}
# Those that take images of their own precision.
HALF = {
    "zero at half, half precision": torch.float16,
    "rolled, bfloat16": torch.bfloat16,
    "half of itself": torch.float16,
    "bfloat16": torch.bfloat16,
}
ABOUT = {"gradient with holes", "misleading gradient"}


@pytest.mark.parametrize("ball", [BALL, Ball("l2", 0.5), Ball("linf", 0.1, LEFT)], ids=str)
@pytest.mark.parametrize("what", WRONG)
def test_a_gradient_that_is_not_the_losses_is_found(what, ball):
    model, name = WRONG[what]
    images = IMAGES.to(dtype) if (dtype := HALF.get(what)) else IMAGES
    (finding,) = [each for each in diagnose(model, images, LABELS, ball) if each.name in ABOUT]
    assert finding.name == name
    assert finding.doubtful
    assert finding.evidence
    assert finding.meaning
    assert finding.remedy


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("what", HONEST)
def test_an_honest_gradient_is_not_doubted(what, count):
    # Within a level of grey a straight-through estimate has nothing to be right about.
    small = [] if "straight-through" in what else [Ball("linf", 1 / 255)]
    for ball in (BALL, Ball("l2", 0.5), Ball("linf", 0.1, LEFT), *small):
        images = IMAGES.to(dtype) if (dtype := HALF.get(what)) else IMAGES
        found = diagnose(HONEST[what], images[:count], LABELS[:count], ball)
        assert not ABOUT & {finding.name for finding in found}


@pytest.mark.parametrize("what", ["zero at half of the pixels", "rolled by a pixel"])
def test_a_few_examples_are_enough(what):
    found = diagnose(WRONG[what][0], IMAGES[:2], LABELS[:2], BALL)
    assert ABOUT & {finding.name for finding in found}


def test_pixels_that_must_not_move_may_have_no_gradient():
    ball = Ball("linf", 0.1, KEPT)
    assert diagnose(WRONG["zero at half of the pixels"][0], IMAGES, LABELS, ball) == []


def test_a_random_model_is_called_random_and_nothing_else():
    model = Behind(lambda x: x + 0.1 * torch.randn_like(x))
    found = diagnose(model, IMAGES, LABELS, BALL)
    assert "randomness" in {finding.name for finding in found}
    assert "gradient with holes" not in {finding.name for finding in found}


def test_an_evaluation_warns_of_holes_while_its_number_is_too_high():
    with pytest.warns(DoubtfulEvaluationWarning, match="gradient with holes"):
        masked = robust_accuracy(
            WRONG["zero at half of the pixels"][0], (IMAGES, LABELS), pgd, BALL
        )
    honest = robust_accuracy(digits_classifier(), (IMAGES, LABELS), pgd, BALL)
    assert masked.robust > honest.robust
