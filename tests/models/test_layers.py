"""The walker: what it reads computes what the network does; what it cannot read, it names."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm
from torchvision.models import squeezenet1_1
from torchvision.models.squeezenet import Fire

from within_epsilon import models
from within_epsilon.models import Classifier, Normalize, read_layers


def of_all_kinds():
    """Return a classifier with every kind of layer, a nest, and one layer in two places."""
    torch.manual_seed(0)
    relu = nn.ReLU()
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Sequential(relu, nn.MaxPool2d(2), nn.Identity()),
        Fire(8, 2, 3, 3),
        nn.AvgPool2d(2),
        nn.LeakyReLU(0.2),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        relu,
        nn.Linear(5, 4),
    )
    model = Classifier(body, [0.4, 0.5, 0.6], 0.25)
    model(torch.rand(20, 3, 16, 16))  # running statistics that are not 0 and 1
    return model.eval()


def replay(layers, images):
    """Compute the layers in their order."""
    for layer in layers:
        if layer.kind == "concat":
            images = torch.cat([replay(branch, images) for branch in layer.branches], dim=1)
        elif layer.kind == "sum":
            images = sum(replay(branch, images) for branch in layer.branches)
        else:
            images = layer.module(images)
    return images


@pytest.mark.parametrize(
    "model", [of_all_kinds(), squeezenet1_1(num_classes=7).eval()], ids=["kinds", "squeezenet"]
)
def test_layers_compute_what_the_network_does(model):
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(replay(read_layers(model), images), model(images))


def test_layers_have_names_and_kinds_and_what_has_no_effect_is_left_out():
    model = of_all_kinds()
    found = [(layer.name, layer.kind) for layer in read_layers(model)]
    assert found == [
        ("normalize", "normalize"),
        ("body.0", "conv"),
        ("body.1", "batch_norm"),
        ("body.2.0", "relu"),
        ("body.2.1", "max_pool"),
        ("body.3.squeeze", "conv"),
        ("body.3.squeeze_activation", "relu"),
        ("body.3", "concat"),
        ("body.4", "avg_pool"),
        ("body.5", "leaky_relu"),
        ("body.7", "mean"),
        ("body.8", "flatten"),
        ("body.9", "linear"),
        ("body.10", "batch_norm"),
        ("body.11", "relu"),
        ("body.12", "linear"),
    ]
    (fire,) = (layer for layer in read_layers(model) if layer.kind == "concat")
    assert [[part.name for part in branch] for branch in fire.branches] == [
        ["body.3.expand1x1", "body.3.expand1x1_activation"],
        ["body.3.expand3x3", "body.3.expand3x3_activation"],
    ]
    assert all(layer.module is model.get_submodule(layer.name) for layer in read_layers(model))
    assert next(read_layers(nn.Sequential(Normalize(0.5, 0.5)))).name == "0"


def test_a_residual_block_is_a_sum_of_branches():
    torch.manual_seed(0)
    model = nn.Sequential(
        models.Residual(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())),
        models.Residual(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())),
    ).eval()
    images = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(replay(read_layers(model), images), model(images))
    one, other = read_layers(model)
    assert (one.kind, [[part.name for part in branch] for branch in one.branches]) == (
        "sum",
        [["0.body.0", "0.body.1"], []],
    )
    assert [part.name for part in other.branches[1]] == ["1.shortcut.0", "1.shortcut.1"]


class Residual(nn.Sequential):
    def forward(self, images):
        return images + super().forward(images)


def hooked(module):
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return module


def patched():
    module = nn.ReLU()
    module.forward = torch.sigmoid
    return module


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Sigmoid(), TypeError, "Sigmoid at 0"),
        (Residual(nn.ReLU()), TypeError, "Residual at 0"),
        (patched(), TypeError, "ReLU at 0"),
        (hooked(nn.ReLU()), TypeError, "ReLU with hooks at 0"),
        (hooked(nn.Sequential(nn.ReLU())), TypeError, "Sequential with hooks at 0"),
        (hooked(nn.Dropout()), TypeError, "Dropout with hooks at 0"),
        (nn.AdaptiveAvgPool2d(2), TypeError, "AdaptiveAvgPool2d at 0"),
        (nn.Flatten(0), TypeError, "Flatten at 0"),
        (nn.BatchNorm2d(3, track_running_stats=False), TypeError, "BatchNorm2d at 0"),
        (spectral_norm(nn.Linear(3, 3)), ValueError, "in 0, received bias, weight_orig"),
        (parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), ValueError, "remove_param"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(module, error, message):
    with pytest.raises(error, match=message):
        list(read_layers(nn.Sequential(module).eval()))


@pytest.mark.parametrize("module", [nn.Dropout(), nn.BatchNorm2d(3)])
def test_train_mode_is_refused_where_it_matters(module):
    with pytest.raises(ValueError, match=r"at 1 in train mode; call model\.eval"):
        list(read_layers(nn.Sequential(nn.ReLU(), module)))
    assert len(list(read_layers(nn.Sequential(nn.ReLU(), nn.Dropout(0.0))))) == 1
