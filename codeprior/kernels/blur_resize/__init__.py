"""A blur and the bilinear resizing after it, as one op: what the resizing does not read is not blurred."""

from codeprior.kernels.blur_resize.api import blur_resize

__all__ = ["blur_resize"]
