"""Small convolutions without padding, with the PReLU and the maximum that follow them: the layers of face detectors."""

from codeprior.kernels.prelu_convolution.api import prelu_convolution

__all__ = ["prelu_convolution"]
