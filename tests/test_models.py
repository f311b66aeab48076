"""Models: pixels in, logits out, names at hand; weights that are what they claim."""

import copy
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from within_epsilon import data, models
from within_epsilon.models import Classifier

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def body(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, classes))


def images(n=2, channels=3):
    return torch.rand(n, channels, 5, 5, generator=torch.Generator().manual_seed(1))


class Returns(nn.Module):
    """Returns whatever it is given to return, instead of logits."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, _):
        return self.result


def test_classifier_normalises_inside_and_differentiates_in_pixels():
    net, x = body(), images().requires_grad_()
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    logits = Classifier(net, MEAN, STD, "abcd")(x)
    assert torch.equal(logits, net((x - mean) / std))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    expected = net[1].weight[1].reshape(3, 5, 5) / std
    assert torch.allclose(gradient, expected.expand_as(gradient))


def test_classifier_leaves_a_body_with_its_own_normalisation_alone():
    net = body()
    assert torch.equal(Classifier(net)(images()), net(images()))


def test_classifier_is_a_module_like_any_other():
    model = Classifier(body(), MEAN, STD, "abcd")
    assert set(model.state_dict()) == {"body.1.weight", "body.1.bias"}
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(images()), model(images()))
        assert twin.categories == model.categories == ("a", "b", "c", "d")
    double = copy.deepcopy(model).double()(images().double())
    assert torch.allclose(double.float(), model(images()), atol=1e-6)
    half = Classifier(body().to(torch.bfloat16), MEAN, STD)  # its constants stay float32
    assert half(images().bfloat16()).dtype == torch.bfloat16
    assert model.to("meta")(images().to("meta")).device.type == "meta"


def test_pixels_outside_the_range_reach_the_body():
    # Finite differences and Gaussian noise leave [0, 1]; only predict is strict.
    model = Classifier(body())
    assert model(images() - 0.5).isfinite().all()
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\]"):
        model.predict(images() - 0.5)


class Parts(NamedTuple):
    aux: object
    logits: object


@dataclass
class Output:
    aux: object
    logits: object


class Keyed(OrderedDict):
    """Finds its parts by key, attribute and position, as transformers' outputs do."""

    __getattr__ = OrderedDict.__getitem__


def parts():
    return {"aux": torch.zeros(2, 4), "logits": torch.ones(2, 4)}


@pytest.mark.parametrize(
    ("result", "outputs"),
    [
        (torch.ones(2, 4), (None, "logits", 0, -1)),  # as Inception in eval mode
        (parts(), ("logits", 1, -1)),
        ({3: torch.zeros(2, 4), 0: torch.ones(2, 4)}, (0, -1)),  # a key goes before a position
        (Keyed(parts()), ("logits", 1, -1)),
        (Parts(**parts()), ("logits", 1, -1)),
        (Output(**parts()), ("logits", 1, -1)),
        (SimpleNamespace(**parts()), ("logits",)),
        (tuple(parts().values()), (1, -1)),
        (list(parts().values()), (1, -1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_logits_are_found_in_what_the_body_returns(result, outputs):
    for output in outputs:
        found = Classifier(Returns(result), output=output)(images())
        assert torch.equal(found, torch.ones(2, 4)), output


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (Classifier(Returns({"out": 0})), TypeError, r"a dict with keys \['out'\].*set output"),
        (Classifier(Returns({"out": 0}), output="logits"), TypeError, "output='logits'"),
        (Classifier(Returns((1, 2))), TypeError, "a tuple of 2, and output=None"),
        (Classifier(Returns((1, 2)), output=-3), TypeError, "output=-3"),
        (Classifier(Returns(Parts(None, 0))), TypeError, r"a Parts with keys \['aux', 'logits'\]"),
        (Classifier(Returns(torch.ones(2, 4).argmax(1))), TypeError, "int64.*before argmax"),
        (Classifier(Returns(torch.ones(2, 1))), ValueError, "two outputs"),
        (Classifier(Returns(torch.ones(3, 4))), ValueError, "one row for each of the 2"),
        (Classifier(Returns(torch.ones(2, 4, 1, 1))), ValueError, r"nn\.Flatten"),
        (Classifier(body(), categories="abcde"), ValueError, r"\(N, 5\).*received \(2, 4\)"),
        (Classifier(Returns(torch.ones(2, 4, 8, 8))), ValueError, "segmentation"),
        (Classifier(body(), MEAN[:2], STD[:2]), ValueError, "expected 2 channels"),
    ],
)
def test_models_that_do_not_fit_are_told_apart(model, error, message):
    with pytest.raises(error, match=message):
        model(images())


def test_wrong_images_are_refused():
    model = Classifier(body(), MEAN, STD)
    for single in (model, Classifier(body())):
        with pytest.raises(ValueError, match="unsqueeze"):
            single(images()[0])
    with pytest.raises(ValueError, match="unsqueeze"):
        model(images()[0, 0, 0])
    with pytest.raises(ValueError, match="expected 3 channels"):
        model(images(channels=1))
    with pytest.raises(ValueError, match=r"movedim\(-1, 1\)"):
        model(images().movedim(1, -1))
    with pytest.raises(TypeError, match="/ 255"):
        model((images() * 255).byte())


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_channels_are_dimension_1_of_tables_signals_images_and_volumes(dimensions):
    shape = [2, 3, *[4] * dimensions]
    x = torch.rand(shape)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4**dimensions, 5))
    by_channel = [(x[:, i] - MEAN[i]) / STD[i] for i in range(3)]
    torch.testing.assert_close(Classifier(net, MEAN, STD)(x), net(torch.stack(by_channel, dim=1)))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 0.5), (0, 1), (1, 1), (0.485, 1 / 255), ([0.1, 0.9], 1), (MEAN, 1.1)]
)
def test_constants_in_units_of_pixels_are_taken(mean, std):
    assert Classifier(body(), mean, std).mean.flatten().tolist() == pytest.approx(
        list(mean) if isinstance(mean, list | tuple) else [mean]
    )


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "divide both by 255"),
        ([103.94, 116.78, 123.68], 1.0, r"becomes 1 / 255"),
        (0.5, 255, "divide"),
        (0.0, 255, "already"),
        (MEAN, (58, 57, 57), "divide"),
        ((-0.485, -0.456, -0.406), STD, "minus sign"),
        (float("nan"), 1, "means from 0 to 1"),
        (MEAN, STD[:2], "received 3 and 2"),
        (MEAN, (0.2, 0.0, 0.2), "positive"),
        (MEAN, float("nan"), "positive"),
    ],
)
def test_constants_that_cannot_be_right_for_pixels_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Classifier(body(), mean, std)


