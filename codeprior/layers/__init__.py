"""Small modules that several rooms share: residual and attention blocks, resampling, remembered arguments."""

from codeprior.layers.attention import AttentionBlock, SelfAttentionLayer, attentive_levels
from codeprior.layers.configured import build, configured
from codeprior.layers.norm import group_norm, normed_convolution
from codeprior.layers.resample import Downsample, Upsample
from codeprior.layers.residual import ResidualBlock

__all__ = [
    "AttentionBlock",
    "Downsample",
    "ResidualBlock",
    "SelfAttentionLayer",
    "Upsample",
    "attentive_levels",
    "build",
    "configured",
    "group_norm",
    "normed_convolution",
]
