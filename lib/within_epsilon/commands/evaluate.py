"""`within-epsilon evaluate`: how robust a model is, on a whole data set."""

from typing import Any

import click

from within_epsilon.commands.options import (
    Radius,
    attack_options,
    completing,
    model_options,
    norm_option,
    picture_options,
)

EXAMPLES = """\b
What ships with the book, in half a minute:
  within-epsilon evaluate --model digits_cnn --data digits --epsilon 0.1
\b
A curve, with a cheaper attack:
  within-epsilon evaluate --model digits_cnn_linf --data digits \\
      --epsilon 0.05 --epsilon 0.1 --epsilon 0.2 --attack pgd --steps 40
\b
A network of torchvision with weights of your own, on class folders:
  within-epsilon evaluate --model resnet18 --weights mine.safetensors \\
      --data pictures/ --classes names.txt --epsilon 4/255
\b
A number to publish, on four GPUs of this machine:
  torchrun --nproc-per-node 4 -m within_epsilon evaluate --model mine.pt2 \\
      --data test.npz --epsilon 8/255 --set version=standard
"""


@click.command(epilog=EXAMPLES)
@model_options
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    shell_complete=completing("digits"),
    help="A folder with a folder of pictures for each class; a .tar file of that, or of name.png "
    "beside name.cls as WebDataset has them; an .npz file with images and labels; digits, which "
    "come along; or a data set of torchvision's that is on disk, such as CIFAR10.",
)
@click.option(
    "--root",
    metavar="FOLDER",
    shell_complete=completing(),
    help="The folder that has torchvision's data set.",
)
@click.option(
    "--part",
    type=click.Choice(["test", "train", "validation"]),
    default="test",
    show_default=True,
    help="Which part of digits or of torchvision's data set.",
)
@click.option(
    "--epsilon",
    "epsilons",
    type=Radius(),
    multiple=True,
    required=True,
    help="The radius, in pixels from 0 to 1, such as 8/255. Give it several times for a curve.",
)
@norm_option
@attack_options("autoattack")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Evaluate N examples only, spread evenly over the data.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Most images at a time. Default: what a ResNet-50 holds in 4 GB, at most 256.",
)
@click.option(
    "--check",
    type=click.IntRange(0),
    metavar="N",
    help="On so many examples, go through the checklist that tells a robust model from one that "
    "only hides its gradient. Default: 100, of photos fewer; 0 for none.",
)
@click.option(
    "--out",
    default="evaluation",
    show_default=True,
    type=click.Path(file_okay=False),
    help="The folder for the report. If it has part of this evaluation, that goes on.",
)
@picture_options
def evaluate(**options: Any) -> None:
    """Measure how robust a model is, on a whole data set.

    Clean accuracy and accuracy under attack, with intervals and with what makes them doubtful, go
    to --out as report.json, report.md and report.png, and as a record for RobustBench. Whatever
    stops it, no finished batch is lost: the same command goes on.
    """
    from within_epsilon.commands.work.running import run_evaluate

    run_evaluate(**options)
