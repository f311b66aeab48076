"""What a diagnosis looks at: a model's answers and gradients on a few examples."""

import copy
import functools
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from within_epsilon.attacks import Loss
from within_epsilon.attacks.core.linear import eagerly
from within_epsilon.checks import check_logits, dtype_explained
from within_epsilon.losses import margin_loss
from within_epsilon.threat import Ball

# A tenth of the examples, so that one odd example is no finding.
_MANY = 0.1
# So many examples show what gradients do at 0 and 1.
_FEW = 8
_HALF = (torch.float16, torch.bfloat16)
# No margin is that large, unless the label's logit is minus infinity.
_BEYOND = 1e30
# What may stand between logits and outputs and acts on each for itself, as autograd calls it;
# softmax does so as far as a margin is concerned. Roots may be of distances, which are honest.
_ALONE = re.compile(
    "(Mul|Div|Add|Sub|Neg|Abs|Sign|(Unsafe)?View|ToCopy|Alias|Clone|Squeeze|Unsqueeze|Expand|Where"
    "|MaskedFill|NanToNum|Maximum|Minimum|Clamp(Min|Max)?|Threshold|Tanh|Sigmoid|Atan|Asinh|Erf|Sin"
    "|Cos|Exp|Log(1p|Sigmoid|Softmax)?|Softmax|Softplus|(Leaky)?Relu|Celu|Elu|Gelu|Silu|Mish"
    "|Hard(tanh|sigmoid|swish|shrink)|Softshrink)Backward[0-9]+"
).fullmatch


