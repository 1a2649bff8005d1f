"""Many boxes of one image, each resized to one size."""

from codeprior.kernels.crop_resize.api import crop_resize

__all__ = ["crop_resize"]
