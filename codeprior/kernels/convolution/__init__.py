"""3×3 convolutions together with the steps around them: normalisation, activation, doubling, and a residual."""

from codeprior.kernels.convolution.api import Norm, convolution

__all__ = ["Norm", "convolution"]