ANIMALS = ("cat", "dog", "hog", "hen")


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        (list(ANIMALS), ANIMALS),
        (dict(enumerate(ANIMALS)), ANIMALS),
        ({3: "hen", 0: "cat", 2: "hog", 1: "dog"}, ANIMALS),
        ({"3": "hen", "0": "cat", "2": "hog", "1": "dog"}, ANIMALS),  # id2label out of JSON
        ({"hen": 3, "cat": 0, "hog": 2, "dog": 1}, ANIMALS),  # class_to_idx
        ({"0": 0, "1": 1, "10": 2, "2": 3}, ("0", "1", "10", "2")),  # folders in their order
        ({"0": "2", "1": "7"}, ("2", "7")),
        ({"cat": np.int64(1), "dog": np.int64(0)}, ("dog", "cat")),
        (dict(enumerate("aa")), ("a", "a")),  # ImageNet has two classes of one name, twice
        (np.array(ANIMALS), ANIMALS),
        (dict(enumerate(ANIMALS)).values(), ANIMALS),
        ({}, ()),
    ],
)
def test_categories_as_lists_and_mappings_in_both_directions(categories, names):
    assert Classifier(body(), categories=categories).categories == names


@pytest.mark.parametrize(
    ("categories", "error", "message"),
    [
        ({1: "cat", 2: "dog"}, ValueError, r"all indices from 0 to 1, received \{1: 'cat'"),
        ({"cat": 0, "dog": 0}, ValueError, "all indices"),
        ({"cat": 0, "dog": 2}, ValueError, "a list of names"),
        ({0: "cat", "0": "dog"}, ValueError, "all indices"),
        ({0: 1, 1: 0}, ValueError, "all indices"),
        ({"0": ["n01440764", "tench"]}, ValueError, "all indices"),
        (range(4), TypeError, r"str\(name\)"),
        ({"cat", "dog"}, TypeError, "a set; give a list"),
        (4, TypeError, "a int; give a list"),
    ],
)
def test_categories_that_name_no_outputs_are_refused(categories, error, message):
    with pytest.raises(error, match=message):
        Classifier(body(), categories=categories)


def test_predict_names_the_most_probable_classes():
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 0.0, 0.0, 0.5]]).log_softmax(1)
    model = Classifier(Returns(logits), categories=("cat", "dog", "hog", "hen")).eval()
    first, second = model.predict(images(), top=2)
    assert [p.category for p in first] == ["dog", "hen"]
    assert [p.index for p in first] == [1, 3]
    assert repr(first) == "[dog 64%, hen 24%]"
    assert first[0].probability == pytest.approx(logits[0, 1].exp().item(), abs=1e-7)
    assert second[0].category == "cat"
    every = model.predict(images(), top=9)[0]
    assert len(every) == 4
    assert sum(p.probability for p in every) == pytest.approx(1)
    unnamed = Classifier(Returns(logits)).eval().predict(images(), top=1)
    assert [row[0].category for row in unnamed] == ["1", "0"]


