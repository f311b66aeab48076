"""How often a classifier is right, with and without an adversary."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from within_epsilon.attacks import describe
from within_epsilon.checks import check_model
from within_epsilon.evaluation.core import identity
from within_epsilon.evaluation.core.examples import (
    Data,
    Examples,
    model_dtype,
    require_some,
)
from within_epsilon.evaluation.core.judging import attacks_of, judge, on_device, stages_in
from within_epsilon.evaluation.core.keeping import keeper
from within_epsilon.evaluation.core.record import Record
from within_epsilon.evaluation.diagnosis.diagnose import training, warn_of
from within_epsilon.evaluation.diagnosis.stages import bad_examples
from within_epsilon.evaluation.running import Run
from within_epsilon.reports import RobustReport
from within_epsilon.runtime import progress_bar, untouched
from within_epsilon.threat import Ball


def accuracy(
    model: nn.Module,
    data: Data,
    labels: Tensor | None = None,
    batch_size: int | None = None,
    *,
    indices: Sequence[int] | Tensor | None = None,
    progress: bool = False,
) -> float:
    """Measure the share of images that the model classifies as labelled.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    data : Data
        As for `robust_accuracy`; or images (N, ...), with `labels` beside them.
    labels : Tensor of shape (N,), int64, optional
        True classes, if `data` are images alone.
    batch_size, indices, progress
        As for `robust_accuracy`; of no influence on the result.

    Returns
    -------
    float
        Between 0 and 1. An example that cannot be read or judged counts as wrong.

    Raises
    ------
    TypeError, ValueError
        If images, labels or the model's outputs are unusable; see `checks`.

    Warns
    -----
    DoubtfulEvaluationWarning
        If a module is in train mode, or some examples could not be judged.
    """
    check_model(model)
    examples = Examples(
        data if labels is None else (data, labels), batch_size, indices, model_dtype(model)
    )
    hits, n, bad = 0, 0, {}
    with untouched(model):
        for batch in progress_bar(examples, show=progress, label="classifying", unit="batch"):
            judged = judge(model, on_device(batch, model), Ball("linf", 0), [])
            hits, n = hits + int((judged.fell_to == 0).sum()), n + len(batch.labels)
            bad.update(judged.bad)
        # Afterwards, for a model may switch its own mode.
        findings = [finding] if (finding := training(model)) else []
    require_some(n, bad)
    if bad:
        findings.append(bad_examples(bad, n))
    warn_of(findings)
    return hits / n


def robust_accuracy(
    model: nn.Module,
    data: Data,
    attack: Callable[..., Tensor] | Sequence[Callable[..., Tensor]],
    ball: Ball,
    *,
    batch_size: int | None = None,
    indices: Sequence[int] | Tensor | None = None,
    seed: int | None = None,
    resume: str | Path | None = None,
    key: str | None = None,
    keep: str | Path | None = None,
    diagnose: bool = True,
    progress: bool = True,
) -> RobustReport:
    """Measure how often the model is right although an adversary may change the image.

    Nothing that is handed in changes: images are copied, and the model's mode, buffers and
    parameter gradients and the global random states are put back.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1], returns logits (N, k).
    data : Data
        A split; images and labels as a pair of tensors or NumPy arrays (memory-mapped ones are
        read as needed); a PyTorch data set, which is read example by example; or batches, such
        as a DataLoader gives: a pair (what follows it is ignored) or a mapping with "images"
        and "labels". A loader must not shuffle if results are to repeat.
    attack : callable, or sequence of them
        ``attack(model, images, labels, ball)``, such as `attacks.fgsm` or
        ``functools.partial(pgd, steps=100)``; gets ``indices`` too if it takes them. Of
        several, each attacks only what the ones before it have left standing.
    ball : Ball
        The threat model. Of a mask for each image, rows follow the examples' `indices`.
    batch_size : int, optional
        Most images to attack at a time, which bounds memory. By default 256, but of large
        images so many that a ResNet-50 keeps within 4 GB: 27 of 224 x 224.
    indices : sequence of int, optional
        The examples' positions in the whole data set, if `data` are a part of it. They key
        the attack's randomness, so that parts, put together by `reports.merge`, give what the
        whole gives. 0, 1, 2 ... by default.
    seed : int, optional
        Given to every attack that takes a seed, in place of its own.
    resume : path, optional
        A file to keep the report in, written after every batch. If it is there, the
        evaluation goes on from where it ended, in batches of any size.
    key : str, optional
        A name of your own for what `resume` cannot see.
    keep : path, optional
        Where to keep the adversarial images, in the order of the data: a ``.npy`` file, written
        batch by batch; a ``.npz`` file with their positions and outcomes; or a folder of 8-bit
        PNG files, whose ``norms.csv`` says how large each change is in the file. Examples
        that were not fooled have the best attempt; those wrong already, the clean image.
    diagnose : bool
        Look for what makes the result doubtful, on the first 64 examples, or one photo of
        224 x 224; see `diagnose` for its cost. FGSM and noise run there for comparison.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    RobustReport
        Counts, outcomes and what they rest on; an upper bound on what the worst perturbations
        leave. Only examples classified correctly are attacked; the others count as lost. So
        do those that cannot be read or judged (NaN pixels or logits, gradients that are not
        finite), which are recorded as bad.

    Raises
    ------
    TypeError, ValueError
        If the data are unusable or none of several examples can be judged; an attack cannot be
        called that way, is targeted, or returns anything but images within ball and [0, 1]; if
        the file is damaged or records another experiment, and is left as it is; or if `resume`
        could not recognise a function and no `key` is given.

    Warns
    -----
    DoubtfulEvaluationWarning
        Once for each doubtful finding of the report.

    Notes
    -----
    `resume` tells experiments apart by the threat model; the attacks' names and settings; the
    examples; versions; the model's classes, parameters, buffers, modes and attributes at any
    depth; and its answers to four fixed inputs. Functions without a name of their own
    (lambdas, those defined inside others or in a notebook) need a `key`. It does not see
    changes inside a named function or class that leave those answers as they are, nor
    global variables that they read, hooks, or the contents of files.
    """
    begun = time.perf_counter()
    run, blank = _begin(model, attack, ball, key, seed, strict=resume is not None)
    record = Record(blank, resume)
    examples = Examples(data, batch_size, indices, model_dtype(model))
    kept = keeper(keep, ball, record.readable)
    with untouched(model, run.seed):
        run.look(examples, record, thoroughly=diagnose)
        for batch in progress_bar(examples, show=progress, label="attacking", unit="batch"):
            record.check(model, batch)
            fresh = record.fresh(batch)
            images_adv = run.judge(fresh, record) if len(fresh.labels) else fresh.images
            if not batch.unreadable:
                kept.add(batch, fresh, images_adv)
            record.save(run.stages, time.perf_counter() - begun)
    record.finish()
    report = record.grown(run.stages, time.perf_counter() - begun)
    require_some(report.n, report.bad)
    report = replace(report, findings=run.findings(record, report))
    kept.close(report)
    warn_of(report.findings)
    return report


def blank_report(
    model: nn.Module,
    attack: Callable[..., Tensor] | Sequence[Callable[..., Tensor]],
    ball: Ball,
    *,
    seed: int | None = None,
    key: str | None = None,
) -> RobustReport:
    """Describe an experiment before it is made: the report without outcomes.

    Parameters
    ----------
    model, attack, ball, seed, key
        As for `robust_accuracy`.

    Returns
    -------
    RobustReport
        From which those of its parts differ in none of `reports.differences`.

    Raises
    ------
    TypeError, ValueError
        As `robust_accuracy`.
    """
    return _begin(model, attack, ball, key, seed, strict=False)[1]


def _begin(
    model: nn.Module, attack: Any, ball: Ball, key: str | None, seed: int | None, *, strict: bool
) -> tuple[Run, RobustReport]:
    """Prepare an evaluation and describe it; if `strict`, only if another session would know it."""
    check_model(model)
    attacks = attacks_of(attack, ball, seed)
    run = Run(model, ball, stages_in(attacks, ball, seed), seed or 0)
    unnamed: list[str] = []
    described = tuple(identity.stage(stage.attack, unnamed) for stage in run.stages)
    hashed = identity.model_hash(model, unnamed)
    if strict and unnamed and key is None:
        raise TypeError(
            "resume: expected functions that another session can recognise, received "
            f"{', '.join(sorted(set(unnamed)))}; give a key= that changes whenever these or what "
            "they use does, such as key='PGD, 40 steps, first try', or put them into a module"
        )
    asked = " + ".join(map(describe, attacks))
    versions = identity.versions()
    return run, RobustReport(
        ball, asked, described, model=hashed, seed=seed, key=key, versions=versions
    )
