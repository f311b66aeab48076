"""What `within-epsilon train` does."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from within_epsilon.attacks import pgd
from within_epsilon.commands.inputs import networks
from within_epsilon.commands.inputs.matching import cannot_take, require_pictures
from within_epsilon.commands.inputs.pictures import Preparation
from within_epsilon.commands.inputs.sources import Source, open_source
from within_epsilon.commands.processes.files import require_writable, write_whole
from within_epsilon.commands.processes.sharing import (
    SharedAttack,
    SharedObjective,
    SharedOptimizer,
    alike,
)
from within_epsilon.commands.processes.workers import Workers, workers
from within_epsilon.commands.work.evaluating import ending_clearly
from within_epsilon.commands.work.threats import balls_of
from within_epsilon.models import Classifier
from within_epsilon.training import (
    Adversarial,
    Free,
    History,
    Objective,
    SingleStep,
    Trades,
    fit,
    standard,
)

# Steps of the attack that measures on validation data.
_MEASURED = 20


class Examples(Dataset[tuple[Tensor, int]]):
    """A source as `fit` reads it: all examples of one shape.

    Parameters
    ----------
    source : Source
        Where the pictures are.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._shape: torch.Size | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        image, label = self.source[position]
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            raise ValueError(
                f"--data: expected pictures of one shape in {self.source.name}, received "
                f"{tuple(image.shape)} at position {position} beside {tuple(self._shape)}; give "
                "--size and --channels"
            )
        return image, label


def run_train(**options: Any) -> None:
    """Train as the options of `train` ask.

    Parameters
    ----------
    **options
        By the names that click gives them.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        If something asked for is not there or does not go together.
    """
    out = Path(options["out"]).expanduser()
    checkpoint = Path(options["checkpoint"] or f"{out}.checkpoint").expanduser()
    if out.suffix != ".safetensors":
        raise ValueError(f"--out: expected a file ending in .safetensors, received {out}")
    for path in (checkpoint, out):
        require_writable(path)

    def work() -> None:
        with workers(options["device"], options["threads"]) as all_of_them:
            _train(options, out, checkpoint, all_of_them)

    def kept() -> str:
        there = "has every epoch that was finished" if checkpoint.exists() else "has not begun"
        return f"{checkpoint} {there}"

    ending_clearly(work, kept)


def _train(options: Mapping[str, Any], out: Path, checkpoint: Path, workers: Workers) -> None:
    channels = int(options["channels"]) if options["channels"] else _channels(options["model"])
    prepare = Preparation(options["size"], None, channels)
    opened = partial(open_source, prepare=prepare, root=options["root"])
    source = opened(options["data"], part="train")
    require_pictures(source, options["size"], options["channels"])
    validation = _validation(options, opened, source)
    body = networks.untrained(
        options["model"], options["weights"], _classes(source), options["seed"]
    )
    model = Classifier(body, options["mean"] or 0.0, options["std"] or 1.0).to(workers.device)
    outputs = _require_fit(model, options["model"], source, workers.device)
    if validation is not None:
        _require_fit(model, options["model"], validation, workers.device)
    alike(model, workers)
    objective = _objective(options)
    attack = None
    if validation is not None and objective is not standard:
        attack = SharedAttack(partial(pgd, steps=_MEASURED), workers)
    with ExitStack() as files:
        history = fit(
            model,
            Examples(source),
            SharedObjective(objective, workers),
            epochs=options["epochs"],
            batch_size=options["batch_size"],
            optimizer=SharedOptimizer(_optimizer(options), workers, model),
            validation=None if validation is None else Examples(validation),
            attack=attack,
            keep=options["keep"] or ("last" if validation is None else "best"),
            checkpoint=_own_checkpoint(checkpoint, workers, files),
            key=f"{source.name}, {len(source)} examples, {prepare}",
            seed=options["seed"],
            progress=workers.first,
            callback=partial(_say, options["epochs"]) if workers.first else None,
        )
    if workers.first:
        _save(options, out, model, _names(source.classes, outputs), history)
    workers.wait()


