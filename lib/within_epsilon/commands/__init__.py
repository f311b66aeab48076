"""The command line: `within-epsilon VERB`, one module a verb."""

import importlib

import click

from within_epsilon import __version__
from within_epsilon.commands.refusals import refusing

# What each verb does, for the list of `--help`: a verb's module is imported when it is used.
VERBS: dict[str, str] = {
    "attack": "Attack pictures, and save what became of them.",
    "evaluate": "Measure how robust a model is, on a whole data set.",
    "verify": "Answer a VNN-LIB question about an ONNX network.",
    "supports": "Say which VNN-LIB questions and ONNX networks can be read.",
    "train": "Train a network against an adversary.",
    "grade": "Grade notebooks that a class handed in.",
}

EXAMPLES = """\b
Try it on what ships with the book, with nothing downloaded:
  within-epsilon evaluate --model digits_cnn --data digits --epsilon 0.1
  within-epsilon train --data digits --epsilon 0.1 --out robust.safetensors
  within-epsilon attack digit.png --model digits_cnn --epsilon 0.1
"""


class Verbs(click.Group):
    """The verbs, each found in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all verbs, in the order in which one meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a verb, or None if there is none of that name."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"within_epsilon.commands.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb; a user's mistake is said in a sentence, and ends with exit status 2."""
        with refusing():
            return super().invoke(ctx)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of verbs without importing any."""
        if not VERBS:
            return
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=Verbs, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option(
    "--name", is_flag=True, is_eager=True, expose_value=False,
    callback=lambda context, _, wanted: _say_name(context) if wanted else None,
    help="Show the program's full name and exit.",
)  # fmt: skip
def main() -> None:
    """Attack, evaluate and verify a model of your own.

    `within-epsilon VERB --help` explains a verb, with examples. A mistake is answered in one
    sentence and exit status 2; set WITHIN_EPSILON_TRACEBACK=1 to see where it came from.
    """


def _say_name(context: click.Context) -> None:
    click.echo("Within Epsilon")
    context.exit()
