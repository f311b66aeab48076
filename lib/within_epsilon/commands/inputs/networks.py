"""The network that a user named: by a name, a file, or a function of the user's own."""

import json
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within_epsilon.commands.inputs.exported import read_exported
from within_epsilon.commands.inputs.functions import network_of
from within_epsilon.commands.inputs.weights import fill, hash_of_file, weights_in
from within_epsilon.models import Classifier, small_cnn

BOOK = {"digits_cnn": None, "digits_cnn_linf": "linf", "digits_cnn_l2": "l2"}
_FILES = (".onnx", ".pt2", ".pt", ".pth", ".ts", ".torchscript", ".safetensors")


@dataclass(frozen=True)
class Network:
    """A model, and what its user should know of it.

    Parameters
    ----------
    model : nn.Module
        Takes pixels in [0, 1], in eval mode.
    name : str
        What was asked for, without folders.
    key : str
        What tells it apart beyond its weights: the hash of the file that it comes from.
    categories : tuple of str
        Its classes' names, by output; empty if nobody knows them.
    preset : object, optional
        How torchvision's weights want pictures resized and cut.
    channels : int, optional
        How many it takes, if that is known.
    told : bool
        Whether the names are the user's.
    """

    model: nn.Module
    name: str
    key: str
    categories: tuple[str, ...] = ()
    preset: Any = None
    channels: int | None = None
    told: bool = False


