"""Train the digits classifier that ships with the library: a few seconds on one core.

    python data/train_digits_cnn.py

writes digits_cnn.safetensors and the table of digits_cnn.md, both beside this file.
"""

import re
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from within_epsilon.attacks import fgsm, noise_control, pgd
from within_epsilon.data import Split, digits
from within_epsilon.evaluation import accuracy
from within_epsilon.models import Classifier, small_cnn
from within_epsilon.runtime import seed_everything
from within_epsilon.threat import Ball
from within_epsilon.training import fit

HERE = Path(__file__).parent
BALL = Ball("linf", 0.1)
THREATS = {
    "none": None,
    "random noise, the control": noise_control,
    "FGSM": fgsm,
    "PGD, 40 steps, 5 restarts": partial(pgd, restarts=5),
}


def train(seed: int = 0) -> Classifier:
    """Train on the training split alone; the validation split chose the settings."""
    seed_everything(seed)
    model = Classifier(small_cnn(), categories="0123456789")
    fit(
        model,
        digits().train,
        epochs=30,
        batch_size=32,
        step_size=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        seed=seed,
    )
    return model


def measure(model: Classifier, split: Split) -> dict[str, float]:
    """Return the accuracy on a split under each threat."""
    numbers = {}
    for threat, attack in THREATS.items():
        images = attack(model, split.images, split.labels, BALL) if attack else split.images
        numbers[threat] = accuracy(model, images, split.labels)
    return numbers


def table(numbers: dict[str, float]) -> str:
    """Write accuracies as the table of the card."""
    rows = [f"| {threat} | {share:.2%} |" for threat, share in numbers.items()]
    return "\n".join([f"| adversary, {BALL} | accuracy |", "|---|---|", *rows])


def main() -> None:
    """Train, measure on the test split, write weights and card."""
    torch.set_num_threads(1)  # with more, sums round differently
    model = train()
    (HERE / "digits_cnn.safetensors").write_bytes(save(model.body.state_dict()))
    rows = table(measure(model, digits().test))
    card = HERE / "digits_cnn.md"
    old = card.read_text(encoding="utf-8")
    new = re.sub(r"\| adversary.*?(?=\n\n)", lambda _: rows, old, count=1, flags=re.DOTALL)
    card.write_text(new, encoding="utf-8")
    print(rows)


if __name__ == "__main__":
    main()
