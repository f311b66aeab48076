"""A lab's other end in the kernel: answers the calls of its front end with PyTorch models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from within_epsilon import attacks
from within_epsilon.attacks import input_gradient
from within_epsilon.checks import check_logits
from within_epsilon.losses import cross_entropy, softmax
from within_epsilon.runtime import device_of
from within_epsilon.threat import Ball

# A notebook server drops what a kernel sends faster than 1 MB a second.
_PROGRESS_RATE = 400_000.0  # bytes per second

# (content, buffers)
Send = Callable[[dict[str, Any], list[bytes]], None]
# Looks whether the answer is still wanted; posts a point, which is computed only then.
Progress = Callable[[Callable[[], dict[str, Any]] | None], None]


class CancelledError(Exception):
    """The front end no longer wants the answer."""


class Answers:
    """Answers `frontend/engine/calls.js`: the messages that a worker would get in a page.

    Messages arrive one at a time on the kernel's event loop. The work is done on one thread beside
    it, call by call in the order of their arrival, so that the loop stays free to hear that a call
    is cancelled; an attack looks between two steps. Without a running loop (a plain script) the
    work is done at once.

    Parameters
    ----------
    send : callable
        ``send(content, buffers)``: hands a message to the front end.
    models : sequence of nn.Module
        Take images in [0, 1], return logits (N, k). Their mode, and their parameters' gradients,
        stay as they are; do not train one while a lab attacks it.
    shape : three int
        Channels, height and width of an image.

    Notes
    -----
    A message is ``{"line", "network", "message"}``, a request in it ``{"id", "task", ...}`` or
    ``{"cancel": id}``; arrays are ``{"buffer": place}`` with float32 numbers in a buffer beside
    it. The answer is ``{"id", "result"}`` or ``{"id", "error"}``, before it any number of
    ``{"id", "progress"}``, no more than a notebook server lets through.
    """

    def __init__(self, send: Send, models: Sequence[nn.Module], shape: Sequence[int]) -> None:
        self._send = send
        self._models = list(models)
        self._shape = tuple(shape)
        self._wanted: set[tuple[str, int]] = set()
        self._thread: ThreadPoolExecutor | None = None

    def hear(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """Take one message of the front end's."""
        line, message = content["line"], content["message"]
        if "cancel" in message:
            self._wanted.discard((line, message["cancel"]))
            return
        request = _unpack(message, buffers)
        self._wanted.add((line, request["id"]))
        model = self._models[content["network"]]
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._answer(model, line, request, self._post)
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="lab")

        def post(line: str, message: dict[str, Any]) -> None:
            # Only the loop's own thread may write to the front end.
            loop.call_soon_threadsafe(self._post, line, message)

        loop.run_in_executor(self._thread, self._answer, model, line, request, post)

    def _answer(
        self,
        model: nn.Module,
        line: str,
        request: dict[str, Any],
        post: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Do one request and post what came of it."""
        name, own = (line, request["id"]), {"id": request["id"]}

        def progress(point: Callable[[], dict[str, Any]] | None) -> None:
            if name not in self._wanted:
                raise CancelledError
            if point is not None:
                post(line, own | {"progress": point()})

        try:
            progress(None)
            task = getattr(self, f"_do_{request['task']}")
            post(line, own | {"result": task(model, request, progress)})
        except CancelledError:
            pass
        except Exception as error:  # whatever the reader's model raises belongs in its lab
            post(line, own | {"error": f"{type(error).__name__}: {error}"})
        finally:
            self._wanted.discard(name)

    def _post(self, line: str, message: dict[str, Any]) -> None:
        buffers: list[bytes] = []
        self._send({"line": line, "message": _pack(message, buffers)}, buffers)

    def _do_open(self, model: nn.Module, *_: Any) -> dict[str, Any]:
        device = device_of(model)
        blank = torch.zeros(1, *self._shape, device=device)
        with torch.no_grad():
            classes = check_logits(model(blank), 1).shape[1]
        return {
            "kernels": f"PyTorch, {device}",
            "verified": True,
            "shape": list(self._shape),
            "classes": classes,
            "categories": list(getattr(model, "categories", ())),
        }

    def _do_predict(self, model: nn.Module, request: dict[str, Any], _: Any) -> dict[str, Any]:
        return _look(model, self._image(model, request), _label(model, request))

    def _do_gradient(self, model: nn.Module, request: dict[str, Any], _: Any) -> dict[str, Any]:
        image, label = self._image(model, request), _label(model, request)
        assert label is not None
        _, gradient = input_gradient(model, image, label)
        return _look(model, image, label) | {"gradient": gradient}

    def _do_attack(
        self, model: nn.Module, request: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        image, label = self._image(model, request), _label(model, request)
        assert label is not None
        options, name = request["options"], request["name"]
        ball = Ball("linf", options["epsilon"])
        seed, targeted = options.get("seed", 0), bool(options.get("targeted"))
        steps = {"noise": 0, "fgsm": 1}.get(name, options.get("steps", 40))
        if name == "noise":
            image_adv = attacks.random_noise(image, ball, seed=seed)
        elif name == "fgsm":
            image_adv = attacks.fgsm(model, image, label, ball, targeted=targeted)
        else:
            image_adv = attacks.pgd(
                model,
                image,
                label,
                ball,
                steps=steps,
                step_size=options.get("stepSize"),
                random_start=options.get("randomStart", True),
                targeted=targeted,
                seed=seed,
                callback=_reporter(model, label, steps, progress),
            )
        return _point(model, image_adv, label, steps, steps)

    def _image(self, model: nn.Module, request: dict[str, Any]) -> Tensor:
        image: Tensor = request["image"]
        return image.view(1, *self._shape).to(device_of(model))


def _label(model: nn.Module, request: dict[str, Any]) -> Tensor | None:
    label = request.get("label")
    return None if label is None else torch.tensor([label], device=device_of(model))


def _reporter(model: nn.Module, label: Tensor, steps: int, progress: Progress) -> attacks.Callback:
    """Return a callback that reports the points before the last, as often as may be."""
    next_time = 0.0

    def report(step: int, images_adv: Tensor, _: Tensor) -> None:
        nonlocal next_time
        if step == steps or time.monotonic() < next_time:
            progress(None)
            return
        next_time = time.monotonic() + 4 * images_adv.numel() / _PROGRESS_RATE
        progress(lambda: _point(model, images_adv, label, step, steps))

    return report


@torch.no_grad()
def _look(model: nn.Module, image: Tensor, label: Tensor | None) -> dict[str, Any]:
    """Return logits, probabilities and, with a label, the loss, for one image."""
    logits = check_logits(model(image), 1).cpu().double()
    seen = {"logits": logits[0], "probabilities": softmax(logits)[0]}
    return seen if label is None else seen | {"loss": cross_entropy(logits, label.cpu()).item()}


def _point(model: nn.Module, image: Tensor, label: Tensor, step: int, steps: int) -> dict[str, Any]:
    return {"step": step, "steps": steps, "image": image} | _look(model, image, label)


def _pack(message: Any, buffers: list[bytes]) -> Any:
    """Put tensors, as float32, among the buffers."""
    if isinstance(message, Tensor):
        buffers.append(message.detach().float().cpu().contiguous().numpy().tobytes())
        return {"buffer": len(buffers) - 1}
    if isinstance(message, dict):
        return {key: _pack(value, buffers) for key, value in message.items()}
    return message


def _unpack(message: Any, buffers: Sequence[Any]) -> Any:
    """Take tensors from among the buffers."""
    if not isinstance(message, dict):
        return message
    if set(message) == {"buffer"}:
        return torch.frombuffer(bytearray(buffers[message["buffer"]]), dtype=torch.float32)
    return {key: _unpack(value, buffers) for key, value in message.items()}
