"""A network as a list of layers, for whoever computes with them in another way than torch."""

import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeGuard, TypeVar

from torch import nn

from within_epsilon.models.classifier import Classifier
from within_epsilon.models.normalize import Normalize
from within_epsilon.models.residual import Residual
from within_epsilon.modes import training_modules

M = TypeVar("M", bound=nn.Module)

# Layers that need no reading of their own, by what `Layer.kind` calls them.
_KINDS: dict[str, type[nn.Module]] = {
    "normalize": Normalize,
    "conv": nn.Conv2d,
    "linear": nn.Linear,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "max_pool": nn.MaxPool2d,
    "avg_pool": nn.AvgPool2d,
}
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_NO_EFFECT = (nn.Identity, nn.Dropout, nn.Dropout2d)


class Layer(NamedTuple):
    """One layer of a network.

    Parameters
    ----------
    name : str
        Where it stands in the network: "features.0". A module may stand in several places.
    kind : str
        "normalize", "conv", "linear", "relu", "leaky_relu", "max_pool", "avg_pool", "mean"
        (over all places), "batch_norm", "flatten" (all dimensions but the first), "concat"
        (of what the branches return, along dimension 1), or "sum" (of what they return).
    module : nn.Module
        The module itself, with its settings and weights; of branches the one they are in.
    branches : tuple of tuples of Layer
        What a "concat" or "sum" does side by side to the same input; a branch without layers
        passes it on.
    """

    name: str
    kind: str
    module: nn.Module
    branches: tuple[tuple["Layer", ...], ...] = ()


def read_layers(model: nn.Module, name: str = "") -> Iterator[Layer]:
    """Read a network as layers in the order in which they run.

    Parameters
    ----------
    model : nn.Module
        A `Classifier`, `Sequential`, `Residual` or SqueezeNet, in eval mode, of `Normalize`,
        `Conv2d`, `Linear`, `ReLU`, `LeakyReLU`, `MaxPool2d`, `AvgPool2d`, `AdaptiveAvgPool2d(1)`,
        `BatchNorm1d`, `BatchNorm2d` and `Flatten`. `Dropout` and `Identity` have no effect
        and are left out.
    name : str
        Where the network stands in another one.

    Yields
    ------
    Layer
        Their settings are not looked at: who cannot do with one has to refuse it.

    Raises
    ------
    TypeError
        If a module is none of these, or computes something else by a `forward` of its own
        or by hooks.
    ValueError
        If a module is in train mode, or computes its weights (as `spectral_norm` does).
    """
    if computes_as(model, nn.Sequential):
        # named_children would pass over a layer that has stood there before.
        yield from _in_turn(model, name, model._modules)
    elif computes_as(model, Classifier):
        yield from _in_turn(model, name, ("normalize", "body"))
    elif _is_of_squeezenet(model, "SqueezeNet"):
        yield from _in_turn(model, name, ("features", "classifier"))
        yield Layer(name, "flatten", nn.Flatten())
    elif _is_of_squeezenet(model, "Fire"):
        yield from _in_turn(model, name, ("squeeze", "squeeze_activation"))
        ways = [(size, f"{size}_activation") for size in ("expand1x1", "expand3x3")]
        branches = tuple(tuple(_in_turn(model, name, way)) for way in ways)
        yield Layer(name, "concat", model, branches)
    elif computes_as(model, Residual):
        ends = tuple(tuple(_in_turn(model, name, (part,))) for part in ("body", "shortcut"))
        yield Layer(name, "sum", model, ends)
    elif any(computes_as(model, kind) for kind in _NO_EFFECT):
        _require_eval(model, name)
    else:
        _require_plain_weights(model, name)
        kind = _kind(model, name)
        _require_eval(model, name)
        yield Layer(name, kind, model)


def computes_as(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Tell whether a module does what its kind does: a subclass may, if it has the same forward."""
    # In this order: most questions are answered by the class.
    return (
        isinstance(module, kind)
        and getattr(module.forward, "__func__", None) is kind.forward
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


def _is_of_squeezenet(model: nn.Module, kind: str) -> bool:
    """Tell whether a module is one of torchvision's, which is slow to load for all others."""
    loaded = sys.modules.get("torchvision.models.squeezenet")
    return loaded is not None and computes_as(model, getattr(loaded, kind))


def _in_turn(module: nn.Module, name: str, parts: Iterable[str]) -> Iterator[Layer]:
    """Read parts of a module, one after the other."""
    for part in parts:
        yield from read_layers(getattr(module, part), f"{name}.{part}".lstrip("."))


def _kind(module: nn.Module, name: str) -> str:
    for known, kind in _KINDS.items():
        if computes_as(module, kind):
            return known
    if computes_as(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return "mean"
    if computes_as(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return "flatten"
    if any(computes_as(module, kind) for kind in _BATCH_NORMS) and module.running_mean is not None:
        return "batch_norm"
    hooks = " with hooks" if module._forward_hooks or module._forward_pre_hooks else ""
    raise TypeError(
        "model: expected a network of layers that can be read (Conv2d, Linear, ReLU, LeakyReLU, "
        "MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), BatchNorm with running statistics, Flatten, "
        "Dropout, Residual, SqueezeNet, in Sequential) and neither hooks nor a forward of their "
        f"own, received {type(module).__name__}{hooks} at {name or 'its top'}"
    )


def _require_eval(module: nn.Module, name: str) -> None:
    if training_modules(module):
        raise ValueError(
            f"model: expected one in eval mode, received {type(module).__name__} at "
            f"{name or 'its top'} in train mode; call model.eval() first"
        )


def _require_plain_weights(module: nn.Module, name: str) -> None:
    """Refuse what computes its weight anew from others in every pass."""
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return
    own = {"weight", "bias"}
    if module._parameters.keys() == own and not (module._buffers or module._modules):
        return  # without the dictionary, whose making takes longer than all else here
    found = set(module.state_dict())
    if not found <= own:
        raise ValueError(
            f"model: expected a weight and a bias in {name}, received "
            f"{', '.join(sorted(found))}; make the weight a plain one with "
            "torch.nn.utils.parametrize.remove_parametrizations or remove_spectral_norm"
        )