def _validation(options: Mapping[str, Any], opened: Any, source: Source) -> Source | None:
    given = options["validation"]
    if given is None and options["data"] == "digits":
        given = "digits"
    if given is None:
        if options["keep"] == "best":
            raise ValueError(
                "--keep: expected --validation, on which the best epoch is the best, received "
                "none; give examples that are neither trained on nor the test data"
            )
        return None
    try:
        found: Source = opened(given, part="validation")
    except (ValueError, OSError) as error:
        raise ValueError(str(error).replace("--data", "--validation", 1)) from error
    if found.classes != source.classes:
        ours, theirs = (", ".join(part.classes[:4]) or "none" for part in (source, found))
        raise ValueError(
            f"--validation: expected classes of the same names as --data has, {ours} and so on, "
            f"received {theirs}; give both in the same form, with folders named alike"
        )
    return found


def _channels(model: str) -> int | None:
    own = ":" in model or model == "small_cnn"
    return (1 if model == "small_cnn" else None) if own else 3


def _classes(source: Source) -> int:
    """Return how many classes there are: by their names, else by the labels."""
    if source.classes:
        return len(source.classes)
    labels = getattr(source, "labels", None)
    highest = max(labels) if labels is not None else max(source[p][1] for p in range(len(source)))
    return int(highest) + 1


def _objective(options: Mapping[str, Any]) -> Objective:
    name = options["objective"]
    if name == "standard":
        return standard
    if options["epsilon"] is None:
        raise ValueError(f"--epsilon: expected the radius of {name} training, received none")
    (ball,) = balls_of(options["norm"], [options["epsilon"]])
    attack = partial(pgd, steps=options["steps"])
    made: dict[str, Any] = {
        "adversarial": partial(Adversarial, attack, ball),
        "trades": partial(Trades, attack, ball, options["beta"]),
        "free": partial(Free, ball),
        "single-step": partial(SingleStep, ball),
    }
    objective: Objective = made[name]()
    return objective


def _optimizer(options: Mapping[str, Any]) -> Any:
    rule = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
    if options["optimizer"] == "adam":
        return partial(torch.optim.Adam, **rule)
    return partial(torch.optim.SGD, momentum=options["momentum"], **rule)


def _require_fit(model: nn.Module, name: str, source: Source, device: torch.device) -> int:
    """Require that the network can take the pictures, and return how many outputs it has."""
    image, _ = source[0]
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = int(model(image[None].to(device)).shape[1])
    except Exception as error:  # whatever the network raises
        raise cannot_take(name, image.shape, error) from error
    finally:
        model.train(was)
    if outputs < _classes(source):
        raise ValueError(
            f"--model: expected an output for each of {_classes(source)} classes, received "
            f"{outputs}; give a network with more"
        )
    return outputs


def _names(classes: Sequence[str], outputs: int) -> list[str]:
    """Return a name for each output, also for those of which the data have no class."""
    return [*classes, *(f"output {k}" for k in range(len(classes), outputs))] if classes else []


def _own_checkpoint(path: Path, workers: Workers, files: ExitStack) -> Path:
    """Return where this process keeps its checkpoint: the first one's is the user's."""
    if workers.size == 1:
        return path
    content = workers.by_first(lambda: path.read_bytes() if path.exists() else b"")
    if workers.first:
        return path
    own = Path(files.enter_context(tempfile.TemporaryDirectory())) / "checkpoint"
    if content:
        own.write_bytes(content)
    return own


def _say(epochs: int, epoch: int, history: History) -> None:
    print(f"epoch {epoch + 1} of {epochs}: {history}", flush=True)


def _save(
    options: Mapping[str, Any],
    out: Path,
    model: Classifier,
    names: Sequence[str],
    history: History,
) -> None:
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in model.body.state_dict().items()}
    write_whole(out, save(state))
    chosen = {k: v for k, v in options.items() if v is not None}
    whole = {"settings": chosen, "history": asdict(history)}
    write_whole(out.with_suffix(".json"), json.dumps(whole, indent=1) + "\n")
    words = [f"--model {options['model']} --weights {out}"]
    if names:
        beside = out.with_suffix(".classes.txt")
        write_whole(beside, "\n".join(names) + "\n")
        words.append(f"--classes {beside}")
    for name in ("mean", "std"):
        if options[name]:
            words.append(f"--{name} {','.join(map(str, options[name]))}")
    print(f"saved {out}; evaluate it on data that it has not seen:")
    print(f"  within-epsilon evaluate {' '.join(words)} --data ... --epsilon ...")
