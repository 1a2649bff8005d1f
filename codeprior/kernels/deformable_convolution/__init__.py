"""Modulated deformable 3×3 convolutions: nine values that are read where the input says, not on the grid."""

from codeprior.kernels.deformable_convolution.api import deformable_convolution

__all__ = ["deformable_convolution"]