def load(
    name: str,
    weights: str | None = None,
    *,
    classes: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """Load the network that is meant.

    Parameters
    ----------
    name : str
        A name of torchvision's or of the book's, a file, or "module:function".
    weights : str, optional
        A file of weights, or the name of torchvision's.
    classes : path, optional
        A file with the names of the classes, a line each.
    mean, std : sequence of float, optional
        The normalisation, by default what torchvision's weights say, else none.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        If there is none, it cannot be read, or a setting does not go with it.
    """
    names = () if classes is None else _lines(Path(classes))
    body, found = _body(name, weights)
    if isinstance(body, Classifier):
        if mean is not None or std is not None:
            raise ValueError(
                f"--mean, --std: expected none, for {name} brings its own normalisation; leave "
                "them out"
            )
        found = {"categories": body.categories, **found}
        model: nn.Module = body
    else:
        shift, scale = found.get("mean", 0.0), found.get("std", 1.0)
        model = Classifier(body, shift if mean is None else mean, scale if std is None else std)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    channels = found.get("channels") or (len(mean) if mean is not None and len(mean) > 1 else None)
    return Network(
        model,
        Path(name).name,
        found.get("key", ""),
        names or tuple(found.get("categories", ())),
        found.get("preset"),
        channels,
        told=bool(names),
    )


def _body(name: str, weights: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, and what is known of it."""
    path = Path(name).expanduser()
    if name in BOOK or (name == "squeezenet1_0" and weights is None):
        return _of_the_book(name, weights)
    if path.suffix in _FILES or path.is_file():
        if weights is not None:
            raise ValueError(f"--weights: expected none, for {name} holds its own; leave it out")
        return _of_file(path), {"key": hash_of_file(path)}
    if ":" in name:
        body, key = network_of(name)
        if weights is not None:
            fill(body, weights_in(Path(weights)), weights)
        return body, {"key": key}
    if name == "small_cnn" and weights is not None:
        return untrained(name, weights, 10, 0), {"channels": 1}
    return _of_torchvision(name, weights)


def _of_the_book(name: str, weights: str | None) -> tuple[nn.Module, dict[str, Any]]:
    from within_epsilon.models import digits_classifier, photo_classifier

    if weights is not None:
        raise ValueError(f"--weights: expected none, for {name} ships with its own; leave it out")
    if name == "squeezenet1_0":
        return photo_classifier(), {"preset": _preset(name), "channels": 3}
    return digits_classifier(BOOK[name]), {"channels": 1}  # type: ignore[arg-type]


def _of_file(path: Path) -> nn.Module:
    if not path.exists():
        raise FileNotFoundError(f"--model: there is no file {path}; look at its name and folder")
    if path.suffix == ".onnx":
        from within_epsilon.verification import read_onnx

        return read_onnx(path)
    inside = _members(path)
    if any(name.endswith("models/model.json") for name in inside):
        return read_exported(path)
    if "serialized_exported_program.json" in inside:
        raise ValueError(
            f"--model: expected a network as newer torches export it, received {path}, whose parts "
            "are pickled; export it again with a newer torch, or as ONNX"
        )
    if any(name.endswith("constants.pkl") for name in inside):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, that TorchScript is deprecated
            try:
                script: nn.Module = torch.jit.load(path, map_location="cpu")
            except RuntimeError as error:
                raise ValueError(f"--model: {path} is no whole TorchScript file") from error
        return script.eval()
    if path.suffix == ".py":
        raise ValueError(
            f"--model: expected MODULE:FUNCTION, received {path} alone; name the function in it "
            f"that returns the network, such as {path}:net"
        )
    raise ValueError(
        f"--model: expected a network in {path}, received weights alone, or a pickled object, "
        "which is not read since it may run code; name the architecture with --model and give the "
        "file to --weights, or save the network with torch.export.save"
    )


def untrained(name: str, weights: str | None, classes: int, seed: int) -> nn.Module:
    """Build a network to train: random weights, or those of a file.

    Parameters
    ----------
    name : str
        "small_cnn", a network of torchvision's, or "module:function".
    weights : str, optional
        A file of weights to begin with.
    classes : int
        How many classes a network of torchvision's gets.
    seed : int
        Of the random weights.

    Raises
    ------
    ValueError, TypeError, OSError
        If there is none, or the weights are another's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "small_cnn":
            body: nn.Module = small_cnn()
        elif ":" in name:
            body, _ = network_of(name)
        else:
            from torchvision import models

            if Path(name).expanduser().is_file():
                raise ValueError(
                    f"--model: expected a network to train, received the file {name}, whose "
                    "weights are fixed; give MODULE:FUNCTION, and the file of its weights to "
                    "--weights"
                )
            _require_known(name, models.list_models(module=models))
            body = models.get_model(name, weights=None, num_classes=classes)
    if weights is not None:
        fill(body, weights_in(Path(weights)), weights)
    return body.requires_grad_(True)


def _require_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        close = get_close_matches(name, [*known, *BOOK]) or ["resnet50", "digits_cnn"]
        if Path(f"{name}.py").is_file():
            close = [f"{name}:FUNCTION"]
        raise ValueError(
            f"--model: there is no network and no file {name!r}; did you mean {', '.join(close)}?"
        )


def _of_torchvision(name: str, weights: str | None) -> tuple[nn.Module, dict[str, Any]]:
    from torchvision import models

    _require_known(name, models.list_models(module=models))
    path = None if weights is None else Path(weights).expanduser()
    if path is None or not (path.suffix or path.exists()):
        from within_epsilon.models import photo_classifier

        return photo_classifier(name, weights), {"preset": _preset(name), "channels": 3}
    state = weights_in(path)
    with torch.device("meta"):  # for its names alone: those of the file may be in any order
        last = list(models.get_model(name, weights=None).state_dict())[-1]
    classes = len(state[last]) if last in state else 1000
    with torch.random.fork_rng(devices=[]):
        body: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    fill(body, state, path)
    found: dict[str, Any] = {"channels": 3}
    if classes == 1000:
        preset = _preset(name)
        found |= {"preset": preset, "mean": preset.mean, "std": preset.std}
    return body, found


def _preset(name: str) -> Any:
    """Return what torchvision's own weights of a network ask of pictures."""
    from torchvision.models import get_model_weights

    return next(iter(get_model_weights(name))).transforms()


def _lines(path: Path) -> tuple[str, ...]:
    if path.suffix == ".json":
        given = json.loads(path.read_text(encoding="utf-8"))
        return Classifier(nn.Identity(), categories=given).categories
    return tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []
