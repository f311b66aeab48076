"""Models: pixels in, logits out, names at hand; weights that are what they claim."""

import copy
import pickle
from urllib.error import URLError

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
    assert model.to("meta")(images().to("meta")).device.type == "meta"


def test_pixels_outside_the_range_reach_the_body():
    # Finite differences and Gaussian noise leave [0, 1]; only predict is strict.
    model = Classifier(body())
    assert model(images() - 0.5).isfinite().all()
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\]"):
        model.predict(images() - 0.5)


@pytest.mark.parametrize(
    ("result", "output"),
    [
        ({"out": torch.ones(2, 4), "aux": torch.zeros(2, 4)}, "out"),
        ((torch.zeros(2, 4), torch.ones(2, 4)), 1),
        (torch.ones(2, 4), None),
    ],
)
def test_logits_are_found_in_what_the_body_returns(result, output):
    assert torch.equal(Classifier(Returns(result), output=output)(images()), torch.ones(2, 4))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (Classifier(Returns({"out": 0})), TypeError, r"a dict with keys \['out'\].*set output"),
        (Classifier(Returns({"out": 0}), output="logits"), TypeError, "output='logits'"),
        (Classifier(Returns(torch.ones(2, 4)), output="out"), TypeError, "a Tensor"),
        (Classifier(Returns((1, 2))), TypeError, "a tuple"),
        (Classifier(body(), categories="abcde"), ValueError, r"\(N, 5\).*received \(2, 4\)"),
        (Classifier(Returns(torch.ones(2, 4, 8, 8))), ValueError, r"received \(2, 4, 8, 8\)"),
        (Classifier(body(), MEAN[:2], STD[:2]), ValueError, "expected 2 channels"),
    ],
)
def test_models_that_do_not_fit_are_told_apart(model, error, message):
    with pytest.raises(error, match=message):
        model(images())


def test_wrong_images_and_constants_are_refused():
    model = Classifier(body(), MEAN, STD)
    with pytest.raises(ValueError, match="unsqueeze"):
        model(images()[0])
    with pytest.raises(ValueError, match="expected 3 channels"):
        model(images(channels=1))
    with pytest.raises(TypeError, match="/ 255"):
        model((images() * 255).byte())
    with pytest.raises(ValueError, match="received 3 and 2"):
        Classifier(body(), MEAN, STD[:2])
    with pytest.raises(ValueError, match="positive"):
        Classifier(body(), MEAN, (0.2, 0.0, 0.2))


def test_predict_names_the_most_probable_classes():
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 0.0, 0.0, 0.5]]).log_softmax(1)
    model = Classifier(Returns(logits), categories=("cat", "dog", "hog", "hen"))
    first, second = model.predict(images(), top=2)
    assert [p.category for p in first] == ["dog", "hen"]
    assert [p.index for p in first] == [1, 3]
    assert repr(first) == "[dog 64%, hen 24%]"
    assert first[0].probability == pytest.approx(logits[0, 1].exp().item(), abs=1e-7)
    assert second[0].category == "cat"
    every = model.predict(images(), top=9)[0]
    assert len(every) == 4
    assert sum(p.probability for p in every) == pytest.approx(1)
    unnamed = Classifier(Returns(logits)).predict(images(), top=1)
    assert [row[0].category for row in unnamed] == ["1", "0"]


def test_predict_leaves_the_model_as_it_was():
    model = Classifier(nn.Sequential(body(), nn.Dropout(0.5))).train()
    model.predict(images())
    assert model.training
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
