"""Train the certified digits classifier that ships with the library: a few minutes on one core.

    python data/train_certified_digits.py

writes digits_cnn_certified.safetensors and the table of its card, both beside this file.
"""

from functools import partial
from pathlib import Path

import torch
from cards import fill_in, table
from safetensors.torch import save
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from within_epsilon.attacks import autoattack, noise_control, pgd
from within_epsilon.data import Split, digits
from within_epsilon.evaluation import accuracy, robust_accuracy
from within_epsilon.models import Classifier, small_cnn
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball
from within_epsilon.training import IBP, fit
from within_epsilon.verification import crown, ibp

HERE = Path(__file__).parent
BALL = Ball("linf", 0.1)
EPOCHS, WARMUP, RAMP = 80, 2, 50
BATCH = 64
SEEDS = 5
ATTACKS = {
    "random noise, the control": noise_control,
    "PGD, 40 steps, 5 restarts": partial(pgd, restarts=5),
    "`autoattack`": autoattack,
}


def train(seed: int = 0) -> Classifier:
    """Train on the training split; the validation split chose the settings."""
    seed_everything(seed)
    model = Classifier(small_cnn(), categories="0123456789")
    data = digits()
    minibatches = -(-len(data.train) // BATCH)
    fit(
        model,
        data.train,
        IBP(BALL, RAMP * minibatches, WARMUP * minibatches, clean=0.25),
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer=partial(Adam, lr=0.02),
        schedule=partial(CosineAnnealingLR, T_max=EPOCHS),
        seed=seed,
    )
    return model


def by_intervals(model: nn.Module, split: Split) -> float:
    """Return which share of a split intervals prove to stay right: no attack can do better."""
    return (ibp(model, *split[:], BALL).lower > 0).all(dim=1).double().mean().item()


def by_lines(model: nn.Module, split: Split) -> float:
    """Return the share that linear bounds prove."""
    return crown(model, *split[:], BALL).certified.double().mean().item()


def measure(model: Classifier, split: Split) -> dict[str, float]:
    """Return the accuracy on a split under each attack, and what is certified of it."""
    numbers = {"none": accuracy(model, split.images, split.labels)}
    for threat, attack in ATTACKS.items():
        report = robust_accuracy(model, split, attack, BALL, diagnose=False)
        numbers[threat] = report.robust_accuracy
    proofs = {"by `crown`": by_lines, "by `ibp`": by_intervals}
    return numbers | {f"certified {name}": prove(model, split) for name, prove in proofs.items()}


def main() -> None:
    """Train, measure on the test split, write weights and card."""
    torch.set_num_threads(1)  # with more, sums round differently
    test = digits().test
    models = [train(seed) for seed in range(SEEDS)]
    weights = save(models[0].body.state_dict())
    (HERE / "digits_cnn_certified.safetensors").write_bytes(weights)
    rows = table([measure(model, test) for model in models], BALL, len(test))
    fill_in(HERE / "digits_cnn_certified.md", rows)
    print(rows)


if __name__ == "__main__":
    main()
