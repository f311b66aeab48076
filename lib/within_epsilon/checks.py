"""Checks of what users hand in: what was expected, what came, what to do."""

import functools
import inspect
import math
import warnings
from collections.abc import Hashable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Labelled(Protocol):
    """Anything with images (N, ...) in [0, 1] and labels (N,), such as a `data.Split`."""

    @property
    def images(self) -> Tensor:
        """Pixels in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """Classes, counted from 0."""


def check_images(images: Tensor) -> None:
    """Require a non-empty batch of floating-point images with pixels in [0, 1].

    Raises
    ------
    TypeError
        If `images` is no floating-point tensor.
    ValueError
        If there is no batch dimension, no image, or a pixel outside [0, 1].
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images: expected a torch.Tensor, received {type(images).__name__}; "
            "convert with torch.as_tensor"
        )
    if not images.is_floating_point():
        raise TypeError(
            f"images: expected floating-point pixels in [0, 1], received {images.dtype}; "
            "convert with images.float() / 255"
        )
    if images.ndim < 2:
        raise ValueError(
            f"images: expected a batch of shape (N, ...), received {tuple(images.shape)}; "
            "add a batch dimension to a single image with images.unsqueeze(0)"
        )
    if images.numel() == 0:
        raise ValueError(
            f"images: expected at least one image with pixels, received {tuple(images.shape)}; "
            "look at what selected them, and pass over empty batches"
        )
    lowest, highest = (extreme.item() for extreme in torch.aminmax(images.detach()))
    if lowest >= 0 and highest <= 1:
        return
    remedy = "give pixels in [0, 1] and let the model normalise (models.Classifier does)"
    if math.isnan(lowest):
        remedy = "remove the NaN"
    elif lowest >= 0 and highest <= 255:
        remedy = "divide by 255"
    raise ValueError(
        f"images: expected pixels in [0, 1], received [{lowest:.4g}, {highest:.4g}]; {remedy}"
    )


def check_labels(labels: Tensor, n: int, classes: int | None = None) -> None:
    """Require one class number per example, counted from 0.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        The class numbers.
    n : int
        Number of examples, N.
    classes : int, optional
        Number of classes, K, once it is known.

    Raises
    ------
    TypeError
        If `labels` is no int64 tensor.
    ValueError
        If the shape is not (N,) or a label lies outside 0 ... K - 1.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"labels: expected a torch.Tensor, received {type(labels).__name__}; "
            "convert with torch.as_tensor"
        )
    if labels.dtype != torch.int64:
        raise TypeError(
            f"labels: expected class numbers of dtype torch.int64, received {labels.dtype}; "
            "convert with labels.long(), or one-hot rows with labels.argmax(dim=1)"
        )
    if labels.shape != (n,):
        raise ValueError(
            f"labels: expected shape ({n},), received {tuple(labels.shape)}; "
            "give one class number per example"
        )
    if n == 0:
        return
    lowest, highest = (int(extreme) for extreme in torch.aminmax(labels))
    if lowest < 0 or (classes is not None and highest >= classes):
        last = "K - 1" if classes is None else classes - 1
        raise ValueError(
            f"labels: expected classes 0 to {last}, received {lowest} to {highest}; "
            "classes are counted from 0: subtract 1 if yours start at 1"
        )


def check_logits(logits: object, n: int | None = None) -> Tensor:
    """Require the logits of N examples and K >= 2 classes; return them.

    Raises
    ------
    TypeError
        If the model returned something else than a floating-point tensor.
    ValueError
        If the shape is not (N, K) with K >= 2.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        received = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(
            f"logits: expected a floating-point tensor (N, K), received {received}; wrap the "
            "model in models.Classifier with a body that returns the logits alone"
        )
    if logits.ndim != 2 or logits.shape[1] < 2 or n not in (None, logits.shape[0]):
        raise ValueError(
            f"logits: expected shape ({'N' if n is None else n}, K) with K >= 2, received "
            f"{tuple(logits.shape)}; flatten what the model returns, and give a two-class "
            "model two outputs"
        )
    return logits


def check_no_nan(logits: Tensor) -> None:
    """Require logits without NaN, which would pass for a fooled model.

    Raises
    ------
    ValueError
        If a logit is NaN.
    """
    if torch.isnan(torch.aminmax(logits).min):
        bad = int(torch.isnan(logits).any(dim=1).sum())
        raise ValueError(
            f"logits: expected numbers, received NaN for {bad} of {len(logits)} examples; look "
            "at the model's weights and its normalisation"
        )


