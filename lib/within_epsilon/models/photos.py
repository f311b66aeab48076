"""Networks that others trained on ImageNet."""

from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from within_epsilon.data import DataUnavailableError, fetch
from within_epsilon.data.files import OFFLINE, patience
from within_epsilon.deep_compression import decode, fold_normalisation
from within_epsilon.models.classifier import Classifier


def photo_classifier(name: str = "squeezenet1_0", weights: str | None = None) -> Classifier:
    """Load a network trained on ImageNet.

    Parameters
    ----------
    name : str
        A classification network of torchvision: ``"resnet50"``, ``"vit_b_16"``.
    weights : str, optional
        The name of torchvision's weights, ``"IMAGENET1K_V1"`` by default, downloaded once.
        ``"squeezenet1_0"`` without this takes the 0.66 MB of Deep Compression instead.

    Returns
    -------
    Classifier
        In evaluation mode; takes images (N, 3, H, W) in [0, 1], names 1,000 classes.

    Raises
    ------
    ValueError
        If torchvision knows no such network, or no such weights for it.
    DataUnavailableError
        If the weights are neither cached nor to be downloaded, or are damaged.

    References
    ----------
    F. N. Iandola et al., SqueezeNet, arXiv:1602.07360, 2016.
    S. Han, H. Mao, W. J. Dally, Deep Compression, ICLR 2016.
    """
    chosen = _torchvision_weights(name, weights or "IMAGENET1K_V1")
    transforms = chosen.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, cost no seed
        if name == "squeezenet1_0" and weights is None:
            body = _deep_compression_squeezenet(mean, std)
        else:
            body = _torchvision_network(name, chosen)
    return Classifier(body, mean, std, chosen.meta["categories"]).eval()


def _torchvision_weights(name: str, weights: str) -> Any:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = get_close_matches(name, known) or ["squeezenet1_0", "resnet50"]
        raise ValueError(f"name: torchvision has no {name!r}; did you mean {', '.join(close)}?")
    choices = models.get_model_weights(name).__members__
    if weights not in choices:
        raise ValueError(f"weights: {name} has no {weights!r}; choose from {', '.join(choices)}")
    return choices[weights]


def _deep_compression_squeezenet(mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    from torchvision.models import squeezenet1_0

    body: nn.Module = squeezenet1_0()
    layers = {n: m.weight.shape for n, m in body.named_modules() if isinstance(m, nn.Conv2d)}
    state = decode(fetch("compressed_SqueezeNet.net").read_bytes(), layers)
    first = next(iter(layers))
    weight, bias = fold_normalisation(state[f"{first}.weight"], state[f"{first}.bias"], mean, std)
    state |= {f"{first}.weight": weight, f"{first}.bias": bias}
    body.load_state_dict(state)
    return body


def _torchvision_network(name: str, weights: Any) -> nn.Module:
    from torchvision.models import get_model

    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        with patience():
            # torchvision's own loading lets a checkpoint run code. A file that loads with
            # weights_only has none to run, so it is read that way first.
            weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
            body: nn.Module = get_model(name, weights=weights)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        raise DataUnavailableError(
            f"The weights {weights} cannot be had.\nLooked for: {place}\nTried: {weights.url}\n"
            f"       {type(error).__name__}: {error}\n"
            f"Remedy: download them from that address by other means and save them as {place}, "
            f"or set TORCH_HOME to a folder that has them.\n{OFFLINE}"
        ) from error
    return body
