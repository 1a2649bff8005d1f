"""JPEG and back in whole numbers, libjpeg's own, for a batch of images of their own sizes and tables."""

from codeprior.kernels.jpeg.api import jpeg, quality_tables

__all__ = ["jpeg", "quality_tables"]
