"""The checks themselves; that attacks and losses make them is tested there."""

import warnings

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth
from torchvision.transforms import Normalize

from within_epsilon import checks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_usable_arguments_pass(dtype):
    images = torch.tensor([[0.0, 1.0], [0.5, 1e-3]], dtype=dtype)
    checks.check_images(images)
    checks.check_labels(torch.tensor([0, 2]), 2)
    checks.check_labels(torch.tensor([0, 2]), 2, classes=3)
    assert checks.check_logits(images, 2) is images
    checks.check_losses(images[0], 2)
    checks.check_finite_gradient(images * -1e4)
    checks.check_no_nan(torch.tensor([[1.0, -torch.inf]]))
    assert checks.check_indices(None, 2) == [0, 1]
    assert checks.check_indices(torch.tensor([4, 9]), 2) == [4, 9]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(1, 3, 2, 2) * 255, ValueError, "divide by 255"),
        (torch.rand(1, 3, 2, 2) - 2, ValueError, "let the model normalise"),
        (torch.full((1, 2), torch.nan), ValueError, "NaN"),
        (torch.full((1, 2), torch.inf), ValueError, "inf"),
        (torch.tensor([0.5]), ValueError, "unsqueeze"),
        (torch.empty(0, 3), ValueError, r"at least one image.*received \(0, 3\); look at"),
        (torch.ones(1, 3, dtype=torch.uint8), TypeError, "/ 255"),
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
            checks.check_finite_gradient(gradient)
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


class Noisy(nn.Module):
    """Looks at its mode in a method that forward calls."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, images):
        return self.noisy(self.layer(images))

    def noisy(self, logits):
        return logits + torch.randn_like(logits) if self.training else logits


class Noisier(Noisy):
    def noisy(self, logits):
        return 2 * super().noisy(logits)


class Calm(Noisy):
    def noisy(self, logits):
        return logits

    def train(self, mode=True):
        return super().train(mode or self.training)


class Leaf(nn.Module):
    def forward(self, images):
        return images


class Around(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images)


def with_hook():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, _, out: out.relu6() if module.training else out)
    return layer


TRAIN = [
    nn.Dropout(),
    nn.Dropout2d(0.1),
    nn.AlphaDropout(),
    nn.BatchNorm1d(3),
    nn.SyncBatchNorm(3),
    nn.InstanceNorm2d(3, track_running_stats=True),
    nn.RReLU(),
    nn.MultiheadAttention(4, 2, dropout=0.1),
    nn.LSTM(3, 3, 2, dropout=0.1),
    StochasticDepth(0.2, "row"),
    nn.utils.spectral_norm(nn.Linear(3, 3)),
    torch.jit.script(nn.Dropout()),
    Noisy(),
    Noisier(),
    Leaf(),
    with_hook(),
]
STEADY = [
    nn.Linear(3, 3),
    nn.ReLU(),
    nn.LayerNorm(3),
    nn.Flatten(),
    nn.Dropout(0.0),
    nn.BatchNorm1d(3, track_running_stats=False),
    nn.InstanceNorm2d(3),
    nn.MultiheadAttention(4, 2),
    nn.LSTM(3, 3),
    nn.TransformerEncoderLayer(4, 2, dropout=0.0),
    StochasticDepth(0.0, "row"),
    Normalize([0.5], [0.5]),
    Calm(),
    torch.jit.script(nn.Linear(3, 3)),
    torch.jit.freeze(torch.jit.script(nn.Dropout().eval())),
]


@pytest.mark.parametrize("module", TRAIN, ids=lambda module: type(module).__name__)
def test_modules_whose_answers_depend_on_their_mode_are_named(module):
    assert checks.training_modules(module.train()) == [type(module).__name__]
    net = nn.Sequential(nn.ReLU(), Around(module)).eval()
    assert checks.training_modules(net) == []
    module.train()
    assert checks.training_modules(net) == ["1.net"]


@pytest.mark.parametrize("module", STEADY, ids=lambda module: type(module).__name__)
def test_modules_that_do_the_same_in_both_modes_are_no_alarm(module):
    assert checks.training_modules(nn.Sequential(module)) == []


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential, Around, torch.compile])
def test_a_container_is_what_its_children_are(wrap):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    around = wrap(net)
    around.training = True
    net.eval()
    assert checks.training_modules(around) == []
    net.train()
    (name,) = checks.training_modules(around)
    assert name.endswith(".1")


def test_only_a_model_in_train_mode_is_warned_about():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3), nn.Dropout())
    with pytest.warns(UserWarning, match=r"train mode \(0 and 2 more\).*model\.eval\(\)"):
        checks.warn_if_training(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.warn_if_training(model.eval())