def check_losses(losses: Tensor, n: int) -> None:
    """Require one loss per example, of shape (N,)."""
    if losses.shape != (n,):
        raise ValueError(
            f"loss: expected one value per example, shape ({n},), received "
            f'{tuple(losses.shape)}; do not average (in torch: reduction="none")'
        )


def check_indices(indices: Tensor | Sequence[int] | None, n: int) -> list[int]:
    """Return the examples' positions in their data set as a list; 0 ... N - 1 if None."""
    if indices is None:
        return list(range(n))
    positions = indices.tolist() if isinstance(indices, Tensor) else list(indices)
    if len(positions) != n or not all(int(index) == index for index in positions):
        raise ValueError(
            f"indices: expected {n} whole numbers, one per example, received {indices}; "
            "give each example's position in its data set"
        )
    return [int(index) for index in positions]


def check_finite_gradient(gradient: Tensor) -> None:
    """Require a gradient without infinities and NaN.

    Raises
    ------
    ValueError
        If an entry is infinite or NaN.
    """
    # A sum is finite only if all its terms are; one that overflows is looked at again.
    if math.isfinite(gradient.sum().item()):
        return
    bad = int((~torch.isfinite(gradient)).flatten(1).any(dim=1).sum())
    if bad:
        raise ValueError(
            f"gradient: expected finite numbers, received infinities or NaN for {bad} of "
            f"{len(gradient)} examples; look for a logarithm of 0, a division by 0 or an "
            "overflowing exponential in the model or the loss"
        )


def check_model(model: object) -> None:
    """Require an nn.Module, which has a mode and, as a rule, parameters.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: expected a torch.nn.Module, received {type(model).__name__}; call yours in "
            "the forward method of one"
        )


def training_modules(model: nn.Module) -> list[str]:
    """Name the modules in train mode whose answers depend on it.

    Parameters
    ----------
    model : nn.Module
        The model.

    Returns
    -------
    list of str
        Their dotted names in the model, in its order; the model itself goes by its class.
        Whoever computes the same in both modes (ReLU, containers, dropout at rate 0) is
        left out. Of a class from elsewhere that has no children, nothing is presumed.
    """
    return [
        name or type(module).__name__
        for name, module in model.named_modules()
        # A frozen TorchScript module has no mode at all.
        if getattr(module, "training", False) and _mode_matters(module)
    ]


def warn_if_training(model: nn.Module, stacklevel: int = 3) -> None:
    """Warn about a model in train mode, whose answers are not those it will be judged by.

    Parameters
    ----------
    model : nn.Module
        The model; see `training_modules`.
    stacklevel : int
        Whose line the warning names; 3 is the caller's caller.
    """
    if names := training_modules(model):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(
            f"the model is in train mode ({names[0]}{more}): dropout and batch statistics "
            "change its answers; call model.eval() first",
            stacklevel=stacklevel,
        )


def _mode_matters(module: nn.Module) -> bool:
    rates = [getattr(module, name, None) for name in ("p", "dropout", "drop_prob", "drop_rate")]
    without_effect = any(isinstance(rate, int | float) and rate == 0 for rate in rates)
    # Transformers only choose a faster way to the same numbers.
    transformer = isinstance(module, nn.TransformerEncoder | nn.TransformerEncoderLayer)
    if without_effect or transformer or not getattr(module, "track_running_stats", True):
        return False
    if isinstance(module, torch.jit.ScriptModule):
        return "training" in getattr(module, "code", "")
    home = (getattr(module.forward, "__module__", None) or "").partition(".")[0]
    if home not in ("torch", "torchvision", "within_epsilon") and not any(module.children()):
        return True
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    own = (vars(module).get("forward"), *hooks, *(type(hook).__call__ for hook in hooks))
    kind: Hashable = type(module)  # type: ignore[assignment]
    return _reads_mode(kind) or any(_mentions(function, "training") for function in own)


@functools.cache
def _reads_mode(kind: type) -> bool:
    """Tell whether what a module's class computes looks at `training`."""
    for name in set(dir(kind)) - {"train", "eval", *dir(object), "__setstate__"}:
        for parent in kind.__mro__:
            function = vars(parent).get(name)
            if parent is nn.Module or function is None:
                continue
            if _mentions(function, "training"):
                return True
            if not _mentions(function, "super"):
                break
    return False


def _mentions(function: object, word: str) -> bool:
    codes = [getattr(inspect.unwrap(function), "__code__", None)]  # type: ignore[arg-type]
    while codes:
        code = codes.pop()
        if code is not None and word in (*code.co_names, *code.co_consts):
            return True
        codes += [part for part in getattr(code, "co_consts", ()) if inspect.iscode(part)]
    return False
