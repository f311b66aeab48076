"""The command line: `within-epsilon VERB`, one module a verb."""

import importlib

import click

from within_epsilon import __version__

# What each verb does, for the list of `--help`: a verb's module is imported when it is used.
VERBS: dict[str, str] = {
    "grade": "points for notebooks that a class handed in",
}


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


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="within-epsilon")
def main() -> None:
    """Attack, evaluate and verify a model of your own."""
