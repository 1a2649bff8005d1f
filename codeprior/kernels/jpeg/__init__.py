"""JPEG compressed and decompressed in libjpeg's whole numbers, for images with sizes and tables of their own."""

from codeprior.kernels.jpeg.api import jpeg, quality_tables

__all__ = ["jpeg", "quality_tables"]
