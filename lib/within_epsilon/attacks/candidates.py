"""The worst of several adversarial images, example by example."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from within_epsilon.checks import check_logits, check_losses

# (logits, labels) -> one loss per example.
Loss = Callable[[Tensor, Tensor], Tensor]


class Worst:
    """Keeps the worst candidate of each example.

    One that fools the model beats one that does not; among equals the larger loss wins.
    If `targeted`, fooling means reaching the label and the smaller loss wins.

    Attributes
    ----------
    images_adv : Tensor of shape (N, ...)
        The worst candidates so far; empty before the first offer.
    """

    def __init__(self, targeted: bool) -> None:
        self.targeted = targeted
        self.images_adv = self._fooled = self._gains = torch.empty(0)

    @torch.no_grad()
    def offer(self, model: nn.Module, images_adv: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        """Score one candidate per example and keep those that are worse.

        Returns
        -------
        Tensor of shape (N,)
            The candidates' losses.
        """
        logits = check_logits(model(images_adv), len(images_adv))
        losses = loss(logits, labels)
        check_losses(losses, len(images_adv))
        hits = logits.argmax(dim=1) == labels
        fooled, gains = (hits, -losses) if self.targeted else (~hits, losses)
        if not len(self.images_adv):
            self.images_adv, self._fooled, self._gains = images_adv, fooled, gains
            return losses
        better = torch.where(fooled == self._fooled, gains > self._gains, fooled)
        per_pixel = better.view(-1, *[1] * (images_adv.ndim - 1))
        self.images_adv = torch.where(per_pixel, images_adv, self.images_adv)
        self._fooled = torch.where(better, fooled, self._fooled)
        self._gains = torch.where(better, gains, self._gains)
        return losses
