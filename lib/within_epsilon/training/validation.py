"""What is measured on the validation split after every epoch."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_logits
from within_epsilon.data.examples import Examples, Given
from within_epsilon.threat import Ball
from within_epsilon.training.history import History
from within_epsilon.training.objectives import Attack, Objective, check_climbs, under_attack

_BATCH = 256


@dataclass(frozen=True)
class Validation:
    """Examples to measure on, an adversary if there is one, and whether to keep the best epoch."""

    examples: Examples | None
    attack: Attack | None
    ball: Ball | None
    best: bool

    @classmethod
    def of(
        cls,
        validation: Given | None,
        attack: Attack | None,
        ball: Ball | None,
        objective: Objective,
        device: torch.device,
        keep: Literal["last", "best"],
    ) -> "Validation":
        """Check what `fit` was given, and take the ball from the objective if there is no other.

        Raises
        ------
        TypeError, ValueError
            If something is missing that the rest asks for, or the attack is none of that kind.
        """
        if keep not in ("last", "best"):
            raise ValueError(f"keep: expected last or best, received {keep!r}")
        if validation is None and (attack is not None or keep == "best"):
            asked = "attack" if attack is not None else "keep='best'"
            raise ValueError(
                f"validation: expected examples for {asked} to measure on, received none; give "
                "validation=digits().validation, and never the test split"
            )
        ball = getattr(objective, "ball", None) if ball is None else ball
        if attack is not None:
            check_climbs(attack)
        if attack is not None and ball is None:
            raise ValueError(
                "ball: expected the threat model of the attack, received none; give "
                'ball=Ball("linf", 0.1)'
            )
        examples = None if validation is None else Examples(validation, device)
        return cls(examples, attack, ball, keep == "best")

    @property
    def settings(self) -> list[Any]:
        """What of it decides the result of a run."""
        words = [self.attack, str(self.ball) if self.attack else None, self.best]
        return [None if self.examples is None else self.examples.fingerprint(), *words]

    def measure(self, model: nn.Module, history: History) -> None:
        """Add this epoch's accuracies to the history; the model is in eval mode."""
        if self.examples is None:
            return
        clean, robust, n = 0, 0, 0
        for images, labels, _ in self.examples.batches(lambda n: torch.arange(n).split(_BATCH)):
            right = _right(model, images, labels)
            clean, n = clean + int(right.sum()), n + len(labels)
            if self.attack is not None:
                with under_attack(model):
                    images_adv = self.attack(model, images, labels, self.ball)
                robust += int((right & _right(model, images_adv, labels)).sum())
        history.validation_accuracies.append(clean / n)
        if self.attack is not None:
            history.robust_accuracies.append(robust / n)


@torch.no_grad()
def _right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    # A copy, for a model may write into its input, and attacks come after.
    return check_logits(model(images.clone()), len(images)).argmax(dim=1) == labels
