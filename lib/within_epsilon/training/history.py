"""What training looked like, epoch by epoch."""

from dataclasses import dataclass, field


@dataclass
class History:
    """What training looked like, one entry per epoch.

    Parameters
    ----------
    train_losses : list of float
        Mean loss over the epoch's minibatches, each before its own step.
    validation_accuracies : list of float
        Accuracy on the validation split after the epoch; empty without one.
    robust_accuracies : list of float
        Accuracy on the same split under an attack; empty without one.
    """

    train_losses: list[float] = field(default_factory=list)
    validation_accuracies: list[float] = field(default_factory=list)
    robust_accuracies: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The epoch of the highest accuracy on the validation split, from 0; the first of equals.

        Under the attack if there was one, else without.

        Raises
        ------
        ValueError
            If nothing was measured.
        """
        scores = self.robust_accuracies or self.validation_accuracies
        if not scores:
            raise ValueError(
                "validation: expected accuracies to choose an epoch by, received none; train with "
                "validation=, and with attack= to choose by robust accuracy"
            )
        return scores.index(max(scores))

    def __str__(self) -> str:
        """Say what the last epoch found, in few words."""
        words = [f"loss {self.train_losses[-1]:.3f}"] if self.train_losses else []
        for name, scores in (
            ("clean", self.validation_accuracies),
            ("robust", self.robust_accuracies),
        ):
            words += [f"{name} {scores[-1]:.1%}"] if scores else []
        return ", ".join(words)
