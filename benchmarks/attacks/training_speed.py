"""What training against an adversary costs: our loop, the loop that one would write, one step."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean, median, stdev
from typing import Any

import torch
from torch import nn

from within_epsilon.attacks import autoattack, pgd
from within_epsilon.data import digits
from within_epsilon.evaluation import robust_accuracy
from within_epsilon.models import small_cnn
from within_epsilon.threat import Ball
from within_epsilon.training import Adversarial, SingleStep, fit

BATCH, STEP = 64, 0.004
PLAIN, TEN = "PGD-7, torchattacks and torch.optim", "PGD-10, fit"
SCHEDULE = torch.optim.lr_scheduler.CosineAnnealingLR


def _fresh(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return small_cnn()


def ours(model: nn.Module, objective: Any, epochs: int, seed: int, step: float = STEP) -> None:
    """Train with the library's loop."""
    fit(
        model,
        digits().train,
        objective,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=partial(torch.optim.Adam, lr=step),
        schedule=partial(SCHEDULE, T_max=epochs),
        seed=seed,
    )


def plain(model: nn.Module, ball: Ball, epochs: int, seed: int) -> None:
    """Train as one would with torchattacks' PGD and torch.optim, and nothing else."""
    import torchattacks  # in the benchmark's environment alone
    from torch.utils.data import DataLoader, TensorDataset

    train = digits().train
    shuffle = torch.Generator().manual_seed(seed)
    data = TensorDataset(train.images, train.labels)
    loader = DataLoader(data, BATCH, shuffle=True, generator=shuffle)
    attack = torchattacks.PGD(model, eps=ball.epsilon, alpha=2.5 * ball.epsilon / 7, steps=7)
    optimizer = torch.optim.Adam(model.parameters(), lr=STEP)
    schedule = SCHEDULE(optimizer, T_max=epochs)
    loss = nn.CrossEntropyLoss()
    for _ in range(epochs):
        model.train()
        for images, labels in loader:
            images_adv = attack(images, labels)
            optimizer.zero_grad()
            loss(model(images_adv), labels).backward()
            optimizer.step()
        schedule.step()
    model.eval()


def contestants(ball: Ball, epochs: int) -> dict[str, Callable[[nn.Module, int], None]]:
    """Return what trains, by name: each takes a model and a seed."""
    seven, ten = (Adversarial(partial(pgd, steps=steps), ball) for steps in (7, 10))
    found: dict[str, Callable[[nn.Module, int], None]] = {}
    if importlib.util.find_spec("torchattacks"):
        found[PLAIN] = lambda m, s: plain(m, ball, epochs, s)
    return found | {
        "PGD-7, fit": lambda m, s: ours(m, seven, epochs, s),
        TEN: lambda m, s: ours(m, ten, epochs, s),
        "single step with noise, fit": lambda m, s: ours(
            m, SingleStep(ball, noise=1.0), epochs, s, 2 * STEP
        ),
    }


def rows(
    epsilons: tuple[float, ...] = (0.1, 0.2), epochs: int = 60, seeds: int = 5, n: int = 400
) -> Iterator[dict[str, Any]]:
    """Yield the processor's time and the accuracies of each way to train.

    All train in turn with one seed before the next, so that ratios are of one round.
    """
    test = digits().test
    for epsilon in epsilons:
        ball = Ball("linf", epsilon)
        ways = contestants(ball, epochs)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        reports: dict[str, list[Any]] = {name: [] for name in ways}
        for seed in range(seeds):
            for name, train in ways.items():
                model = _fresh(seed)
                begun = time.process_time()
                train(model, seed)
                seconds[name].append(time.process_time() - begun)
                data = test.images[:n], test.labels[:n]
                reports[name].append(
                    robust_accuracy(model, data, autoattack, ball, diagnose=False, progress=False)
                )
        for name in ways:
            robust = [report.robust_accuracy for report in reports[name]]
            ratios = {
                other: median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))
                for other in (PLAIN, TEN)
                if other in ways
            }
            yield {
                "trained with": name,
                "ball": str(ball),
                "of torchattacks' time": ratios.get(PLAIN),
                "of PGD-10's time": ratios[TEN],
                "clean": mean(report.clean_accuracy for report in reports[name]),
                "robust": mean(robust),
                "standard error": stdev(robust) / seeds**0.5 if seeds > 1 else None,
                "seeds": seeds,
            }
