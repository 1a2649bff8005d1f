"""Small modules that several rooms share: residual and attention blocks, resampling, remembered arguments."""

from codeprior.layers.attention import AttentionBlock
from codeprior.layers.configured import build, configured
from codeprior.layers.norm import group_norm
from codeprior.layers.resample import Downsample, Upsample
from codeprior.layers.residual import ResidualBlock

__all__ = ["AttentionBlock", "Downsample", "ResidualBlock", "Upsample", "build", "configured", "group_norm"]
