"""One change for many images: a perturbation, or a patch to paste."""
