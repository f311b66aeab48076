"""What `within-epsilon attack` does to each picture."""

import importlib.util
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from within_epsilon import __version__
from within_epsilon.attacks import describe
from within_epsilon.attacks.core.registry import accepted
from within_epsilon.commands.inputs.matching import answers, cannot_take, check_names
from within_epsilon.commands.inputs.networks import Network
from within_epsilon.commands.inputs.pictures import prepared_for, read_picture
from within_epsilon.commands.processes.files import require_writable, write_whole
from within_epsilon.commands.processes.workers import workers
from within_epsilon.commands.work.running import load_network
from within_epsilon.commands.work.threats import attack_of, balls_of
from within_epsilon.threat import Ball
from within_epsilon.wording import radius, with_share


def run_attack(**options: Any) -> None:
    """Attack as the options of `attack` ask.

    Parameters
    ----------
    **options
        By the names that click gives them.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        If something asked for is not there or does not go together; pictures before it are saved.
    """
    paths = [Path(image).expanduser() for image in options["images"]]
    names = _names(paths)
    folder = Path(options["out"]).expanduser()
    require_writable(folder / f"{names[0]}.json")
    with workers(options["device"], options["threads"]) as alone:
        if alone.size > 1:
            raise ValueError("attack: expected one process, received several; leave torchrun out")
        attack = attack_of(options["attack"], options["steps"], dict(options["settings"]))
        (ball,) = balls_of(options["norm"], [options["epsilon"]])
        network = load_network(options, alone)
        prepare = prepared_for(network, options["size"], options["channels"])
        labels = _labels(options["labels"], len(paths), network)
        for number, (path, name) in enumerate(zip(paths, names, strict=True)):
            image = read_picture(path, prepare)[None].to(alone.device)
            label = labels[number]
            found = attack_one(network, image, label, attack, ball, options["seed"])
            _save(folder, name, image.cpu(), found)
            print(f"{path}: {found['says']}")
    if importlib.util.find_spec("matplotlib") is None:
        print("no figures: they need matplotlib, which is not installed", file=sys.stderr)


def attack_one(
    network: Network,
    image: Tensor,
    label: int | None,
    attack: Callable[..., Tensor],
    ball: Ball,
    seed: int,
) -> dict[str, Any]:
    """Attack a picture, and judge the result before and after rounding to 8 bits.

    Parameters
    ----------
    network : Network
        The model.
    image : Tensor of shape (1, C, H, W)
        The picture.
    label : int, optional
        What it shows; by default what the model says.
    attack, ball, seed
        What to do.

    Returns
    -------
    dict
        What `_save` writes, with the adversarial picture and the rounded one under "images".
    """
    logits = _logits(network, image)
    check_names(network, logits.shape[1])
    if label is None:
        label = int(logits.argmax())
    elif not 0 <= label < logits.shape[1]:
        raise ValueError(
            f"--label: expected 0 to {logits.shape[1] - 1}, the model's classes, received {label}"
        )
    named = accepted(attack, seed=seed)
    images_adv = attack(network.model, image, torch.tensor([label]).to(image.device), ball, **named)
    rounded = ((images_adv.double() * 255).round() / 255).to(image.dtype)
    before, after, saved = (_verdict(network, x, label) for x in (image, images_adv, rounded))
    # Of the file itself: its levels, and the clean picture's.
    length = float(ball.length((_levels(images_adv) - _levels(image)) / 255))
    inside = length <= ball.epsilon * (1 + 1e-9)
    already = "wrong without any attack: " if before["fooled"] else ""
    says = f"{already}{before['says']} → {after['says']}; as saved {saved['says']}, {ball}"
    if not inside:
        says += f", but {radius(length)} as saved: outside the ball"
    return {
        "says": says,
        "label": label,
        "label_name": _name(network, label),
        "clean": before,
        "adversarial": after,
        "as_saved": saved,
        "threat_model": {"norm": ball.norm, "epsilon": ball.epsilon},
        "norm": float(ball.length(images_adv.double() - image.double())),
        "norm_as_saved": length,
        "within_ball_as_saved": inside,
        "attack": describe(attack),
        "seed": seed,
        "model": network.name,
        "version": __version__,
        "images": (images_adv.cpu(), rounded.cpu()),
    }


def _logits(network: Network, image: Tensor) -> Tensor:
    try:
        return answers(network.model, image)
    except Exception as error:  # whatever the network raises
        raise cannot_take(network.name, image.shape[1:], error) from error


def _verdict(network: Network, image: Tensor, label: int) -> dict[str, Any]:
    probabilities = _logits(network, image).double().softmax(dim=1)[0].cpu()
    probability, index = (float(part) for part in probabilities.max(dim=0))
    name = _name(network, int(index))
    return {
        "class": int(index),
        "name": name,
        "probability": probability,
        "fooled": int(index) != label,
        "says": with_share(name, probability),
    }


def _levels(image: Tensor) -> Tensor:
    return (image.double() * 255).round()


def _name(network: Network, index: int) -> str:
    return network.categories[index] if index < len(network.categories) else str(index)


def _labels(given: Sequence[str], n: int, network: Network) -> list[int | None]:
    if not given:
        return [None] * n
    if len(given) not in (1, n):
        raise ValueError(f"--label: expected one for all or {n}, one each, received {len(given)}")
    found: list[int | None] = []
    for word in given:
        if word in network.categories:
            found.append(network.categories.index(word))
        elif word.isdigit():
            found.append(int(word))
        else:
            raise ValueError(
                f"--label: expected a class of the model, by name or number, received {word!r}"
            )
    return found * n if len(found) == 1 else found


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what the files of each picture are called; alike names are told apart."""
    names: list[str] = []
    for path in paths:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}_{number}", number + 1
        names.append(name)
    return names


def _save(folder: Path, name: str, image: Tensor, found: dict[str, Any]) -> None:
    images_adv, rounded = found.pop("images")
    pixels = _levels(images_adv)[0].to(torch.uint8).numpy()
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    write_whole(folder / f"{name}_adversarial.png", _as_png(picture.save, format="PNG"))
    if importlib.util.find_spec("matplotlib") is not None:
        from within_epsilon.plots import triptych

        figure = triptych(
            image[0],
            rounded[0],
            (found["clean"]["says"], found["as_saved"]["says"]),
        )
        write_whole(folder / f"{name}_figure.png", _as_png(figure.savefig, format="png", dpi=150))
    write_whole(folder / f"{name}.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def _as_png(write: Callable[..., Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    write(buffer, **options)
    return buffer.getvalue()
