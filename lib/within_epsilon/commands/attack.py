"""`within-epsilon attack`: pictures in, adversarial pictures and what became of them out."""

from typing import Any

import click

from within_epsilon.commands.options import (
    Radius,
    attack_options,
    model_options,
    norm_option,
    picture_options,
)

EXAMPLES = """\b
A photo, with the photo network of the book:
  within-epsilon attack cat.jpg --model squeezenet1_0 --epsilon 2/255
\b
Several digits, of which one knows what they show, in l2:
  within-epsilon attack 3.png 8.png --label 3 --label 8 --model digits_cnn \\
      --norm l2 --epsilon 0.5 --attack apgd --set restarts=5
\b
A network of your own, in the file mine.py here, whose function net() returns it:
  within-epsilon attack scan.png --model mine:net --weights mine.pt --epsilon 4/255
"""


@click.command(epilog=EXAMPLES)
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGE...")
@model_options
@click.option(
    "--epsilon",
    type=Radius(),
    required=True,
    help="The radius, in pixels from 0 to 1, such as 8/255.",
)
@norm_option
@attack_options("pgd")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="CLASS",
    help="What a picture shows, by name or number: once for all, or once for each. Default: the "
    "model's own answer, so that the attack has to change it.",
)
@click.option(
    "--out",
    default="attacked",
    show_default=True,
    type=click.Path(file_okay=False),
    help="The folder for what is saved.",
)
@picture_options
def attack(**options: Any) -> None:
    """Attack pictures, and save what became of them.

    For each picture NAME, --out gets NAME_adversarial.png, of 8 bits; NAME_figure.png, the clean
    picture, the perturbation enlarged and the adversarial picture side by side; and NAME.json:
    the verdict before and after rounding to 8 bits, the norm of the change in the file as saved,
    and the settings. Rounding may undo an attack, or carry it out of the ball.
    """
    from within_epsilon.commands.work.attacking import run_attack

    run_attack(**options)
