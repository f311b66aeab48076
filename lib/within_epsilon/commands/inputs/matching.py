"""Whether a model and a data set mean the same: shapes, classes and their order."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_images, check_logits
from within_epsilon.commands.inputs.arrays import Arrays
from within_epsilon.commands.inputs.networks import Network
from within_epsilon.commands.inputs.pictures import DamagedError, UnusableError
from within_epsilon.commands.inputs.sources import Source, Split

# Examples to look at, and from how many on, in all and of each class; and the share that would be
# right, and how many times what is right, from which on labels are taken for other classes'.
_LOOK, _ENOUGH, _EACH, _WOULD_BE_RIGHT, _TIMES = 200, 40, 5, 0.5, 3


class Matched:
    """A source whose labels are the model's outputs.

    Parameters
    ----------
    source : Source
        The examples.
    network : Network
        The model, on the device where it computes.

    Attributes
    ----------
    outputs : int
        How many classes the model has.

    Raises
    ------
    ValueError
        If the model cannot take the images, or has other classes.
    """

    def __init__(self, source: Source, network: Network) -> None:
        if not len(source):
            raise ValueError(f"--data: expected at least one example in {source.name}")
        self.source, self.network = source, network
        self.shape = tuple(self._first().shape)
        self.outputs = self._count()
        check_names(network, self.outputs)
        self._labels = labels_of(
            source.classes, network.categories, self.outputs, told=network.told
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        """Return an image (C, H, W) and its class among the model's.

        Raises
        ------
        UnusableError
            If the model has no such class.
        """
        image, label = self.source[position]
        if self._labels is not None:
            label = self._labels[label]
        if not 0 <= label < self.outputs:
            raise UnusableError(
                f"labels: expected classes 0 to {self.outputs - 1}, as many as the model has "
                f"outputs, received {label} at position {position} of {self.source.name}; give the "
                "model's own data, counted from 0"
            )
        return image, label

    def _first(self) -> Tensor:
        for position in range(len(self.source)):
            try:
                return self.source[position][0]
            except DamagedError:
                continue
        raise ValueError(
            f"--data: expected pictures in {self.source.name}, received {len(self.source)} files "
            "that are none, or damaged"
        )

    def _count(self) -> int:
        image = self._first()[None]
        check_images(image)
        try:
            return check_logits(answers(self.network.model, image), 1).shape[1]
        except Exception as error:  # whatever the network raises
            raise cannot_take(self.network.name, self.shape, error) from error

    def check_order(self, positions: Sequence[int]) -> None:
        """Require that the labels are not those of the same classes in another order.

        Parameters
        ----------
        positions : sequence of int
            Of the examples that will be evaluated; some of them are looked at.

        Raises
        ------
        ValueError
            If the model is wrong on most, and right on most after its classes are renamed.
        """
        labels, found = [], []
        for number in spread(len(positions), _LOOK):
            try:
                image, label = self[positions[number]]
                found.append(int(answers(self.network.model, image[None]).argmax()))
            except DamagedError:
                continue
            labels.append(label)
        renamed = better_names(labels, found, self.outputs)
        if renamed is None:
            return
        right = sum(map(int.__eq__, labels, found))
        name = next(label for label, output in renamed.items() if label != output)
        raise ValueError(
            f"labels: expected classes in the order of the model's outputs; of {len(labels)} "
            f"examples the model answers {right} as labelled, and most if class {name} is its "
            f"output {renamed[name]} and so on; name the outputs in their order in a file, and "
            "give it to --classes"
        )


def spread(n: int, limit: int | None) -> range | list[int]:
    """Return the positions of so many of n examples, spread evenly; of all if limit is None.

    Class folders come one after the other, so the first examples would be of one class.
    """
    if limit is None or limit >= n:
        return range(n)
    return [number * n // limit for number in range(limit)]


def cannot_take(name: str, shape: Sequence[int], error: Exception) -> ValueError:
    """Say that a network has failed on a picture.

    Parameters
    ----------
    name : str
        What the user calls the network.
    shape : sequence of int
        Of the picture, (C, H, W).
    error : Exception
        What the network raised.
    """
    text = " ".join(str(error).split("\n")[-1].split())[:200]
    if not isinstance(error, RuntimeError | ValueError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    if text.startswith(("body: expected logits", "logits: expected a floating")):
        return ValueError(
            f"--model: {name} returns more than logits, or something else ({text.split('; ')[0]}); "
            "let MODULE:FUNCTION return models.Classifier(network, output=...), with the key or "
            "position of the logits"
        )
    return ValueError(
        f"--model: {name} cannot take images of shape {tuple(shape)} ({text}); give what it was "
        "made for: --size and --channels change pictures, arrays are taken as they are"
    )


def require_pictures(source: Source, size: int | None, channels: str | None) -> None:
    """Require that there are pictures to resize, if the user asks for it.

    Raises
    ------
    ValueError
        If the source is arrays, which are taken as they are.
    """
    if isinstance(source, Arrays | Split) and (size is not None or channels is not None):
        raise ValueError(
            f"--size, --channels: expected neither with {source.name}, whose arrays are taken as "
            "they are; leave them out, or give pictures"
        )


def check_names(network: Network, outputs: int) -> None:
    """Require a name for each output, if the user has named them.

    Raises
    ------
    ValueError
        If there are more or fewer.
    """
    if network.told and len(network.categories) != outputs:
        raise ValueError(
            f"--classes: expected a name for each of the {outputs} outputs of {network.name}, "
            f"received {len(network.categories)}; write a line for each, in their order"
        )


def labels_of(
    classes: Sequence[str], categories: Sequence[str], outputs: int, *, told: bool = False
) -> tuple[int, ...] | None:
    """Return the model's output of each class, or None if labels are that already.

    Parameters
    ----------
    classes : sequence of str
        What the data call their classes, in the order of their labels; empty if they have no
        names.
    categories : sequence of str
        What the model calls its outputs; empty if it does not.
    outputs : int
        How many it has.
    told : bool
        Whether the model's names are those that the user gave, and so are meant.

    Raises
    ------
    ValueError
        If the classes are others.
    """
    if not classes:
        return None
    known = [name for name in classes if name in categories]
    for name in known:
        if categories.count(name) > 1:
            raise ValueError(
                f"classes: expected names that the model has once, received {name!r}, which it has "
                "for several outputs; tell them apart with --classes"
            )
    if len(known) == len(classes):
        return tuple(list(categories).index(name) for name in classes)
    if known:
        missing = next(name for name in classes if name not in categories)
        raise ValueError(
            f"classes: expected names that the model has, received {missing!r} beside "
            f"{known[0]!r}, which it has; name the folders as the model's classes, or name its "
            "outputs with --classes"
        )
    if all(name.isdigit() for name in classes):
        return tuple(map(int, classes))
    if told:
        raise ValueError(
            f"classes: expected the names that --classes has, {', '.join(categories[:3])} and so "
            f"on, received {', '.join(classes[:3])} and so on; name them alike, or leave --classes "
            "out if they are sorted as the outputs are"
        )
    if len(classes) != outputs:
        raise ValueError(
            f"classes: expected as many as the model has outputs, {outputs}, received "
            f"{len(classes)} ({', '.join(classes[:3])} and so on), whose outputs cannot be told; "
            "name the outputs in their order in a file, and give it to --classes"
        )
    return None


def better_names(
    labels: Sequence[int], found: Sequence[int], outputs: int
) -> dict[int, int] | None:
    """Return which output stands for which label, if that alone makes a wrong model right.

    Parameters
    ----------
    labels, found : sequence of int
        The labels of some examples, and the model's answers.
    outputs : int
        How many the model has.
    """
    right = sum(map(int.__eq__, labels, found))
    seen = sorted(set(labels))
    if len(seen) < 2 or len(labels) < max(_ENOUGH, _EACH * len(seen)) or 2 * right > len(labels):
        return None
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(len(seen), outputs)
    for label, answer in zip(labels, found, strict=True):
        counts[seen.index(label), answer] += 1
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    if counts[rows, columns].sum() < max(_WOULD_BE_RIGHT * len(labels), _TIMES * right):
        return None
    return {seen[row]: int(column) for row, column in zip(rows, columns, strict=True)}


@torch.no_grad()
def answers(model: nn.Module, images: Tensor) -> Tensor:
    """Return the model's logits, computed where the model is."""
    place = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), None)
    logits: Tensor = model(images.to(place) if place is not None else images)
    return logits
