"""`within-epsilon train`: a network against an adversary."""

from typing import Any

import click

from within_epsilon.commands.options import (
    Numbers,
    Radius,
    completing,
    norm_option,
    picture_options,
)

EXAMPLES = """\b
The book's digits, against PGD, in half a minute:
  within-epsilon train --data digits --epsilon 0.1 --out robust.safetensors
\b
Your own network, in the file mine.py here, on class folders, with TRADES:
  within-epsilon train --model mine:net --data pictures/train \\
      --validation pictures/validation --objective trades --epsilon 8/255 \\
      --epochs 50 --optimizer adam --lr 0.001 --out mine.safetensors
\b
The same on the four GPUs of this machine:
  torchrun --nproc-per-node 4 -m within_epsilon train --model mine:net ...
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--model",
    default="small_cnn",
    show_default=True,
    metavar="MODEL",
    shell_complete=completing("small_cnn"),
    help="small_cnn, for pictures of 8 x 8; a network of torchvision (resnet18); or "
    "MODULE:FUNCTION of your own, which is called and returns the network.",
)
@click.option(
    "--weights",
    metavar="FILE",
    shell_complete=completing(),
    help="Weights to begin with, in place of random ones.",
)
@click.option("--mean", type=Numbers(), metavar="M,M,M", help="What is subtracted from pixels.")
@click.option("--std", type=Numbers(), metavar="S,S,S", help="What they are divided by.")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    shell_complete=completing("digits"),
    help="Training examples: class folders, .tar, .npz, digits, or torchvision's; see "
    "`within-epsilon evaluate --help`.",
)
@click.option(
    "--root",
    metavar="FOLDER",
    shell_complete=completing(),
    help="The folder that has torchvision's data set.",
)
@click.option(
    "--validation",
    metavar="DATA",
    shell_complete=completing("digits"),
    help="Examples to measure on after every epoch, never the test data. Of digits, their "
    "validation part; of others, none by default.",
)
@click.option(
    "--objective",
    type=click.Choice(["adversarial", "trades", "free", "single-step", "standard"]),
    default="adversarial",
    show_default=True,
    help="What is minimised: the loss of attacked images, or cheaper and finer relatives.",
)
@click.option("--epsilon", type=Radius(), help="The radius, in pixels from 0 to 1.")
@norm_option
@click.option("--steps", type=click.IntRange(1), default=7, show_default=True, help="Of PGD.")
@click.option("--beta", type=click.FloatRange(0), default=6.0, show_default=True, help="Of TRADES.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), default="adam", show_default=True)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=0.002,
    show_default=True,
    help="The step size.",
)
@click.option(
    "--momentum", type=click.FloatRange(0), default=0.9, show_default=True, help="Of SGD."
)
@click.option("--weight-decay", type=click.FloatRange(0), default=0.0, show_default=True)
@click.option(
    "--keep",
    type=click.Choice(["best", "last"]),
    help="Which epoch's weights are saved: the most robust on --validation, or the last. Default: "
    "best if there is validation.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1, mps. Default: the fastest there is.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of each process.")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The state of the run, written after every epoch. If it is there, the run goes on from "
    "it, with any number of processes. Default: --out with .checkpoint after it.",
)
@click.option(
    "--out",
    default="trained.safetensors",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="The weights, with their history beside them as .json.",
)
@picture_options
def train(**options: Any) -> None:
    """Train a network against an adversary.

    Minimises the chosen objective, measures clean and robust accuracy after every epoch, keeps
    the most robust epoch, and goes on where it was stopped. The adversary starts anew on every
    minibatch and is never told which network comes out: evaluate that afterwards.
    """
    from within_epsilon.commands.work.fitting import run_train

    run_train(**options)
