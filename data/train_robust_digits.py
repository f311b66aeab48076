"""Train the robust digits classifiers that ship with the library: a few minutes on one core.

    python data/train_robust_digits.py

writes digits_cnn_linf.safetensors and digits_cnn_l2.safetensors, and the tables of their cards,
all beside this file.
"""

from functools import partial
from pathlib import Path

import torch
from cards import fill_in, table
from safetensors.torch import save
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from within_epsilon.attacks import autoattack, fgsm, noise_control, pgd
from within_epsilon.data import Split, digits
from within_epsilon.evaluation import accuracy, robust_accuracy
from within_epsilon.models import Classifier, small_cnn
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball
from within_epsilon.training import Adversarial, fit

HERE = Path(__file__).parent
BALLS = {"linf": Ball("linf", 0.2), "l2": Ball("l2", 0.5)}
EPOCHS = 80
SEEDS = 5
THREATS = {
    "none": None,
    "random noise, the control": noise_control,
    "FGSM": fgsm,
    "PGD, 40 steps, 5 restarts": partial(pgd, restarts=5),
    "`autoattack`": autoattack,
}


def train(norm: str, seed: int = 0) -> Classifier:
    """Train on the training split; the validation split chose the settings, and the epoch."""
    seed_everything(seed)
    model = Classifier(small_cnn(), categories="0123456789")
    data = digits()
    fit(
        model,
        data.train,
        Adversarial(partial(pgd, steps=7), BALLS[norm]),
        epochs=EPOCHS,
        batch_size=64,
        optimizer=partial(Adam, lr=4e-3),
        schedule=partial(CosineAnnealingLR, T_max=EPOCHS),
        validation=data.validation,
        attack=partial(pgd, steps=10),
        keep="best",
        seed=seed,
    )
    return model


def measure(model: Classifier, split: Split, ball: Ball) -> dict[str, float]:
    """Return the accuracy on a split under each threat."""
    numbers = {}
    for threat, attack in THREATS.items():
        if attack is None:
            numbers[threat] = accuracy(model, split.images, split.labels)
        else:
            report = robust_accuracy(model, split, attack, ball, diagnose=False)
            numbers[threat] = report.robust_accuracy
    return numbers


def main() -> None:
    """Train, measure on the test split, write weights and cards."""
    torch.set_num_threads(1)  # with more, sums round differently
    test = digits().test
    for norm, ball in BALLS.items():
        models = [train(norm, seed) for seed in range(SEEDS)]
        name = f"digits_cnn_{norm}"
        (HERE / f"{name}.safetensors").write_bytes(save(models[0].body.state_dict()))
        rows = table([measure(model, test, ball) for model in models], ball, len(test))
        fill_in(HERE / f"{name}.md", rows)
        print(rows)


if __name__ == "__main__":
    main()
