"""Options that several verbs share."""

import ast
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

# What --attack takes, and names that --model and --data take beside files.
ATTACKS = (
    "fgsm", "pgd", "apgd", "multi_targeted", "square", "autoattack", "fmn", "fab", "deepfool",
    "ddn", "carlini_wagner", "hop_skip_jump", "noise_control",
)  # fmt: skip
NETWORKS = ("digits_cnn", "digits_cnn_linf", "digits_cnn_l2", "squeezenet1_0", "resnet50")


def completing(*names: str, files: bool = True) -> Callable[..., Any]:
    """Return what offers names, and files where no name begins so, to a shell's completion."""

    def offer(_: click.Context, __: click.Parameter, begun: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name) for name in names if name.startswith(begun)]
        # A shell takes names or files, not both: before anything is typed, files.
        return [CompletionItem(begun, type="file")] if files and not (found and begun) else found

    return offer


class Radius(click.ParamType):  # type: ignore[type-arg] # not generic in click 8.2
    """A radius: a number, or a fraction such as 8/255."""

    name = "radius"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> float:
        """Read the number."""
        if isinstance(value, float):
            return value
        try:
            above, _, below = str(value).partition("/")
            return float(Fraction(above.strip()) / Fraction(below.strip() or "1"))
        except (ValueError, ZeroDivisionError):
            self.fail(f"expected a number or a fraction such as 8/255, received {value!r}")


class Numbers(click.ParamType):  # type: ignore[type-arg] # not generic in click 8.2
    """Numbers with commas between them, one a channel."""

    name = "numbers"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> tuple[float, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers such as 0.485,0.456,0.406, received {value!r}")


class Setting(click.ParamType):  # type: ignore[type-arg] # not generic in click 8.2
    """A setting of an attack: NAME=VALUE."""

    name = "name=value"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> tuple[str, Any]:
        """Read the pair; what is no number, truth value or None is a word."""
        name, equals, text = value.partition("=")
        if not (equals and name.isidentifier()):
            self.fail(f"expected NAME=VALUE such as restarts=5, received {value!r}")
        try:
            return name, ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return name, text


def _all(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def model_options(function: F) -> F:
    """Add what says which model is meant."""
    options: list[Callable[[F], F]] = [
        click.option(
            "--model",
            required=True,
            metavar="MODEL",
            shell_complete=completing(*NETWORKS),
            help="A network of torchvision (resnet50) or of the book (digits_cnn, digits_cnn_linf, "
            "digits_cnn_l2, squeezenet1_0); an ONNX, torch.export (.pt2) or TorchScript file; or "
            "MODULE:FUNCTION of your own, which is called and returns the network. Only the last "
            "runs code of yours.",
        ),
        click.option(
            "--weights",
            metavar="WEIGHTS",
            shell_complete=completing(),
            help="A file of weights (.safetensors, .pt, .pth) for a network of torchvision or your "
            "own, read without running any code in it; or the name of torchvision's weights.",
        ),
        click.option(
            "--classes",
            type=click.Path(exists=True, dir_okay=False),
            metavar="FILE",
            help="The names of the classes, a line each, in the order of the model's outputs.",
        ),
        click.option(
            "--mean", type=Numbers(), metavar="M,M,M", help="What the model wants subtracted."
        ),
        click.option(
            "--std", type=Numbers(), metavar="S,S,S", help="What the model wants divided by."
        ),
        click.option("--device", help="cpu, cuda, cuda:1, mps. Default: the fastest there is."),
        click.option(
            "--threads", type=click.IntRange(1), metavar="N", help="Threads of each process."
        ),
    ]
    return _all(options)(function)


def picture_options(function: F) -> F:
    """Add how pictures become tensors."""
    options: list[Callable[[F], F]] = [
        click.option(
            "--size",
            type=click.IntRange(1),
            metavar="PIXELS",
            help="Resize the shorter side and cut out the centre. Default: as torchvision's "
            "weights ask, else the pictures stay as they are.",
        ),
        click.option(
            "--channels",
            type=click.Choice(["1", "3"]),
            help="Grey or colour. Default: what the model was made for, else what each picture "
            "has.",
        ),
    ]
    return _all(options)(function)


def attack_options(attack: str) -> Callable[[F], F]:
    """Add the attack and its settings, by default that of this name."""
    options: list[Callable[[F], F]] = [
        click.option(
            "--attack",
            default=attack,
            show_default=True,
            metavar="NAME",
            shell_complete=completing(*ATTACKS, files=False),
            help=f"{', '.join(ATTACKS)}.",
        ),
        click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps of the attack."),
        click.option(
            "--set",
            "settings",
            type=Setting(),
            multiple=True,
            help="Any other setting of the attack, such as restarts=5 or version=standard. May be "
            "given several times.",
        ),
        click.option("--seed", default=0, show_default=True, help="Seed of the attack."),
    ]
    return _all(options)


def norm_option(function: F) -> F:
    """Add the norm of the threat model."""
    return click.option(
        "--norm",
        type=click.Choice(["linf", "l2", "l1"]),
        default="linf",
        show_default=True,
        help="How perturbations are measured.",
    )(function)
