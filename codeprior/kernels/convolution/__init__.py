"""3×3 convolutions with what stands around them: normalisation and activation before, doubling, a residual after."""

from codeprior.kernels.convolution.api import Norm, convolution

__all__ = ["Norm", "convolution"]