@dataclass
class Look:
    """What the checks look at; each part is computed when first asked for."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    ball: Ball
    losses: tuple[Loss, ...]
    writes: bool = False
    steady: bool = True
    no_gradient: str = ""

    def answers(self, images: Tensor) -> Tensor:
        """Return the logits of a copy of images."""
        given = images.clone()
        with torch.no_grad(), dtype_explained(self.model, images):
            logits = check_logits(self.model(given), len(images))
        self.writes |= not torch.equal(given, images)
        return logits

    @functools.cached_property
    def logits(self) -> Tensor:
        """The model's answers, (N, k)."""
        return self.answers(self.images)

    @functools.cached_property
    def inside(self) -> Tensor:
        """The images, moved off 0 and 1 by a rounding error."""
        margin = torch.finfo(self.images.dtype).eps
        return self.images.clamp(margin, 1 - margin)

    @functools.cached_property
    def scale(self) -> Tensor:
        """How large the logits of each example are, (N,), which their rounding is a part of."""
        return self.logits.double().nan_to_num(0, 0, 0).abs().amax(dim=1)

    @functools.cached_property
    def gradient(self) -> Tensor | None:
        """The margin loss's gradient just inside the box, (N, ...), or None."""
        return None if self._differentiated is None else self._differentiated[0]

    @functools.cached_property
    def losses_inside(self) -> Tensor | None:
        """The margin losses there, (N,) in float64, or None."""
        return None if self._differentiated is None else self._differentiated[1]

    @functools.cached_property
    def at_faces(self) -> Tensor | None:
        """The gradient of the first images as they are, where pixels may be 0 or 1, or None."""
        return None if self._differentiated is None else self._differentiated[2]

    @functools.cached_property
    def early_slopes(self) -> Tensor | None:
        """The gradient where what acts on each output alone begins, (N, k), or None."""
        return None if self._differentiated is None else self._differentiated[3]

    @functools.cached_property
    def _differentiated(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None] | None:
        # At once: of small images it is the number of passes that costs.
        n, labels = len(self.images), torch.cat([self.labels, self.labels[:_FEW]])
        found = self.slope_and_losses(torch.cat([self.inside, self.images[:_FEW]]), labels)
        if found is None:
            return None
        gradient, losses, early = found
        return gradient[:n], losses[:n], gradient[n:], None if early is None else early[:n]

    def slope_and_losses(
        self, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Differentiate the margin loss in the pixels; return it too, in float64.

        Return also its gradient before what acts on each output alone, if there is one place.
        """
        leaf = images.detach().requires_grad_()
        try:
            with torch.enable_grad(), eagerly():
                # Not the leaf itself, which a model could not write into.
                logits = self.model(leaf.clone())
                losses = margin_loss(logits, labels)
                early = _watched(logits)
                (gradient,) = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            self.no_gradient = str(error).splitlines()[0]
            return None
        if gradient is None:
            return None
        losses = margin_loss(logits.detach().double(), labels)
        return gradient, losses, early[0] if early else None

    def rise(self, there: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far the margin loss rises from here to there, as predicted and as it does.

        Here is `images` or `inside`, where it is known.
        """
        assert self.gradient is not None
        predicted = (self.gradient.double() * (there.double() - here.double())).flatten(1).sum(1)
        if here is self.inside:
            assert self.losses_inside is not None
            before = self.losses_inside
        else:
            before = margin_loss(self.logits.double(), self.labels)
        return predicted, margin_loss(self.answers(there).double(), self.labels) - before

    def in_single_precision(self, *, anywhere: bool = False) -> "Look | None":
        """Return a look at a copy in float32 of a model in half precision, on a few examples.

        None of any other model, and of one that cannot be copied. By its answers, unless
        half precision is looked for `anywhere` inside, which takes a pass.
        """
        if anywhere:
            with _SeesHalf() as seen:
                self.answers(self.images[: 2 * _FEW])
            half = seen.half
        else:
            half = any(
                torch.equal(self.logits.to(half).to(self.logits), self.logits) for half in _HALF
            )
        if not half:
            return None
        some = slice(0, 2 * _FEW)
        images, labels = self.images[some].float(), self.labels[some]
        ball = self.ball[torch.arange(len(labels))]
        try:
            model = _InSinglePrecision(copy.deepcopy(self.model).float())
            found = Look(model, images, labels, ball, self.losses, steady=self.steady)
            return found if found.logits.dtype == torch.float32 else None
        except Exception:  # whatever a model may not like about being copied
            return None

    def of(self, hits: Tensor) -> str:
        """Say how many of the examples."""
        return f"{int(hits.sum())} of {len(hits)} examples"

    def many(self, hits: Tensor) -> bool:
        """Tell whether it is more than one odd example of them."""
        return bool(hits.any()) and int(hits.sum()) >= _MANY * len(hits)


def possible(losses: Tensor) -> Tensor:
    """Tell by margin losses for which examples the label is a possible class, (N,)."""
    return losses.abs() < _BEYOND


def per_row(numbers: Tensor, like: Tensor) -> Tensor:
    """Return numbers (N,) in a shape that multiplies rows (N, ...)."""
    return numbers.view(-1, *[1] * (like.ndim - 1))


class _InSinglePrecision(nn.Module):
    """A model that casts nothing to half precision, though it may ask for that itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with _NoHalf():
            return self.model(images)  # type: ignore[no-any-return]


class _SeesHalf(TorchDispatchMode):
    """Notes whether anything is computed in half precision."""

    half = False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.half |= getattr(result, "dtype", None) in _HALF
        return result


class _NoHalf(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if named.get("dtype") in _HALF:
            named = named | {"dtype": torch.float32}
        return function(*args, **named)


def _watched(logits: Tensor) -> list[Tensor]:
    """Return a list that gets the gradient before all that acts on each output alone."""
    arrived: list[Tensor] = []
    ways: list[Any] = [(logits.grad_fn, 0)]
    passed, places, names = set[Any](), set[Any](), set[str]()
    while ways:
        node, output = way = ways.pop()
        if node is None or way in passed:
            continue
        passed.add(way)
        if _ALONE(node.name()) or isinstance(node, torch.autograd.function.BackwardCFunction):
            ways += node.next_functions
            names.add(node.name().partition("Backward")[0])
        elif not node.name().endswith("AccumulateGrad"):  # of a parameter
            places.add(way)
    # A logarithm of what is not squeezed is of probabilities, whose logits are it.
    if len(places) == 1 and ("Log" not in names or names & {"Softmax", "Sigmoid"}):
        ((node, output),) = places
        node.register_prehook(lambda gradients: arrived.append(gradients[output]))
    return arrived
