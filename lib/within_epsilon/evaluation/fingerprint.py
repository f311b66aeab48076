"""Fingerprints: whether two evaluations are the same experiment."""

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from within_epsilon import __version__
from within_epsilon.attacks import settings
from within_epsilon.threat import Ball

# Settings that change what is shown, or that the evaluation sets itself.
_WITHOUT_EFFECT = {"callback", "indices", "progress"}

# What stands in a class for what is written in C.
_SLOTS = (
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
)

# What has been described, by its id: the object itself and its hash.
_Known: TypeAlias = dict[int, tuple[object, str]]


def experiment(
    model: nn.Module, attacks: list[Callable[..., Tensor]], ball: Ball
) -> dict[str, object]:
    """Describe an evaluation by plain values that are equal for equal experiments.

    Parameters
    ----------
    model : nn.Module
        Identified by its structure as printed, parameters, buffers and modes. What its
        ``forward`` does beyond that is not seen.
    attacks : list of callable
        Identified by their names, settings, code and what they close over; objects among
        these by their classes and what pickle would keep of them. What else they use, such
        as other functions of a module, is not seen. As code counts what Python has compiled
        it to: another version of Python makes another attack.
    ball : Ball
        The threat model.

    Returns
    -------
    dict
        Of what JSON can hold.

    Raises
    ------
    TypeError
        If an attack holds what the next session could not recognise: an open file, a lock.
    """
    return {
        "library": __version__,
        "model": _digest_of_model(model),
        "attack": [_attack(attack) for attack in attacks],
        "ball": [ball.norm, ball.epsilon],
    }


def digest(tensor: Tensor, before: str = "") -> str:
    """Hash a tensor's dtype, shape and bytes, and what came before it."""
    values = tensor.detach().cpu().contiguous()
    state = hashlib.blake2b(f"{before}/{values.dtype}/{tuple(values.shape)}/".encode())
    # NumPy knows no bfloat16; bytes it knows.
    state.update(values.flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()[:32]


def _digest_of_model(model: nn.Module) -> str:
    words = [repr(model)]
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        words.append(f"{name}/{digest(tensor)}")
    words.append(str([module.training for module in model.modules()]))
    return _hash("".join(words))


def _attack(attack: Callable[..., Tensor]) -> dict[str, object]:
    values = settings(attack)
    arguments: list[object] = []
    while isinstance(attack, functools.partial):
        values = {**attack.keywords, **values}
        arguments = [*attack.args, *arguments]
        attack = attack.func
    known: _Known = {}
    return {
        "attack": _plain(attack, known),
        "arguments": _plain(arguments, known),
        "settings": {
            name: _plain(values[name], known)
            for name in sorted(values)
            if name not in _WITHOUT_EFFECT
        },
    }


def _plain(value: Any, known: _Known) -> object:
    """Turn a value into something that JSON holds and that the next session sees again."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return digest(value)
    if type(value) in (list, tuple):
        return [_plain(item, known) for item in value]
    if type(value) is dict:
        return [_plain(item, known) for item in value.items()]
    if type(value) in (set, frozenset):  # which have another order in every session
        return sorted((_plain(item, known) for item in value), key=repr)
    if id(value) not in known:
        # What leads back to itself finds this number; kept alive, nothing else gets its id.
        known[id(value)] = value, f"#{len(known)}"
        known[id(value)] = value, _hash(repr(_parts(value, known)))
    return known[id(value)][1]


def _parts(value: Any, known: _Known) -> object:
    """Take apart what is more than data: code, classes, and objects by class and attributes."""
    if isinstance(value, bytes | types.ModuleType):
        return repr(value)
    if isinstance(value, types.CodeType):
        # Rather than its source, which not every prompt keeps and two lambdas may share.
        names = value.co_names, value.co_varnames
        return [value.co_code, value.co_exceptiontable, names, _plain(value.co_consts, known)]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inputs = [value.__code__, cells, value.__defaults__, value.__kwdefaults__]
        return [value.__module__, value.__qualname__, _plain(inputs, known)]
    if isinstance(value, type):
        bases = value.__mro__[:-1]
        return [(base.__module__, base.__qualname__, _members(base, known)) for base in bases]
    try:
        kept = value.__reduce_ex__(4)  # what pickle would keep of it
    except Exception as error:
        raise TypeError(
            "resume: expected an attack that the next session can recognise, received one that "
            f"holds a {type(value).__qualname__} ({error}); let the attack make it when called, "
            "or leave out resume"
        ) from error
    if isinstance(kept, str):  # a name suffices, and for lru_cache what it wraps
        named = getattr(value, "__module__", None), getattr(value, "__wrapped__", None)
        return [kept, *(_plain(part, known) for part in named)]
    return [_plain(list(part) if isinstance(part, Iterator) else part, known) for part in kept]


def _members(base: type, known: _Known) -> object:
    """Describe the methods and values of a class that are its own, not Python's machinery."""
    own: list[object] = []
    for name, member in vars(base).items():
        if isinstance(member, staticmethod | classmethod):
            own.append((name, member.__func__))
        elif isinstance(member, property):
            own.append((name, member.fget, member.fset))
        elif isinstance(member, functools.cached_property):
            own.append((name, member.func))
        elif isinstance(member, types.FunctionType) or not (
            name.startswith(("__", "_abc_")) or type(member) in _SLOTS
        ):
            own.append((name, member))
    return _plain(own, known)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode()).hexdigest()[:32]
