"""What training against an adversary costs: our loop, the loop that one would write, one step."""

import importlib.util
import sys
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
from within_epsilon.training import Adversarial, Atta, SingleStep, fit

# Adam's step size was chosen for PGD-10 at the larger radius, by PGD's accuracy on validation
# digits over five seeds (0.607 at 0.004, 0.636 at 0.006; at 0.012 some seeds learn nothing).
# ATTA's share of the epochs was chosen on validation digits, too.
BATCH, STEP, ATTA_EPOCHS = 64, 0.006, 5 / 6
PLAIN, TEN = "PGD-7, torchattacks and torch.optim", "PGD-10, fit"
Rows = Iterator[dict[str, Any]]
SCHEDULE = torch.optim.lr_scheduler.CosineAnnealingLR


def _fresh(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return small_cnn()


def ours(model: nn.Module, objective: Any, epochs: int, seed: int) -> None:
    """Train with the library's loop."""
    fit(
        model,
        digits().train,
        objective,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=partial(torch.optim.Adam, lr=STEP),
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
    noisy, fewer = SingleStep(ball, noise=1.0), max(1, round(ATTA_EPOCHS * epochs))
    return found | {
        "PGD-7, fit": lambda m, s: ours(m, seven, epochs, s),
        TEN: lambda m, s: ours(m, ten, epochs, s),
        "one step from noise, fit": lambda m, s: ours(m, noisy, epochs, s),
        "ATTA, one step, fit": lambda m, s: ours(m, Atta(ball), fewer, s),
    }


def train_all(ball: Ball, epochs: int, seed: int, n: int) -> dict[str, tuple[float, float, float]]:
    """Train each way in turn; return the processor's seconds, clean and robust accuracy."""
    test, found = digits().test, {}
    for name, train in contestants(ball, epochs).items():
        print(f"training: {ball}, seed {seed}, {name}", file=sys.stderr)
        model = _fresh(seed)
        begun = time.process_time()
        train(model, seed)
        seconds = time.process_time() - begun
        data = test.images[:n], test.labels[:n]
        report = robust_accuracy(model, data, autoattack, ball, diagnose=False, progress=False)
        found[name] = seconds, report.clean_accuracy, report.robust_accuracy
    return found


def summary(ball: Ball, rounds: list[dict[str, tuple[float, float, float]]]) -> Rows:
    """Yield a row for each way to train; ratios of times are taken within a round."""
    for name in rounds[0]:
        robust = [round_[name][2] for round_ in rounds]
        ratios = {
            other: median(round_[name][0] / round_[other][0] for round_ in rounds)
            for other in (PLAIN, TEN)
            if other in rounds[0]
        }
        yield {
            "trained with": name,
            "norm": ball.norm,
            "epsilon": ball.epsilon,
            "of torchattacks' time": ratios.get(PLAIN),
            "of PGD-10's time": ratios[TEN],
            "clean": mean(round_[name][1] for round_ in rounds),
            "robust": mean(robust),
            "standard error": stdev(robust) / len(robust) ** 0.5 if len(robust) > 1 else None,
            "seeds": len(robust),
        }


def rows(
    epsilons: tuple[float, ...] = (0.1, 0.2), epochs: int = 60, seeds: int = 5, n: int = 200
) -> Rows:
    """Train and attack on every ball, seed after seed."""
    for epsilon in epsilons:
        ball = Ball("linf", epsilon)
        yield from summary(ball, [train_all(ball, epochs, seed, n) for seed in range(seeds)])