def test_predict_warns_of_train_mode_and_leaves_the_model_as_it_was():
    model = Classifier(nn.Sequential(body(), nn.Dropout(0.5)))
    with pytest.warns(UserWarning, match=r"train mode \(body\.1\)") as caught:
        model.predict(images())
    assert [warning.filename for warning in caught] == [__file__]
    assert model.body[1].training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_mlp_and_small_cnn():
    net = models.mlp(64, 100, 20, 10)
    kinds = [type(layer).__name__ for layer in net]
    assert kinds == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert net(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert models.small_cnn()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    with pytest.raises(ValueError, match=r"mlp\(64, 10\)"):
        models.mlp(64)


def test_digits_classifier_is_ready_and_costs_no_randomness():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = models.digits_classifier()
    assert torch.equal(torch.rand(3), expected)
    assert not model.training
    assert model.categories == tuple("0123456789")
    test = data.digits().test
    assert (model(test.images).argmax(1) == test.labels).float().mean() > 0.97


@pytest.mark.photo
def test_squeezenet_recognises_the_bundled_photos():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = models.photo_classifier()
    assert torch.equal(torch.rand(3), expected)
    assert not model.training
    assert len(model.categories) == 1000
    for name, category, probability, tolerance in (
        ("chelsea", "Egyptian cat", 0.857, 0.002),
        ("coffee", "espresso", 0.981, 0.002),
        ("pig", "hog", 0.9997, 0.0001),
    ):
        best = model.predict(data.photo(name), top=1)[0][0]
        assert best.category == category
        assert best.probability == pytest.approx(probability, abs=tolerance)
    assert model.categories[341] == "hog"


def test_unknown_networks_and_weights_are_named():
    with pytest.raises(ValueError, match="did you mean resnet50"):
        models.photo_classifier("resnet51")
    with pytest.raises(ValueError, match="did you mean squeezenet1_0"):
        models.photo_classifier("?")
    with pytest.raises(ValueError, match="choose from IMAGENET1K_V1, IMAGENET1K_V2"):
        models.photo_classifier("resnet50", weights="IMAGENET1K_V3")
    with pytest.raises(ValueError, match="choose from IMAGENET1K_SWAG"):
        models.photo_classifier("vit_h_14")


def test_squeezenet_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setenv("WITHIN_EPSILON_DATA", str(tmp_path))
    (tmp_path / "compressed_SqueezeNet.net").write_bytes(b"half a file")
    with pytest.raises(data.DataUnavailableError, match="11 bytes instead of 675,763"):
        models.photo_classifier()


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Where torchvision will look for squeezenet1_1's weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    path.parent.mkdir(parents=True)
    return path


def test_torchvision_weights_out_of_reach(checkpoint, monkeypatch):
    import socket

    def refuse(*_, **__):
        assert socket.getdefaulttimeout() is not None, "a silent server would be waited for"
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(data.DataUnavailableError, match="no network") as caught:
        models.photo_classifier("squeezenet1_1")
    assert str(checkpoint) in str(caught.value)
    assert "https://download.pytorch.org/models/squeezenet1_1" in str(caught.value)
    assert socket.getdefaulttimeout() is None


def test_torchvision_weights_from_its_own_cache(checkpoint):
    from torchvision.models import squeezenet1_1

    net = squeezenet1_1().eval()
    torch.save(net.state_dict(), checkpoint)
    model = models.photo_classifier("squeezenet1_1")
    x = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(t).reshape(3, 1, 1) for t in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(model(x), net((x - mean) / std), atol=1e-6)
    assert model.categories[285] == "Egyptian cat"
    assert not model.training


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["code", "truncated"])
def test_checkpoints_that_hold_code_or_half_a_file_are_refused(checkpoint, tmp_path, kind):
    if kind == "code":
        torch.save({"features.0.weight": Trap(tmp_path / "sprung")}, checkpoint)
    else:
        torch.save(models.small_cnn().state_dict(), checkpoint)
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(data.DataUnavailableError, match="Remedy"):
        models.photo_classifier("squeezenet1_1")
    assert not (tmp_path / "sprung").exists()


def test_constants_that_are_set_later_are_checked_too():
    model = Classifier(body(), MEAN, STD)
    model.std = torch.tensor([0.5])
    assert model.std.flatten().tolist() == [0.5]
    with pytest.raises(ValueError, match="divide both by 255"):
        model.mean = torch.tensor([123.675, 116.28, 103.53])
    for wrong in ("a", None):
        with pytest.raises(TypeError, match="mean: expected a number"):
            Classifier(body(), wrong)


@pytest.mark.parametrize("wrong", [1.0, len])
def test_an_output_is_a_key_or_a_position(wrong):
    with pytest.raises(TypeError, match="output: expected a key or a position"):
        Classifier(body(), output=wrong)


@pytest.mark.parametrize(("top", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)])
def test_classes_to_name_are_counted(top, error):
    with pytest.raises(error, match="top: expected"):
        Classifier(body()).eval().predict(images(), top=top)
