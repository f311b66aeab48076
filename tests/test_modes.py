"""Train mode, found where it changes answers and nowhere else."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth
from torchvision.transforms import Normalize

from within_epsilon import modes
from within_epsilon.models import Classifier


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


class ByProperty(Noisy):
    @property
    def rate(self):
        return float(self.training)

    def noisy(self, logits):
        return logits + self.rate


def shift(module):
    return float(module.training)


class ByHelper(Noisy):
    def noisy(self, logits):
        return logits + shift(self)


class TwoRates(Noisy):
    def __init__(self):
        super().__init__()
        self.p, self.dropout = 0.5, 0.0


def with_partial_hook():
    layer = nn.ReLU()
    layer.register_forward_hook(
        partial(lambda _, module, __, out: out.relu6() if module.training else out, None)
    )
    return layer


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
    with_hook(),
    with_partial_hook(),
    ByProperty(),
    ByHelper(),
    TwoRates(),
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
    Classifier(nn.Linear(3, 3)),
    Leaf(),
    torch.jit.script(nn.Linear(3, 3)),
    torch.jit.freeze(torch.jit.script(nn.Dropout().eval())),
]


@pytest.mark.parametrize("module", TRAIN, ids=lambda module: type(module).__name__)
def test_modules_whose_answers_depend_on_their_mode_are_named(module):
    assert modes.training_modules(module.train()) == [type(module).__name__]
    net = nn.Sequential(nn.ReLU(), Around(module)).eval()
    assert modes.training_modules(net) == []
    module.train()
    assert modes.training_modules(net) == ["1.net"]


@pytest.mark.parametrize("module", STEADY, ids=lambda module: type(module).__name__)
def test_modules_that_do_the_same_in_both_modes_are_no_alarm(module):
    assert modes.training_modules(nn.Sequential(module)) == []


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential, Around, torch.compile])
def test_a_container_is_what_its_children_are(wrap):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    around = wrap(net)
    around.training = True
    net.eval()
    assert modes.training_modules(around) == []
    net.train()
    (name,) = modes.training_modules(around)
    assert name.endswith(".1")


def test_only_a_model_in_train_mode_is_warned_about():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3), nn.Dropout())
    with pytest.warns(UserWarning, match=r"train mode \(0 and 2 more\).*model\.eval\(\)"):
        modes.warn_if_training(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modes.warn_if_training(model.eval())


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.BatchNorm1d(3)], ids=["dropout", "batch norm"])
def test_what_was_traced_in_train_mode_is_found_though_eval_was_called(layer):
    images = torch.rand(4, 3)
    traced = torch.jit.trace(nn.Sequential(layer.train()), images, check_trace=False).eval()
    with pytest.warns(UserWarning, match="trace 0 in eval mode"):
        modes.warn_if_training(traced)
    assert modes.training_modules(torch.jit.trace(nn.Sequential(layer.eval()), images)) == []
