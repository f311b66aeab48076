"""Whether outputs were squeezed on their way out, told by the way back."""

import torch

from within_epsilon.evaluation.looking import Look
from within_epsilon.reports import Finding

# One output of the margin moves by less than this part of what the other does.
_BENT = 0.5


def check_squeezed(look: Look) -> Finding | None:
    """Compare the slopes, at the margin's two outputs, of what stands between them and logits.

    A softsign, an arctan, a log-sigmoid, a ReLU or a clamp at the end bends every loss: the
    larger output hardly changes with its logit, or the smaller does not at all. Where logits
    come out as they are, or multiplied, the two slopes are the same.
    """
    if look.early_slopes is None or look.early_slopes.numel() != look.logits.numel():
        return None
    slopes = look.early_slopes.abs().view_as(look.logits)
    own = slopes.gather(1, look.labels.unsqueeze(1)).squeeze(1)
    rival = slopes.scatter(1, look.labels.unsqueeze(1), 0).amax(dim=1)
    hits = torch.minimum(own, rival) < _BENT * torch.maximum(own, rival)
    # Who is wrong already is not attacked, and may be so because the label's output is masked.
    hits &= look.logits.argmax(dim=1) == look.labels
    if not look.many(hits):
        return None
    return Finding(
        "saturated outputs",
        f"the largest outputs follow their logits by unlike parts for {look.of(hits)}, as after "
        "softsign, arctan, a log-sigmoid, a ReLU or a clamp",
        "they flatten every loss and hide its gradient",
        "return the logits, without what squeezes them",
    )
