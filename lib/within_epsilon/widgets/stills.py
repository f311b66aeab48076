"""Pictures of an attacked image, for where no script runs."""

from __future__ import annotations

import html

import numpy as np
from torch import Tensor

from within_epsilon.widgets import pictures
from within_epsilon.widgets.base import still_picture


def amplification(epsilon: float) -> float:
    """Return how much a perturbation is enlarged so that it shows: a power of two."""
    return float(2 ** max(0, int(np.floor(-np.log2(2 * epsilon))))) if epsilon > 0 else 1.0


def triptych(
    images: Tensor, images_adv: Tensor, epsilon: float, name: str, verdict: str, *, clean: str = ""
) -> str:
    """Return HTML with clean | perturbation | adversarial, and the verdict below.

    Parameters
    ----------
    images, images_adv : Tensor of shape (1, C, H, W)
        The clean image and the perturbed one, pixels in [0, 1].
    epsilon : float
        Size of the perturbation, which decides how much it is enlarged.
    name : str
        What the clean image shows.
    verdict : str
        The sentence below.
    clean : str
        The clean image as `pictures.encode_pixels` has it, where the still picture is to carry
        it to the front end.
    """
    k = amplification(epsilon)
    # To the CPU first: not every accelerator knows float64.
    images, images_adv = images.cpu(), images_adv.cpu()
    middle = (0.5 + k * (images_adv.double() - images.double())).clamp(0, 1)
    parts = [
        ("clean", f"The clean image: {name}", images),
        (f"perturbation × {k:g}", "The perturbation around mid-grey, enlarged", middle),
        ("adversarial", "The perturbed image, hardly different from the clean one", images_adv),
    ]
    figures = "".join(_figure(*part, clean) for part in parts)
    return (
        f'<div style="display:flex;gap:8px;flex-wrap:wrap">{figures}</div>'
        f"<p>{html.escape(verdict)}</p>"
    )


def _figure(caption: str, alt: str, image: Tensor, clean: str) -> str:
    levels = pictures.eight_bits(image)
    uri = pictures.png(pictures.enlarge(levels) if pictures.is_small(image) else levels)
    tag = still_picture(uri, alt, carries="clean" if uri == clean else "")
    return f'<figure style="margin:0">{tag}<figcaption>{caption}</figcaption></figure>'
